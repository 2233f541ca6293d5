//! The way of a file, from the page into the store.

use serde_json::json;

use super::{Page, files_in, gated, open_gate, until_files};
use crate::serving::Served;
use crate::support::documents;

#[test]
fn a_file_is_dropped_onto_the_page_and_seen_in_each_place_until_it_is_ingested() {
    let served = Served::start(&json!({}), json!([gated("client1", "gate"), documents("client2")]));
    let page = Page::open(served, "#/?client=client1");
    let browser = &page.browser;
    let file = page.served.root.path().join("readings.csv");
    std::fs::write(&file, "a,b\n1,2\n3,4\n").expect("write a file");

    for place in ["drop", "live", "backfill", "retry", "ingesting", "ingested", "discarded", "held"] {
        page.until_place(place, "0");
    }
    browser.click("#drop-button");
    browser.until("the dialog is open", "$('#drop-dialog').open");
    browser.choose_files("#drop-files", &[&file]);
    browser.until_text("#drop-dialog button[type=submit]", "Drop 1 file, 12 B");
    browser.click("#drop-dialog button[type=submit]");
    browser.until("it is ingesting", "$('#drops .drop-row .badge').dataset.state === 'staged'");
    page.until_place("ingesting", "1");
    page.until_place("ingested", "0");

    // Another one is dropped with the mouse, for later.
    browser.value(
        "(() => {
            const files = new DataTransfer();
            files.items.add(new File(['a,b\\n5,6\\n'], 'history.csv'));
            const drop = (kind) => document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: files, bubbles: true, cancelable: true}));
            drop('dragover');
            const isOffered = !$('.drop-overlay').hidden;
            drop('drop');
            return isOffered && $('.drop-overlay').hidden;
        })() || (() => { throw new Error('the page does not take what is dragged'); })()",
    );
    browser.until("the dialog is open", "$('#drop-dialog').open");
    browser.choose("#drop-lane", "backfill");
    browser.click("#drop-dialog button[type=submit]");
    browser.until("both are on the way", "$$('#drops .drop-row').length === 2");
    until_files(&page.served, "staged", 2);
    browser.until(
        "it is staged too",
        "$$('#drops .drop-row .badge').every(({dataset}) => dataset.state === 'staged')",
    );
    page.go("#/files?client=client1");
    page.until_listed(&[("history.csv", "staged"), ("readings.csv", "staged")]);

    open_gate(&page.served, "gate");
    browser.until("all have ended", "$('#drops h2').textContent === '2 dropped files, all ended'");
    page.until_listed(&[("history.csv", "ingested"), ("readings.csv", "ingested")]);
    browser.until_text("#drops .drop-row", "2 of 2 records stored");
    page.go("#/?client=client1");
    page.until_place("ingested", "2");
    browser.until_text("[data-place=ingested] .place-note", "3 records");
    assert_eq!(files_in(&page.served, "ingested"), 2);
    browser
        .until("what has happened is said", "$('#announcer').textContent.includes('1 of 1 record stored')");
    browser.click("#drops button[aria-label^=Clear]");
    browser.until("the tray is empty", "$$('#drops .drop-row').length === 0");

    // A file that is dropped on the host is the same, and the other client has none of them.
    page.served.root.drop_file("client2", "elsewhere.csv", b"a,b\n1,2\n");
    until_files(&page.served, "ingested", 3);
    browser.choose("#client", "client2");
    page.until_place("ingested", "1");
    browser.choose("#client", "");
    page.until_place("ingested", "3");
    for (state, place) in
        [("waiting", "drop"), ("staged", "live"), ("discarded", "discarded"), ("held", "held")]
    {
        page.until_place(place, &files_in(&page.served, state).to_string());
    }
    page.finish();
}
