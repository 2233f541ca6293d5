//! A file that breaks a rule is discarded whole, with every reason, and affects nothing else.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use jiff::Timestamp;
use mysimbdp_testbed::{Root, until};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};

use crate::running::{DEADLINE, Running, config, dropped};

#[tokio::test(flavor = "multi_thread")]
async fn all_broken_rules_of_name_and_size_are_reported_and_the_bytes_are_kept() {
    let mut all = config(json!({"files": {
        "globs": ["weather*"], "pattern": "[a-z0-9.]+", "file_bytes_max": "10B", "file_name_bytes_max": 10,
    }}));
    all["rules"] = json!({"file_bytes_max": "20B", "file_name_bytes_max": 12});
    let running = Running::with(&all);
    let content = b"far more than twenty bytes";
    running.root.drop_file("client1", "Too_long_name.exe", content);
    let reasons = running.one_discarded("client1").await;
    assert_eq!(
        reasons[..6],
        [
            "has 26 bytes, the limit is 20",
            "name has 17 bytes, the limit is 12",
            "has 26 bytes, client1 allows 10",
            "name has 17 bytes, client1 allows 10",
            "name matches none of the globs of client1: weather*",
            reasons[5].as_str(),
        ]
    );
    assert!(reasons[5].starts_with("name does not match the pattern of client1"), "{reasons:?}");
    assert_eq!(reasons[6..], ["has extension exe, client1 allows csv, ndjson, json, txt"]);
    let directory = &running.root.list("discarded/client1")[0];
    let kept = running.root.path().join("discarded/client1").join(directory).join("Too_long_name.exe");
    assert_eq!(fs::read(kept).expect("the file itself"), content);
    let reason = &running.root.reasons("discarded", "client1")[0];
    assert_eq!(reason["dropped_at"], "client-input-directory/client1/Too_long_name.exe");
    assert_eq!((&reason["client"], &reason["bytes"]), (&json!("client1"), &json!(26)));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_but_a_regular_file_is_discarded_unread() {
    let running = Running::start();
    let directory = running.root.drop_file("client1", ".first.part", b"").with_file_name("");
    let secret = running.root.path().join("secret");
    fs::write(&secret, "root:x:0:0").expect("file");
    std::os::unix::fs::symlink(&secret, directory.join("link.csv")).expect("symlink");
    std::os::unix::fs::symlink(&directory, directory.join("circle")).expect("symlink");
    mknodat(CWD, directory.join("fifo.csv"), FileType::Fifo, Mode::from(0o600), 0).expect("FIFO");
    let listener = UnixListener::bind(directory.join("socket.csv")).expect("socket");
    // Only root may make a device: /dev/zero, which would never end.
    let device =
        mknodat(CWD, directory.join("zero.csv"), FileType::CharacterDevice, Mode::from(0o600), makedev(1, 5));
    let expected = if device.is_ok() { 5 } else { 4 };
    let reasons = running.until_discarded("client1", expected).await;
    assert_eq!(reasons.len(), expected);
    for reason in &reasons {
        let kind = match reason["file"].as_str().expect("a name") {
            "link.csv" | "circle" => "symlink",
            "fifo.csv" => "FIFO",
            "socket.csv" => "socket",
            _ => "device",
        };
        assert_eq!(reason["reasons"][0], format!("is a {kind}, only regular files are allowed"));
        let time = |key: &str| reason[key].as_str().expect("time").parse::<Timestamp>().expect("time");
        let took = time("decided_at").duration_since(time("received_at"));
        assert!(took.unsigned_abs() < Duration::from_secs(1), "{took:?} after settling");
    }
    let mut kinds = Vec::new();
    for name in running.root.list("discarded/client1") {
        let inside = running.root.path().join("discarded/client1").join(name);
        for entry in fs::read_dir(inside).expect("directory") {
            let entry = entry.expect("entry");
            let kind = entry.file_type().expect("type");
            kinds.push((
                entry.file_name(),
                kind.is_symlink() || kind.is_fifo() || kind.is_socket() || kind.is_char_device(),
            ));
        }
    }
    assert!(
        kinds.iter().all(|(name, special)| name == "reason.json" || *special),
        "moved as they are: {kinds:?}"
    );
    assert_eq!(fs::read_to_string(&secret).expect("the target"), "root:x:0:0");
    drop(listener);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_to_another_file_system_copies_the_file_and_removes_the_original() {
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("directory in memory");
    let root = Root::new(&config(json!({})));
    let device = |path| fs::metadata(path).expect("metadata").dev();
    assert_ne!(device(elsewhere.path()), device(root.path()), "the test needs two file systems");
    std::os::unix::fs::symlink(elsewhere.path(), root.path().join("discarded")).expect("symlink");
    root.drop_file("client1/sub", "wrong.exe", b"bytes");
    let running = Running::on(root);
    running.one_discarded("client1").await;
    let directory = &running.root.list("discarded/client1")[0];
    let kept = elsewhere.path().join("client1").join(directory).join("wrong.exe");
    assert_eq!(fs::read(kept).expect("the file itself"), b"bytes");
    until(DEADLINE, "the original is removed", || {
        dropped(&running.root).is_empty()
            && fs::read_dir(running.root.drop_directory(".mysimbdp")).expect("list").count() == 0
    });
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symlinked_folder_is_left_alone() {
    let root = Root::new(&config(json!({})));
    let elsewhere = root.path().join("elsewhere");
    fs::create_dir_all(&elsewhere).expect("directory");
    fs::write(elsewhere.join("a.csv"), b"a\n1\n").expect("file");
    fs::create_dir(root.drop_directory("")).expect("drop directory");
    std::os::unix::fs::symlink(&elsewhere, root.drop_directory("client1")).expect("symlink");
    root.drop_file("", "wrong.exe", b"bytes");
    let running = Running::on(root);
    // By then the symlink has been scanned at least twice.
    running.one_discarded("client1").await;
    assert!(running.root.drop_directory("client1").is_symlink());
    assert_eq!(fs::read(elsewhere.join("a.csv")).expect("the file"), b"a\n1\n");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_content_is_discarded_with_its_position_and_unusual_content_is_staged() {
    let cases: [(&str, &[u8], Result<u64, &str>); 14] = [
        ("nul.csv", b"a,b\n1,2\n3,\0\n", Err("line 3 has a NUL byte")),
        ("not-utf8.csv", b"a\nb\xff\n", Err("line 2 is not UTF-8")),
        ("utf16.csv", b"\xff\xfea\0\n\0", Err("is UTF-16, expected UTF-8")),
        ("empty.csv", b"", Err("is empty")),
        ("empty.txt", b"", Err("is empty")),
        ("quote.csv", b"a\n1\n\"2\n3\n", Err("the quoted field that begins at line 3 is never closed")),
        ("number.json", b"1", Err("is not a JSON array: it does not begin with [")),
        ("half.json", b"[1, 2", Err("is not a complete JSON array: it ends within element 1")),
        ("bom.csv", b"\xef\xbb\xbfa\n1\n2\n", Ok(2)),
        ("crlf.csv", b"a\r\n1\r\n\r\n2\r\n", Ok(2)),
        ("no-final-newline.csv", b"a\n1\n2\n3", Ok(3)),
        ("header-only.csv", b"a,b\n", Ok(0)),
        ("blank-lines.ndjson", b"\n{}\n  \n{}\n\n", Ok(2)),
        ("bytes.txt", b"\0\xff\xfe", Ok(1)),
    ];
    let running = Running::start();
    for (name, content, _) in cases {
        running.root.drop_file("client1", name, content);
    }
    let refused = cases.iter().filter(|(_, _, end)| end.is_err()).count();
    let reasons = running.until_discarded("client1", refused).await;
    let staged = running.until_staged(cases.len() - refused).await;
    for (name, content, end) in cases {
        match end {
            Err(expected) => {
                let reason = reasons.iter().find(|reason| reason["file"] == name).expect("discarded");
                assert_eq!(reason["reasons"], json!([expected]), "{name}");
            }
            Ok(records) => {
                let staged = staged.iter().find(|staged| staged.manifest.file == name).expect("staged");
                assert_eq!(
                    (staged.manifest.records, staged.content()),
                    (records, content.to_vec()),
                    "{name}"
                );
            }
        }
    }
    assert!(dropped(&running.root).is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_encoding_and_header_that_a_client_configures_are_enforced() {
    let files = json!({"encoding": "iso-8859-1", "header": ["größe", "b"]});
    let running = Running::with(&config(json!({"files": files})));
    running.root.drop_file("client1", "right.csv", b"gr\xf6\xdfe,b\n\xe4,2\n");
    running.root.drop_file("client1", "wrong.csv", b"b,gr\xf6\xdfe\n\xe4,2\n");
    assert_eq!(running.one_staged().await.manifest.file, "right.csv");
    assert_eq!(running.one_discarded("client1").await, ["header is \"b,größe\", expected \"größe,b\""]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_no_app_accepts_is_discarded_with_the_names_that_the_apps_accept() {
    let apps = json!([{"name": "documents", "command": ["document-app"], "files": ["*.csv"]}]);
    let running = Running::with(&config(json!({"apps": apps})));
    running.root.drop_file("client1", "notes.txt", b"x");
    assert_eq!(
        running.one_discarded("client1").await,
        ["no app of client1 accepts the name; expected *.csv for documents"]
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_above_the_size_limit_is_refused_without_being_read() {
    let running = Running::start();
    let path = running.root.drop_file("client1", ".large.part", b"");
    // Sparse: a terabyte that takes no space, and that nobody could read in time.
    let file = fs::OpenOptions::new().write(true).open(&path).expect("file");
    file.set_len(1 << 40).expect("sparse file");
    drop(file);
    fs::rename(&path, path.with_file_name("large.csv")).expect("rename");
    assert_eq!(running.one_discarded("client1").await, ["has 1099511627776 bytes, the limit is 100000000"]);
    let reason: &Value = &running.root.reasons("discarded", "client1")[0];
    assert_eq!(reason["ingestion"], Value::Null, "the file was not read");
    until(DEADLINE, "the file has left the drop directory", || dropped(&running.root).is_empty());
    running.stop().await;
}
