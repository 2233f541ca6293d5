//! What the page shows to whom.

use mysimbdp_testbed::{Browser, Root, until};
use serde_json::json;

use super::{Page, unrepaired};
use crate::serving::Served;
use crate::serving::access::{token, write_tokens};
use crate::support::{SOON, documents};

#[test]
fn a_token_shows_its_client_and_what_it_allows_and_nothing_else() {
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s"},
        "serving": {"listen": "127.0.0.1:0", "tokens_file": "tokens.json"},
        "clients": [unrepaired("client1", "not repaired"), documents("client2")],
    }));
    let tokens = json!([
        token("everything", None, &["read", "drop", "operate"]),
        token("reader", Some("client1"), &["read"]),
        token("sender", Some("client1"), &["drop"]),
    ]);
    write_tokens(root.path(), &tokens);
    let mut served = Served::on(root);
    served.http = served.http.with_token("everything");
    served.root.drop_file("client1", "own.csv", b"a,b\n1,2\n");
    served.root.drop_file("client2", "others.csv", b"a,secret\n1,2\n");
    served.until_file("held");
    served.until_file("ingested");

    let browser = Browser::start();
    browser.expect_errors("status of 401");
    browser.open(served.http.url());
    let page = Page { served, browser };
    let browser = &page.browser;
    browser.until("a token is needed", "$('#token-dialog').open && document.activeElement.id === 'token'");
    assert_eq!(browser.inaccessible(), [""; 0]);
    // There is nothing behind it.
    for _ in 0..3 {
        browser.press("Escape");
    }
    browser.type_into("#token", "wrong");
    browser.press("Enter");
    browser.until_text("#token-dialog .failure", "does not accept this token");
    browser.type_into("#token", "reader");
    browser.press("Enter");
    page.until_live();

    page.until_place("held", "1");
    page.until_place("ingested", "0");
    let clients = browser.texts("#client option");
    assert_eq!(clients, ["client1"]);
    browser.until(
        "it is read only",
        "!$('#drop-button') && $('#access-button').textContent.includes('read only')",
    );
    browser.click("#access-button");
    browser.until_text("#access", "Only 1 client: client1");
    assert_eq!(browser.inaccessible(), [""; 0]);
    browser.press("Escape");
    page.go("#/files");
    page.until_listed(&[("own.csv", "held")]);
    browser.click(".file-list .row-link");
    browser.until_text("#file-detail", "Read only: retry needs the right operate.");
    browser.until("nothing can be changed", "$$('#file-detail .drawer-body button.primary').length === 0");
    browser.press("Escape");
    // Another client's, by an address that somebody has sent.
    browser.expect_errors("status of 403");
    page.go("#/files?client=client2");
    browser.until("it is refused", "$('.failure[role=alert]:not([hidden])') !== null && $$('.file-list .vl-body [role=row]').length === 0");
    browser.until_text("#attention", "Not known, as not everything can be read");
    browser.until("nothing is claimed", "$('#attention').dataset.level === 'notice'");
    let shown = browser.value("document.documentElement.outerHTML");
    assert!(!shown.as_str().expect("HTML").contains("others.csv"), "{shown}");
    page.go("#/files?client=client1");
    page.until_listed(&[("own.csv", "held")]);

    // A token that may only drop shows why it sees nothing, and is changed.
    browser.click("#access-button");
    browser.click("#access button");
    browser.until("a token is needed", "$('#token-dialog').open");
    browser.type_into("#token", "sender");
    browser.press("Enter");
    browser.until_text("#view .failure", "");
    browser.click("#view button");
    browser.until("a token is needed", "$('#token-dialog').open");
    browser.type_into("#token", "everything");
    browser.press("Enter");
    page.until_live();
    page.go("#/files");
    page.until_listed(&[("others.csv", "ingested"), ("own.csv", "held")]);
    browser.until("it may drop", "$('#drop-button') !== null");

    // The token ends, and so does what is live; another one continues.
    write_tokens(page.served.root.path(), &json!([token("next", None, &["read"])]));
    until(SOON, "the token is refused", || page.served.http.get("/api/files").status == 401);
    browser.until("a token is needed", "$('#token-dialog').open");
    browser.type_into("#token", "next");
    browser.press("Enter");
    page.until_live();
    page.finish();
}

#[test]
fn payloads_are_hidden_wherever_they_would_be_shown() {
    let clients = json!([super::rejecting("client1"), super::streaming("client2")]);
    let page = Page::open(Served::start(&json!({}), clients), "");
    let (served, browser) = (&page.served, &page.browser);
    let rows = b"name,time\nsecret-1,never\n";
    served.root.drop_file("client1", "times.csv", rows);
    let id = served.until_file("ingested")["ingestion"].as_str().expect("an id").to_owned();
    super::publish(
        served,
        "client2",
        "{\"at\":\"2026-01-01T00:00:00Z\",\"station\":\"a\",\"note\":\"secret-2\",\"temp\":1.5}\n",
    );
    let is_shown = |view: &str, selector: &str| {
        page.go(view);
        browser.until(&format!("{view} is shown"), &format!("$$('{selector}').length > 0"));
        browser.value("document.documentElement.innerText.includes('secret-')") == json!(true)
    };
    let views = [
        (format!("#/files?file={id}"), ".rejected-content"),
        ("#/data/client2/live/latest".to_owned(), ".latest-list .record-value"),
        ("#/data/client2/live/records".to_owned(), ".record-list .record-value"),
    ];
    for (view, selector) in &views {
        assert!(is_shown(view, selector), "{view}");
        browser.value("$('dialog[open]')?.close()");
    }
    browser.click("#hide-payloads");
    browser.until("it is pressed", "$('#hide-payloads').getAttribute('aria-pressed') === 'true'");
    browser.until("they are masked", "$$('.record-value').every((one) => one.classList.contains('masked'))");
    // It lasts.
    browser.reload();
    page.until_live();
    for (view, selector) in &views {
        assert!(!is_shown(view, selector), "{view}");
        browser.value("$('dialog[open]')?.close()");
    }
    browser.click(".record-list .row-link");
    browser.until_text(".record-json", "••••••");
    browser.press("Escape");
    browser.click("#hide-payloads");
    browser.until_text(".record-list .record-value", "secret-2");
    page.finish();
}
