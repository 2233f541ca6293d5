//! Text from outside that would like to be more than text.

use serde_json::{Value, json};

use super::{Page, publish, rejecting, streaming, unrepaired, until_files};
use crate::serving::Served;

const IMAGE: &str = "<img src=x onerror=\"window.__pwned=1\">";
const SCRIPT: &str = "<script>alert(1)</script>";
/// Reorders what follows; ends the title of a window of a terminal; hides.
const REORDER: &str = "\u{202e}gnp.\u{2066}\u{200b}";

/// Elements that no file of the page makes, and characters that hide or reorder text: in what is shown, and in what is read aloud.
const INTRUDERS: &str = "(() => {
    const bad = /[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u200b-\\u200f\\u202a-\\u202e\\u2066-\\u2069\\ufeff]/;
    const found = $$('img, iframe, object, embed, form[action], base, style, b, marquee, script:not([src=\"/assets/main.js\"])').map((one) => one.outerHTML);
    const texts = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) if (bad.test(texts.currentNode.data.replace(/\\n/g, ''))) found.push(JSON.stringify(texts.currentNode.data));
    for (const element of $$('*')) {
        for (const {name, value} of element.attributes) {
            const isSeen = name === 'title' || name.startsWith('aria-') || name === 'alt' || name === 'placeholder';
            if (isSeen && bad.test(value)) found.push(`${name}=${JSON.stringify(value)}`);
            if (name.startsWith('on') || (name === 'href' && !/^(#|\\/assets\\/|blob:)/.test(value))) found.push(`${name}=${value}`);
        }
    }
    return [...found, ...('__pwned' in window ? ['a script ran'] : [])];
})()";

impl Page {
    /// Waits until a text is shown, and checks that it is nothing more.
    fn shows_only_text(&self, selector: &str, text: &str) {
        self.browser.until_text(selector, text);
        let intruders = self.browser.value(INTRUDERS);
        assert_eq!(intruders, json!([]), "{selector}");
    }
}

#[test]
fn hostile_text_is_text_everywhere() {
    let complaint = format!("{SCRIPT}{REORDER}");
    let mut stream = streaming("streams");
    stream["streams"][0]["message_schema"] = json!({"type": "object", "required": ["station"]});
    let files = json!({"globs": ["*"], "extensions": ["csv", "ndjson"], "file_name_bytes_max": 255});
    let mut clients = json!([unrepaired("held", &complaint), rejecting("rejecting"), stream]);
    clients[0]["files"] = files.clone();
    clients[1]["files"] = files;
    let served = Served::configured(json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s"},
        "rules": {"file_name_pattern": "(?s).*", "file_name_bytes_max": 255},
        "clients": clients,
    }));
    let page = Page::open(served, "#/events");
    let (served, browser) = (&page.served, &page.browser);

    let name = format!("{IMAGE}{REORDER}.csv");
    served.root.drop_file("held", &name, b"a,b\n1,2\n");
    let long = format!("{}.csv", "w".repeat(240));
    let rows = format!("<b>name,time\n{IMAGE},\"{SCRIPT}{REORDER}\"\n\u{1b}]0;owned\u{7},never\n");
    served.root.drop_file("rejecting", &long, rows.as_bytes());
    let unclosed = format!("{SCRIPT}\u{1b}[31m.csv").replace('/', "\u{2215}");
    served.root.drop_file("rejecting", &unclosed, format!("{IMAGE}\n\"1\n").as_bytes());
    until_files(served, "held", 1);
    until_files(served, "ingested", 1);
    until_files(served, "discarded", 1);

    page.shows_only_text(".event-list .vl-body", IMAGE);
    page.shows_only_text(".event-list .vl-body", SCRIPT);
    page.go("#/");
    page.shows_only_text(".attention-item", IMAGE);
    page.shows_only_text("#overview-events", "\\u{202e}gnp.\\u{2066}\\u{200b}.csv");
    page.go("#/files");
    page.shows_only_text(".file-list .row-link", IMAGE);
    page.shows_only_text(".file-list .file-note", SCRIPT);
    page.shows_only_text(".file-list .row-link", &long);
    let id = |state: &str, field: &str| served.until_file(state)[field].as_str().expect("a text").to_owned();
    page.go(&format!("#/files?file={}", id("held", "ingestion")));
    page.shows_only_text("#file-detail-title", IMAGE);
    page.shows_only_text(".reasons-held li", &format!("{SCRIPT}\\u{{202e}}"));
    browser.click("#file-detail .drawer-body button.primary");
    page.shows_only_text("dialog[open] form", IMAGE);
    browser.click("dialog button[value=no]");
    page.go(&format!("#/files?file={}", id("ingested", "ingestion")));
    page.shows_only_text("#file-detail-title", &long);
    page.shows_only_text(".rejected-content", IMAGE);
    page.shows_only_text(".rejected-content", "\\u{1b}]0;owned\\u{7},never");
    page.shows_only_text(".rejected-head", SCRIPT);
    assert_eq!(browser.too_wide(), [""; 0]);
    let discarded: String = id("discarded", "id").bytes().map(|byte| format!("%{byte:02x}")).collect();
    page.go(&format!("#/files?file={discarded}&at=discarded"));
    page.shows_only_text("#file-detail-title", "<script>alert(1)<");
    browser.press("Escape");

    // What the server says about a file that is dropped here is shown in the tray and as a toast.
    browser.value(&format!(
        "(() => {{
            const files = new DataTransfer();
            files.items.add(new File(['x\\n1\\n'], {}));
            document.body.dispatchEvent(new DragEvent('drop', {{dataTransfer: files, bubbles: true, cancelable: true}}));
        }})()",
        json!(name.replace("img", "im")),
    ));
    page.shows_only_text("#drop-dialog .drop-choices", "<im src=x");
    browser.choose("#drop-dialog .drop-choices select", "rejecting");
    browser.click("#drop-dialog button[type=submit]");
    browser.until("it has ended", "$('#drops h2').textContent.includes('all ended')");
    page.shows_only_text("#drops .drop-row", "<im src=x");
    browser.until("it is said", "$('#announcer').textContent.includes('<im src=x')");

    let message = |station: &str, more: Value| {
        let mut message = json!({"at": "2026-01-01T00:00:00Z", "station": station, "temp": 1.5});
        message["<b><img src=x onerror=alert(1)>"] = more;
        format!("{message}\n")
    };
    let lines =
        [message(IMAGE, json!(SCRIPT)), message(&format!("a{REORDER}{}", "z".repeat(600)), json!([REORDER]))];
    publish(served, "streams", &lines.concat());
    page.go("#/data/streams/live/latest");
    page.shows_only_text(".latest-list .row-link", IMAGE);
    page.shows_only_text(".latest-list .record-value", SCRIPT);
    page.shows_only_text(".latest-list .record-name", "<b><img");
    page.shows_only_text(".latest-list .row-link", "a\\u{202e}gnp.");
    page.go("#/data/streams/live/windows?size=1s&fields=temp");
    page.shows_only_text(".window-list .vl-body", IMAGE);
    page.shows_only_text(".legend-item", IMAGE);
    page.go("#/data/streams/live/records");
    page.shows_only_text(".record-list .vl-body", SCRIPT);
    browser.click(".record-list .row-link");
    page.shows_only_text(".record-json", "<b><img src=x onerror=alert(1)>");
    browser.press("Escape");
    // An address that somebody has sent, whose query the server refuses with its text.
    browser.expect_errors("status of 400");
    page.go("#/files?state=%3Cb%3E&name=%3Cimg%20src=x%20onerror=alert(1)%3E");
    page.shows_only_text("#view .failure", "invalid state \"<b>\"");
    page.finish();
}
