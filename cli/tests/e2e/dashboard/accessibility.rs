//! For people who cannot see, or not well, who use no mouse, or a phone.

use mysimbdp_testbed::{Browser, Screen};
use serde_json::{Value, json};

use super::{Page, publish, rejecting, streaming, unrepaired, until_files};
use crate::serving::Served;

/// A platform with something in each view; also the ids of a held file and of one with rejected records.
fn busy() -> (Served, String, String) {
    let mut files = rejecting("client2");
    files["apps"][0]["expect"] = json!([{"name": "times", "files": "times*.csv", "by": "06:00"}, {"name": "other", "files": "other*.csv", "by": "07:00"}]);
    files["views"] = json!({"times": {"batch": "times", "time": "time", "source": "name"}});
    files["micro_batching"] = json!({"block_size": "64kB"});
    let clients = json!([unrepaired("client1", "not repaired"), files, streaming("client3")]);
    let served = Served::start(&json!({}), clients);
    served.root.drop_file("client1", "held.csv", b"a,b\n1,2\n");
    let row = |n: u32| format!("station-{},2026-01-{:02}T00:00:00Z,{n}.5\n", n % 5, n % 28 + 1);
    let rows: String = (0..6000).map(row).collect();
    served.root.drop_file("client2", "times.csv", format!("name,time,temp\n{rows}x,never,1\n").as_bytes());
    served.root.drop_file("client2", "bad.csv", b"a,b\n\"1,2\n");
    served.root.drop_file("client2", "wrong.pdf", b"x");
    let line = |n: u32| {
        format!("{{\"at\":\"2026-01-01T00:00:{:02}Z\",\"station\":\"s{}\",\"temp\":{n}.5}}\n", n % 60, n % 3)
    };
    publish(&served, "client3", &(0..100).map(line).collect::<String>());
    until_files(&served, "discarded", 2);
    let id = |file: Value| file["ingestion"].as_str().expect("an id").to_owned();
    let (held, ingested) = (id(served.until_file("held")), id(served.until_file("ingested")));
    (served, held, ingested)
}

#[test]
fn every_view_and_dialog_is_accessible_in_both_themes_and_fits_a_phone() {
    let (served, held, ingested) = busy();
    let page = Page::open(served, "");
    let views = [
        ("#/".to_owned(), "$('.chart-canvas canvas') !== null && $$('.attention-item').length > 1"),
        ("#/files".to_owned(), "$$('.file-list .row-link').length > 3"),
        (
            format!("#/files?file={held}"),
            "$('.reasons-held') !== null && $$('.micro-batch-list .vl-body [role=row]').length > 0",
        ),
        (format!("#/files?file={ingested}"), "$$('.rejected li').length === 1"),
        ("#/streams".to_owned(), "$$('.stream tbody tr').length === 1 && $$('.decisions li').length > 0"),
        ("#/plots?range=15m".to_owned(), "$$('.chart-canvas canvas').length > 3"),
        ("#/data/client2/times/latest".to_owned(), "$$('.latest-list .row-link').length === 5"),
        ("#/data/client2/times/windows?size=1d&fields=temp".to_owned(), "$('.window-plot canvas') !== null"),
        ("#/data/client2/times/records".to_owned(), "$$('.record-list .record-value').length > 5"),
        ("#/arrivals".to_owned(), "$$('.contract').length === 2"),
        ("#/events".to_owned(), "true"),
        ("#/files?name=none".to_owned(), "$('.empty') !== null"),
    ];
    let screens = [Screen::DESK, Screen::DESK.dark(), Screen::PHONE, Screen::PHONE.dark()];
    let mut faults = Vec::new();
    for screen in screens {
        page.browser.look_with(screen);
        for (view, is_shown) in &views {
            page.go(view);
            page.browser.until(&format!("{view} is shown"), is_shown);
            faults.extend(faults_of(&page.browser, &format!("{screen:?} {view}")));
            page.browser.value("$('dialog[open]')?.close()");
        }
        for (opens, view, button, is_shown) in [
            ("dropping files", "#/", "#drop-button", "$('#drop-dialog').open"),
            (
                "a record",
                "#/data/client2/times/records",
                ".record-list .row-link",
                "$('.record-json') !== null",
            ),
            (
                "stopping an instance",
                "#/streams",
                ".stream tbody button",
                "$('dialog button[value=yes]') !== null",
            ),
        ] {
            page.go(view);
            page.browser.click(button);
            page.browser.until(&format!("{opens} is shown"), is_shown);
            faults.extend(faults_of(&page.browser, &format!("{screen:?} {opens}")));
            page.browser.press("Escape");
            page.browser.until("it is closed", "!$('dialog[open]')");
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    page.finish();
}

/// What axe finds, and what does not fit.
fn faults_of(browser: &Browser, place: &str) -> Vec<String> {
    let wide = browser.too_wide().into_iter().map(|what| format!("too wide: {what}"));
    browser.inaccessible().into_iter().chain(wide).map(|fault| format!("{place}: {fault}")).collect()
}

#[test]
fn everything_is_reached_and_used_with_the_keyboard_alone() {
    let (served, ..) = busy();
    let page = Page::open(served, "#/arrivals");
    let browser = &page.browser;
    let focused = |selector: &str| {
        browser.until(
            &format!("{selector} has the focus"),
            &format!("document.activeElement.matches({})", json!(selector)),
        );
    };
    browser.press("Tab");
    focused(".skip");
    browser.press("Enter");
    focused("#main");
    browser.tab_to(".strip-mark[href]", 10);
    page.go("#/");
    focused("#main");
    browser.until(
        "something needs a person",
        "$$('.attention-item').length === 2 && $('.attention details').open",
    );
    browser.tab_to(".attention-item", 10);
    browser.tab_to(".place-title", 10);
    browser.tab_to(".stream-name", 20);
    browser.until("what was measured is drawn", "$('.chart-canvas') !== null");
    browser.tab_to(".chart-canvas", 40);
    browser.press("ArrowLeft");
    browser.until(
        "the value is said",
        "document.activeElement.getAttribute('aria-description')?.includes(': ')",
    );

    // From the last element on it begins again.
    browser.tab_to(".skip", 60);
    browser.tab_to("#drop-button", 10);
    browser.press("Enter");
    browser.until("the dialog is open", "$('#drop-dialog').open");
    browser.tab_to("#drop-dialog select", 6);
    browser.press("Escape");
    browser.until("it is closed", "!$('#drop-dialog')");
    focused("#drop-button");
    browser.tab_to("#nav a[href='#/files']", 10);
    browser.press("Enter");
    browser.until("files are listed", "$$('.file-list .row-link').length > 3");
    browser.tab_to(".chip[data-state=held]", 20);
    browser.press("Space");
    page.until_listed(&[("held.csv", "held")]);
    browser.tab_to(".file-list .row-link", 12);
    std::fs::write(page.served.root.path().join("repaired"), "").expect("repair the app");
    browser.press("Enter");
    browser.until(
        "it is open",
        "$('#file-detail .reasons-held') !== null && $('#file-detail').contains(document.activeElement)",
    );
    browser.tab_to("#file-detail .drawer-body button.primary", 4);
    browser.press("Enter");
    browser.until("it asks", "$('dialog button[value=yes]') !== null");
    browser.tab_to("dialog button[value=yes]", 3);
    browser.press("Enter");
    browser.until("it is ingested", "$('#file-detail .badge').dataset.state === 'ingested'");
    browser.press("Escape");
    browser.until("it is closed", "!$('#file-detail')");

    page.go("#/files?state=discarded");
    browser.until("two are listed", "$$('.file-list .row-link').length === 2");
    browser.tab_to(".file-list .row-link", 30);
    browser.press("Enter");
    browser.until("it is open", "$('#file-detail .reasons-discarded') !== null");
    browser.press("Escape");
    browser.until("it is closed", "!$('#file-detail')");
    focused(".file-list .row-link");
    page.finish();
}
