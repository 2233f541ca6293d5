//! The dashboard: its files, and what its caller may do. How it looks and behaves is for a browser.

use std::collections::BTreeSet;

use mysimbdp_testbed::{Daemon, Http, Root};
use serde_json::json;

use super::access::{token, write_tokens};
use super::url;
use crate::support::{SOON, documents};

/// The paths in quotes that a file refers to: `"/assets/…"` of the page, `'./…'` of a module.
fn references<'t>(text: &'t str, begin: &str, quote: char) -> impl Iterator<Item = &'t str> {
    text.split(begin).skip(1).filter_map(move |rest| rest.split(quote).next())
}

#[test]
fn the_dashboard_is_served_without_a_token_and_with_all_files_that_it_refers_to() {
    let root = Root::new(&json!({
        "serving": {"listen": "127.0.0.1:0", "tokens_file": "tokens.json"},
        "clients": [documents("client1"), documents("client2")],
    }));
    write_tokens(
        root.path(),
        &json!([
            token("everything", None, &["read", "drop", "operate"]),
            token("own", Some("client1"), &["read"])
        ]),
    );
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let http = Http::new(&url(root.path()));

    let page = http.get("/");
    let text = String::from_utf8(page.body.clone()).expect("UTF-8");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    let mut paths: BTreeSet<String> = references(&text, "\"/assets/", '"').map(str::to_owned).collect();
    assert!(paths.contains("main.js"), "{paths:?}");
    let mut read = BTreeSet::new();
    while let Some(path) = paths.pop_first() {
        let file = http.get(&format!("/assets/{path}"));
        assert_eq!(file.status, 200, "{path}");
        assert_eq!(file.header("cache-control"), Some("no-cache"), "{path}");
        let tag = file.header("etag").expect("an ETag");
        let again = http.request("GET", &format!("/assets/{path}"), &[("if-none-match", tag)], &[]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        let text = String::from_utf8_lossy(&file.body).into_owned();
        if path.ends_with(".js") {
            let imported = references(&text, "'./", '\'').map(str::to_owned);
            paths.extend(imported.filter(|path| !read.contains(path)));
        }
        read.insert(path);
    }
    assert!(read.contains("vendor/uPlot.esm.js"), "{read:?}");
    assert_eq!(http.get("/assets/none.js").status, 404);

    assert_eq!(http.get("/api/access").status, 401);
    for (token, expected) in [
        ("everything", json!({"rights": ["read", "drop", "operate"], "clients": null, "name": "everything"})),
        ("own", json!({"rights": ["read"], "clients": ["client1"], "name": "own"})),
    ] {
        assert_eq!(http.with_token(token).get("/api/access").expect(200), expected);
    }
    assert!(up.interrupt().success(), "{}", up.output());
}
