//! Files that need a person: discarded, held, with rejected records.

use serde_json::json;

use super::{Page, rejecting, unrepaired};
use crate::serving::Served;
use crate::support::documents;

#[test]
fn a_discarded_file_tells_its_reasons_and_a_held_one_is_tried_again_from_the_page() {
    let clients = json!([
        unrepaired("client1", "the mapping is not there"),
        documents("client2"),
        rejecting("client3")
    ]);
    let page = Page::open(Served::start(&json!({}), clients), "");
    let (served, browser) = (&page.served, &page.browser);
    browser.until("nothing needs anybody", "$('#attention').dataset.level === 'calm'");

    served.root.drop_file("client2", "bad.csv", b"a,b\n\"1,2\n");
    page.until_place("discarded", "1");
    browser.until("it is to be known", "$('#attention').dataset.level === 'notice'");
    browser.until_text(".attention-item", "1 file of client2 was discarded within the hour: bad.csv: ");
    browser.click(".attention-item");
    page.until_listed(&[("bad.csv", "discarded")]);
    browser.until_text(".chip[data-state=discarded][aria-pressed=true]", "1");
    browser.click(".file-list .row-link");
    browser.until_text("#file-detail-title", "bad.csv");
    browser.until_text(".reasons-discarded li", "the quoted field that begins at line 2");
    browser.until_text(".reasons-discarded .code", "invalid_quotes");
    browser.press("Escape");
    browser.until("it is closed", "!$('#file-detail') && !location.hash.includes('file=')");

    served.root.drop_file("client1", "data.csv", b"a,b\n1,2\n3,4\n");
    browser.until(
        "a person is needed",
        "$('#attention').dataset.level === 'alert' && document.title.startsWith('(1) ')",
    );
    browser.until_text("#nav a .nav-count", "1");
    page.go("#/files?state=held");
    page.until_listed(&[("data.csv", "held")]);
    browser.click(".file-list .row-link");
    browser.until_text(".reasons-held li", "the mapping is not there");
    browser.until_text(".reasons-held .code", "data_refused");
    browser.until_text("#file-detail", "is held: what it has stored was not counted as a whole");
    std::fs::write(served.root.path().join("repaired"), "").expect("repair the app");
    browser.click("#file-detail .drawer-body button.primary");
    browser.until_text("dialog[open] h2", "Retry this file?");
    browser.click("dialog button[value=no]");
    browser.until(
        "nothing has happened",
        "$$('dialog[open]').length === 1 && $('#file-detail .badge').dataset.state === 'held'",
    );
    browser.click("#file-detail .drawer-body button.primary");
    // A question does not outlive its view.
    browser.value("history.back()");
    browser.until("nothing is open", "$('dialog[open]') === null");
    browser.value("history.forward()");
    browser.click("#file-detail .drawer-body button.primary");
    browser.click("dialog button[value=yes]");
    browser.until_text(".toast", "It is in the queue again");
    browser.until("it is ingested", "$('#file-detail .badge').dataset.state === 'ingested'");
    browser.until_text("#file-detail", "2 records received");
    browser.press("Escape");
    page.until_listed(&[]);
    browser.until("nobody is needed", "$('#attention').dataset.level === 'notice'");

    let rows = b"name,time\n1,2013-01-01T00:00:00Z\n2,\"not, yet\"\n3,never\n";
    served.root.drop_file("client3", "times.csv", rows);
    page.go("#/files?state=ingested&client=client3");
    page.until_listed(&[("times.csv", "ingested")]);
    browser.until_text(".file-records", "2 rejected");
    browser.click(".file-list .row-link");
    browser.until("both are listed", "$$('.rejected li').length === 2");
    assert_eq!(browser.texts(".rejected-content"), ["2,\"not, yet\"", "3,never"]);
    browser.until_text(".rejected-head", "is not an RFC 3339 time");
    browser.click("#file-detail .drawer-body .row button");
    let saved = browser.downloads().join("rejected-times.csv");
    mysimbdp_testbed::until(crate::support::SOON, "they are saved", || {
        std::fs::read(&saved).is_ok_and(|saved| saved == b"name,time\n2,\"not, yet\"\n3,never\n")
    });
    page.finish();
}
