//! Streams: seen, scaled, stopped and started from the page.

use serde_json::json;

use super::{Page, publish, streaming};
use crate::serving::Served;

#[test]
fn a_stream_tells_how_busy_it_is_and_why_and_is_scaled_from_the_page() {
    let served = Served::configured(json!({
        "stream_manager": {"report_every": "1s", "drain_quiet": "500ms"},
        "clients": [streaming("client1")],
    }));
    let lines: String = (0..200)
        .map(|number| {
            format!(
                "{{\"at\":\"2026-01-01T00:00:{:02}Z\",\"station\":\"s{}\",\"temp\":{number}.5}}\n",
                number % 60,
                number % 3
            )
        })
        .collect();
    publish(&served, "client1", &lines);
    let page = Page::open(served, "");
    let browser = &page.browser;
    let running = |number: u64| {
        browser.until(
            &format!("{number} instances run"),
            &format!("$$('.slot[data-state=running]').length === {number}"),
        );
    };
    running(1);
    browser.until_text(".stream-line", "client1/readings");
    browser.click(".stream-line a");
    browser.until_text(".stream h2", "client1/readings");
    running(1);
    browser.until("all that are allowed have a place", "$$('.slot').length === 3");
    browser.until_text(".stream .badge", "as desired");
    browser.until_text(".decisions li", "1 of 1 instance reported");

    browser.click(".stepper button:last-child");
    browser.until_text(".toast", "readings: 2 instances are to run");
    running(2);
    browser.until_text(".decisions li", "1 → 2");
    browser.until_text(".decision-reason", "set by hand");
    browser.until_text(".stream .figures", "a person");
    publish(&page.served, "client1", &lines);
    browser.until("messages are counted", "$$('.stream tbody tr').length === 2");

    browser.click(".stream tbody tr:last-child button");
    browser.until_text("dialog[open] h2", "Stop instance 1 of readings?");
    browser.click("dialog button[value=no]");
    browser
        .until("nothing has happened", "!$('dialog[open]') && $$('.slot[data-state=running]').length === 2");
    browser.click(".stream tbody tr:last-child button");
    browser.click("dialog button[value=yes]");
    running(1);
    browser.until_text(".stepper-number", "1");
    browser.click(".stream .panel-head .row > button:last-child");
    browser.until_text(".toast", "an instance was started in slot");
    running(2);
    browser.click(".stream .panel-head .row > button:nth-of-type(1)");
    browser.until_text(".toast", "the policy decides again");
    browser.until_text(".stream .figures", "the policy");
    page.go("#/events");
    browser.until_text(".event-list .vl-body", "client1/readings: 1 → 2 instances, by a person");
    page.finish();
}
