//! Who may ask for what.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mysimbdp_testbed::{Daemon, Http, Root, until};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Served, url};
use crate::support::{SOON, documents, run};

pub(crate) fn write_tokens(root: &Path, tokens: &Value) {
    let path = root.join("tokens.json");
    std::fs::write(&path, json!({"tokens": tokens}).to_string()).expect("write the tokens");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}

pub(crate) fn token(name: &str, client: Option<&str>, rights: &[&str]) -> Value {
    let mut token = json!({"name": name, "sha256": sha256(name), "rights": rights});
    if let Some(client) = client {
        token["client"] = json!(client);
    }
    token
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_token_allows_what_its_entry_says_and_nothing_else() {
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s"},
        "serving": {"listen": "127.0.0.1:0", "tokens_file": "tokens.json"},
        "clients": [documents("client1"), documents("client2")],
    }));
    let tokens = json!([
        token("everything", None, &["read", "drop", "operate"]),
        token("reader", None, &["read"]),
        token("sender", Some("client1"), &["drop"]),
        token("own", Some("client1"), &["read", "drop", "operate"]),
    ]);
    write_tokens(root.path(), &tokens);
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let http = Http::new(&url(root.path()));
    let with = |token: &str| http.with_token(token);
    root.drop_file("client2", "other.csv", b"a,b\n1,2\n");
    let ingested = || with("everything").get("/api/files?state=ingested").expect(200)["items"].clone();
    until(SOON, "it is ingested", || ingested()[0]["stored"] == 1);
    let other = ingested()[0]["ingestion"].as_str().expect("an id").to_owned();

    for (token, method, path, status) in [
        ("", "GET", "/livez", 200),
        ("", "GET", "/readyz", 200),
        ("", "GET", "/version", 200),
        ("", "GET", "/", 200),
        ("", "GET", "/api/access", 401),
        ("sender", "GET", "/api/access", 200),
        ("", "GET", "/readyz?verbose", 401),
        ("", "GET", "/api/files", 401),
        ("", "GET", "/api/nope", 401),
        ("Everything", "GET", "/api/files", 401),
        ("reader", "GET", "/api/files", 200),
        ("reader", "GET", "/readyz?verbose", 200),
        ("", "GET", "/metrics", 401),
        ("reader", "GET", "/metrics", 200),
        ("own", "GET", "/metrics", 403),
        ("reader", "PUT", "/api/clients/client1/files/a.csv", 403),
        ("reader", "POST", &format!("/api/ingestions/{other}/retry"), 403),
        ("reader", "POST", "/api/clients/client1/streams/x/start", 403),
        ("sender", "GET", "/api/files", 403),
        ("sender", "GET", "/api/arrivals", 403),
        ("own", "GET", "/api/arrivals", 200),
        ("own", "GET", "/api/arrivals?client=client2", 403),
        ("sender", "PUT", "/api/clients/client2/files/a.csv", 403),
        ("sender", "PUT", "/api/clients/client1/files/a.csv", 202),
        ("own", "GET", "/readyz?verbose", 403),
        ("own", "GET", "/api/files?client=client2", 403),
        ("own", "GET", "/api/files?client=nobody", 403),
        ("own", "GET", &format!("/api/ingestions/{other}"), 404),
        ("own", "GET", &format!("/api/ingestions/{other}/rejected"), 404),
        ("own", "GET", &format!("/api/ingestions/{other}/rejected/content"), 404),
        ("own", "POST", &format!("/api/ingestions/{other}/retry"), 404),
        ("own", "PUT", "/api/clients/client2/files/a.csv", 403),
        ("own", "GET", "/api/clients/client2/drops/x", 403),
        ("own", "POST", "/api/clients/client2/streams/x/start", 403),
    ] {
        let http = if token.is_empty() { http.clone() } else { with(token) };
        let answer = http.request(method, path, &[], b"a,b\n3,4\n");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{token} {method} {path}: {body}");
        // What belongs to another client is not distinguished from what does not exist.
        assert!(token != "own" || !body.contains("other.csv"), "{path}: {body}");
    }
    // The address of a drop that one token has made up from what it knows of another client's content.
    let sent = with("own").request("PUT", "/api/clients/client1/files/b.csv", &[], b"a,b\n5,6\n").expect(202);
    let status = sent["status"].as_str().expect("an address");
    let (path, drop) = status.rsplit_once('/').expect("an address");
    let mut drop: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(drop).expect("Base64")).expect("JSON");
    drop["ingestion"] = json!(other);
    let forged = with("own").get(&format!("{path}/{}", URL_SAFE_NO_PAD.encode(drop.to_string()))).expect(200);
    assert_eq!((&forged["has_ended"], forged.get("stored")), (&json!(false), None), "{forged}");

    let clients = with("own").get("/api/clients").expect(200)["items"].clone();
    assert_eq!((clients[0]["id"].as_str(), clients.as_array().map(Vec::len)), (Some("client1"), Some(1)));
    until(SOON, "its own file is ingested", || {
        let files = with("own").get("/api/files?state=ingested").expect(200)["items"].clone();
        files.as_array().is_some_and(|files| files.len() == 2 && files[0]["client"] == "client1")
    });

    // A token that is removed ends within a second or two; a file that is open to others changes nothing.
    write_tokens(root.path(), &json!([token("everything", None, &["read"])]));
    until(SOON, "the removed token is refused", || with("reader").get("/api/files").status == 401);
    assert_eq!(with("everything").get("/api/files").status, 200);
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(root.path().join("tokens.json"), mode).expect("a mode");
    until(SOON, "the server says so", || {
        assert_eq!(with("everything").get("/api/files").status, 200);
        root.log("serve.log").contains("can be accessed by others")
    });
    // Nobody waits for a writer.
    let path = root.path().join("tokens.json");
    for prepare in [
        "mkfifo -m 600 tokens.json",
        "ln -s /dev/zero tokens.json",
        "echo '{}' > tokens.json; chmod 600 tokens.json; chown 65534 tokens.json",
    ] {
        std::fs::remove_file(&path).expect("remove");
        let status =
            Command::new("sh").args(["-c", prepare]).current_dir(root.path()).status().expect("sh runs");
        assert!(status.success(), "{prepare}");
        let logged = root.log("serve.log").matches("cannot read the tokens").count();
        until(SOON, "the server says what is wrong", || {
            assert_eq!(with("everything").get("/api/files").status, 200, "{prepare}");
            root.log("serve.log").matches("cannot read the tokens").count() > logged
        });
        let status = Daemon::run(&root, &["status"], &[]).stdout;
        assert!(String::from_utf8_lossy(&status).contains("an edit of the tokens is refused"), "{prepare}");
    }
    let repeated = [token("a", None, &["read"]), token("a", Some("client1"), &["read"])];
    std::fs::remove_file(&path).expect("remove");
    write_tokens(root.path(), &json!(repeated));
    until(SOON, "the server says so", || {
        assert_eq!(with("everything").get("/api/files").status, 200);
        root.log("serve.log").contains("has the same sha256 as an earlier one")
    });
    assert!(up.interrupt().success(), "{}", up.output());
}

#[test]
fn without_tokens_only_requests_for_this_host_and_from_its_own_pages_are_answered() {
    let served = Served::start(&json!({}), json!([documents("client2")]));
    let host = served.http.url().strip_prefix("http://").expect("an address").to_owned();
    let (own, other) = (format!("http://{host}"), "https://example.org");
    let retry = format!("/api/ingestions/{}/retry", "0".repeat(32));
    for (method, path, headers, status) in [
        ("GET", "/api/files", vec![("host", "example.org")], 403),
        ("GET", "/readyz?verbose", vec![("host", "example.org")], 403),
        ("GET", "/api/files", vec![("host", "localhost:1")], 200),
        ("POST", retry.as_str(), vec![("origin", other)], 403),
        ("POST", retry.as_str(), vec![("origin", "null")], 403),
        ("POST", retry.as_str(), vec![("origin", own.as_str())], 404),
        ("PUT", "/api/clients/client2/files/a.csv", vec![("origin", other)], 403),
        ("GET", "/api/files", vec![("origin", other)], 403),
    ] {
        let answer = served.http.request(method, path, &headers, &[]);
        assert_eq!(answer.status, status, "{path} {headers:?}: {}", String::from_utf8_lossy(&answer.body));
    }
    // No library sends this.
    let mut connection = TcpStream::connect(&host).expect("a connection");
    write!(
        connection,
        "GET /api/files HTTP/1.1\r\nHost: {host}\r\nHost: example.org\r\nConnection: close\r\n\r\n"
    )
    .expect("send");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = served.http.get("/api/clients");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    served.stop();
}

#[test]
fn an_address_that_others_can_reach_needs_tokens_and_tls() {
    let root = Root::new(&json!({"serving": {"listen": "0.0.0.0:0"}, "clients": [documents("client2")]}));
    let printed = run(&root, 78, &["check"]);
    assert!(
        printed.contains("serving.tokens_file") && printed.contains("serving.allow_plaintext"),
        "{printed}"
    );
    root.configure(&json!({
        "serving": {"listen": "0.0.0.0:0", "allow_plaintext": true, "tokens_file": "tokens.json"},
        "clients": [documents("client2")],
    }));
    run(&root, 0, &["check"]);
    let printed = run(&root, 78, &["serve"]);
    assert!(printed.contains("tokens.json"), "{printed}");
    root.configure(&json!({"serving": {"listen": "localhost:1"}, "clients": [documents("client2")]}));
    let printed = run(&root, 78, &["check"]);
    assert!(printed.contains("expected an IP address and a port"), "{printed}");
}

#[test]
fn an_event_stream_ends_when_its_token_no_longer_allows_it() {
    let root = Root::new(&json!({
        "serving": {"listen": "127.0.0.1:0", "tokens_file": "tokens.json"},
        "clients": [documents("client1")],
    }));
    let (kept, revoked) = (token("kept", None, &["read"]), token("revoked", Some("client1"), &["read"]));
    write_tokens(root.path(), &json!([kept, revoked]));
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let url = url(root.path());
    let host = url.strip_prefix("http://").expect("an address");
    let listen = |token: &str| {
        let mut connection = TcpStream::connect(host).expect("a connection");
        let authorization = format!("Authorization: Bearer {token}");
        write!(connection, "GET /events HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n\r\n").expect("send");
        let mut status = [0; 15];
        connection.read_exact(&mut status).expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 200 OK");
        connection
    };
    let (mut stays, mut ends) = (listen("kept"), listen("revoked"));
    write_tokens(root.path(), &json!([token("kept", None, &["read"])]));
    ends.set_read_timeout(Some(SOON)).expect("a timeout");
    ends.read_to_end(&mut Vec::new()).expect("it ends");
    stays.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let mut text = Vec::new();
    let open = stays.read_to_end(&mut text).expect_err("the other one stays open");
    assert_eq!(open.kind(), ErrorKind::WouldBlock);
    assert!(up.interrupt().success(), "{}", up.output());
}
