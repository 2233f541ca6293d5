//! What the page shows while the server is away, and after that.

use mysimbdp_testbed::{Http, Signal, free_port, signal, until};
use serde_json::json;

use super::{Page, files_in};
use crate::serving::Served;
use crate::support::{SOON, documents};

#[test]
fn a_page_survives_a_restart_of_the_server_and_catches_up_by_itself() {
    let served = Served::configured(json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s"},
        "serving": {"listen": format!("127.0.0.1:{}", free_port())},
        "clients": [documents("client2")],
    }));
    served.root.drop_file("client2", "before.csv", b"a,b\n1,2\n");
    served.until_file("ingested");
    let mut page = Page::open(served, "#/");
    page.browser.expect_errors("net::ERR_");
    page.until_place("ingested", "1");
    page.go("#/files");
    page.until_listed(&[("before.csv", "ingested")]);

    // Its supervisor does not start another one yet.
    let server = page.served.server().expect("it runs");
    page.served.up.pause();
    signal(server, Signal::KILL);
    let browser = &page.browser;
    browser.until("the page says so", "$('#connection').dataset.state === 'reconnecting'");
    browser
        .until("and how old the data is", "/the data is \\d+ s old/.test($('.connection-text').textContent)");
    page.until_listed(&[("before.csv", "ingested")]);
    page.go("#/");
    page.until_place("ingested", "1");
    // The other processes go on.
    page.served.root.drop_file("client2", "meanwhile.csv", b"a,b\n3,4\n5,6\n");
    page.served.root.drop_file("client2", "bad.csv", b"a,b\n\"1,2\n");
    until(SOON, "one is discarded", || page.served.root.list("discarded/client2").len() == 1);

    page.served.up.resume();
    let http = Http::new(page.served.http.url());
    until(SOON, "the server answers", || http.try_request("GET", "/livez", &[], &[]).is_ok());
    page.until_live();
    page.until_place("ingested", "2");
    page.until_place("discarded", "1");
    page.go("#/files");
    page.until_listed(&[("bad.csv", "discarded"), ("before.csv", "ingested"), ("meanwhile.csv", "ingested")]);
    page.served.root.drop_file("client2", "after.csv", b"a,b\n7,8\n");
    page.until_listed(&[
        ("after.csv", "ingested"),
        ("bad.csv", "discarded"),
        ("before.csv", "ingested"),
        ("meanwhile.csv", "ingested"),
    ]);
    page.go("#/");
    page.until_place("ingested", &files_in(&page.served, "ingested").to_string());
    page.until_place("ingested", "3");
    page.finish();
}
