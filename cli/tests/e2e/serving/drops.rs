//! The remote drop.

use std::io::Write;
use std::net::TcpStream;

use mysimbdp_testbed::{Daemon, Root, Signal, descendants, signal, until};
use serde_json::{Value, json};

use super::access::{token, write_tokens};
use super::{Served, on_both, url};
use crate::support::{SOON, documents, readings};
use crate::tls::certificates;

on_both! {
    a_file_that_is_sent_is_ingested_like_one_that_is_dropped,
}

/// `sha-256` of `a,b\n1,2\n`.
const DIGEST: &str = "sha-256=:SS1epJYFbxpqZZIkEDL6t2TDIVljF5MLT6Dh6Lw7dHA=:";

fn a_file_that_is_sent_is_ingested_like_one_that_is_dropped(coredms: &Value) {
    let served = Served::start(coredms, json!([documents("client2")]));
    let sent = served.http.request("PUT", "/api/clients/client2/files/a%20b.csv", &[], b"a,b\n1,2\n");
    let status = sent.header("location").expect("an address").to_owned();
    let dropped = sent.expect(202);
    assert_eq!((&dropped["bytes"], &dropped["status"]), (&json!(8), &json!(status)));
    assert_eq!(dropped["path"], "client-input-directory/client2/a b.csv");
    let state = || served.http.get(&status).expect(200);
    until(SOON, "it has ended", || state()["has_ended"] == true);
    let ended = state();
    assert_eq!(
        (&ended["state"], &ended["stored"], &ended["rejected"]),
        (&json!("ingested"), &json!(1), &json!(0))
    );
    assert_eq!(ended["ingestion"], served.until_file("ingested")["ingestion"]);

    // The same content again, as after a lost answer. The first drop stays what it was.
    let first = status.clone();
    let again =
        served.http.request("PUT", "/api/clients/client2/files/a%20b.csv", &[], b"a,b\n1,2\n").expect(202);
    let status = again["status"].as_str().expect("an address").to_owned();
    until(SOON, "it has ended", || served.http.get(&status).expect(200)["has_ended"] == true);
    let ended = served.http.get(&status).expect(200);
    assert_eq!(ended["state"], "discarded");
    assert!(ended["reasons"][0].as_str().is_some_and(|reason| reason.contains("ingested")), "{ended}");
    assert_eq!(served.http.get(&first).expect(200)["state"], "ingested");
    served.stop();
}

#[test]
fn what_cannot_be_taken_is_refused_with_the_reason_and_leaves_nothing() {
    let mut client = documents("client2");
    client["files"]["file_bytes_max"] = json!("100B");
    let stream = json!({"id": "client3", "streams": [{"command": ["stream-app"]}]});
    let served = Served::start(&json!({}), json!([client, stream]));
    let put = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        served.http.request("PUT", &format!("/api/clients/{path}"), headers, body)
    };
    let long = vec![b'x'; 101];
    let wrong = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    for (path, headers, body, status, code) in [
        ("client2/files/a.csv", vec![], long.as_slice(), 413, "too_large"),
        (
            "client2/files/a.csv",
            vec![("content-digest", wrong)],
            b"a\n1\n".as_slice(),
            400,
            "digest_mismatch",
        ),
        ("client2/files/a.csv", vec![("content-digest", "sha-256=x")], b"a\n1\n", 400, "invalid_request"),
        ("client2/files/a.csv", vec![("content-encoding", "gzip")], b"a\n1\n", 415, "unsupported_media_type"),
        (
            "client2/files/a.csv",
            vec![("content-digest", "SHA-256=:AAAA:")],
            b"a\n1\n",
            400,
            "invalid_request",
        ),
        ("client2/files/a.csv", vec![("content-range", "bytes 0-3/8")], b"a\n1\n", 400, "invalid_request"),
        ("client2/files/a.csv?lane=fast", vec![], b"a\n1\n", 400, "invalid_request"),
        ("client2/files/.hidden.csv", vec![], b"a\n1\n", 422, "invalid_data"),
        ("client2/files/..%2Fa.csv", vec![], b"a\n1\n", 422, "invalid_data"),
        ("client2/files/%FF.csv", vec![], b"a\n1\n", 400, "invalid_request"),
        ("nobody/files/a.csv", vec![], b"a\n1\n", 404, "not_found"),
        ("client3/files/a.csv", vec![], b"a\n1\n", 404, "not_found"),
    ] {
        let problem = put(path, &headers, body).expect(status);
        assert_eq!(problem["code"], code, "{path} {headers:?}: {problem}");
    }
    assert_eq!(put("client2/files/good.csv", &[("content-digest", DIGEST)], b"a,b\n1,2\n").status, 202);
    assert_eq!(served.until_file("ingested")["name"], "good.csv");
    let backfilled = put("client2/files/old.csv?lane=backfill", &[], b"a,b\n3,4\n").expect(202);
    assert_eq!(backfilled["path"], "client-input-directory/client2/backfill/old.csv");
    until(SOON, "both are ingested", || {
        served.http.get("/api/files?state=ingested").expect(200)["items"].as_array().map(Vec::len) == Some(2)
    });

    // A sender that goes away in the middle.
    let address = served.http.url().strip_prefix("http://").expect("an address");
    let mut sender = TcpStream::connect(address).expect("a connection");
    let head = format!(
        "PUT /api/clients/client2/files/part.csv HTTP/1.1\r\nHost: {address}\r\nContent-Length: 50\r\n\r\na,b\n"
    );
    sender.write_all(head.as_bytes()).expect("send");
    let folder = served.root.drop_directory("client2");
    let entries = || {
        let names = std::fs::read_dir(&folder).expect("a folder");
        names
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect::<Vec<_>>()
    };
    until(SOON, "it has begun", || entries().iter().any(|name| name.ends_with(".part")));
    drop(sender);
    until(SOON, "nothing of it is left", || !entries().iter().any(|name| name.ends_with(".part")));
    assert!(!entries().iter().any(|name| name.contains("part.csv")), "{:?}", entries());
    served.stop();
}

#[test]
fn what_a_killed_server_was_receiving_is_removed_at_its_next_start() {
    let served = Served::start(&json!({}), json!([documents("client2")]));
    let address = served.http.url().strip_prefix("http://").expect("an address").to_owned();
    let mut sender = TcpStream::connect(&address).expect("a connection");
    write!(
        sender,
        "PUT /api/clients/client2/files/a.csv HTTP/1.1\r\nHost: {address}\r\nContent-Length: 50\r\n\r\na,b\n"
    )
    .expect("send");
    let folder = served.root.drop_directory("client2");
    let unfinished = || {
        let names = std::fs::read_dir(&folder).expect("a folder");
        names
            .filter(|entry| {
                entry.as_ref().expect("an entry").file_name().as_encoded_bytes().ends_with(b".part")
            })
            .count()
    };
    until(SOON, "it has begun", || unfinished() == 1);
    let words = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let server = descendants(served.up.pid())
        .into_iter()
        .find(|pid| words(pid).split('\0').any(|word| word == "serve"));
    signal(server.expect("it runs"), Signal::KILL);
    until(SOON, "nothing of it is left", || unfinished() == 0);
    served.stop();
}

/// From a host without a config, over TLS with a certificate of a private authority.
#[test]
fn drop_sends_files_to_another_host_and_waits_for_them() {
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s"},
        "serving": {
            "listen": "127.0.0.1:0", "tokens_file": "tokens.json", "tls": {"certificate": "server.pem", "key": "server.key"},
        },
        "clients": [documents("client2")],
    }));
    certificates(root.path());
    let own = Some("client2");
    write_tokens(
        root.path(),
        &json!([token("sender", own, &["read", "drop"]), token("reader", own, &["read"])]),
    );
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let address = url(root.path());
    assert!(address.starts_with("https://127.0.0.1:"), "{address}");

    let elsewhere = Root::new(&json!({}));
    std::fs::remove_file(elsewhere.config()).expect("no config there");
    let (content, records) = readings(3_000_000);
    let file = |name: &str, content: &[u8]| {
        let path = elsewhere.path().join(name);
        std::fs::write(&path, content).expect("write a file");
        path.display().to_string()
    };
    let (weather, bad) = (file("we ather.csv", &content), file("bad.csv", b"a,b\n\"1,2\n"));
    let authority = root.path().join("authority.pem").display().to_string();
    let drop = |token: &str, files: &[&str], address: &str| {
        let words = [&["drop", "client2", "--wait", "--to", address], files].concat();
        let output =
            Daemon::run(&elsewhere, &words, &[("MYSIMBDP_TOKEN", token), ("SSL_CERT_FILE", &authority)]);
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
    };
    let (code, printed) = drop("sender", &[&weather], &address);
    let expected = format!(
        "client-input-directory/client2/we ather.csv: ingested: received {records}, stored {records},"
    );
    assert!(code == Some(0) && printed.contains(&expected), "{code:?} {printed}");
    let (code, printed) = drop("sender", &[&weather, &bad], &address);
    assert!(code == Some(65) && printed.contains("2 of 2 files were not ingested"), "{code:?} {printed}");
    assert!(printed.contains("bad.csv: discarded: the quoted field that begins at line 2"), "{printed}");

    let plain = address.replace("https://", "http://");
    for (token, files, address, code, expected) in [
        ("reader", &weather, address.as_str(), 77, "refuses (forbidden)"),
        ("nobody", &weather, address.as_str(), 77, "refuses (unauthorized)"),
        ("sender", &weather, plain.as_str(), 69, "does not answer"),
        ("sender", &weather, "https://127.0.0.1:1", 69, "does not answer"),
        ("sender", &weather, "ftp://127.0.0.1", 64, "expected https://"),
        ("sender", &format!("{weather}.missing"), address.as_str(), 66, "missing"),
    ] {
        let (found, printed) = drop(token, &[files], address);
        assert!(found == Some(code) && printed.contains(expected), "{address}: {found:?} {printed}");
    }
    let distrustful = Daemon::run(
        &elsewhere,
        &["drop", "client2", &bad, "--to", &address],
        &[("MYSIMBDP_TOKEN", "sender")],
    );
    let printed = String::from_utf8_lossy(&distrustful.stderr).into_owned();
    assert!(distrustful.status.code() == Some(69) && printed.contains("ertificate"), "{printed}");
    assert!(up.interrupt().success(), "{}", up.output());
}
