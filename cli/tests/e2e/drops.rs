//! `mysimbdp drop`: names that are in use or passed over, what it reports while it waits, and how a sender that is
//! another user learns the outcome.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use mysimbdp_testbed::{Daemon, Root, binary, unique, until};
use serde_json::{Value, json};

use crate::privacy::Unprivileged;
use crate::support::SOON;

/// A data root on the embedded store, with a client whose app is this script.
fn root(script: &str, changes: Value) -> Root {
    let mut client = json!({
        "id": "alpha",
        "receipt": true,
        "files": {"extensions": ["csv"]},
        "apps": [{"name": "app", "command": ["sh", "-c", script], "collection": "records"}],
    });
    for (name, value) in changes.as_object().expect("an object") {
        client[name] = value.clone();
    }
    Root::new(&json!({
        "coredms": {"database": unique("drops")},
        "fetchdata": {"settle": "100ms", "scan_every": "1s", "free_space_min": "0B"},
        "batch_manager": {"scan_every": "200ms", "backoff_first": "100ms", "backoff_max": "1s"},
        "clients": [client],
    }))
}

fn stores() -> String {
    format!("exec {}", binary("document-app").display())
}

fn printed(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn run(root: &Root, code: i32, words: &[&str]) -> String {
    let output = Daemon::run(root, words, &[]);
    let printed = printed(&output);
    assert_eq!(output.status.code(), Some(code), "{words:?} printed\n{printed}");
    printed
}

/// `drop` used to wait for its timeout: only ingested files had a receipt.
#[test]
fn a_sender_that_is_another_user_learns_from_the_receipt_that_its_file_is_discarded_or_held() {
    let root = root("cat > /dev/null; echo broken >&2; exit 65", json!({}));
    let mut daemons = ["fetchdata", "batch-manager"].map(|kind| Daemon::start(&root, &[kind], &[]));
    until(SOON, "the folder is there", || root.drop_directory("alpha").join("backfill").exists());
    let user = Unprivileged::new(&root.path().join("nothing-of-the-platform"));
    if !user.is_another() {
        println!("SKIPPED: only root can become another user");
        return;
    }
    for (path, mode) in [(root.path().to_owned(), 0o755), (root.config(), 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
    }
    user.own(&root.drop_directory("alpha"));
    let folder = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    for (name, content, end) in [
        ("wrong.exe", "x", "discarded: has extension exe"),
        // The receipt of the first file, which has the same size, is not about this one.
        ("wrong.exe", "y", "discarded: has extension exe"),
        ("data.csv", "a,b\n1,2\n", "held: "),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, content).expect("write");
        let words = ["drop", "alpha", file.to_str().expect("text"), "--wait", "--timeout", "120s"];
        let output = user.run(&root, &words);
        assert_eq!(output.status.code(), Some(65), "{}", printed(&output));
        assert!(printed(&output).contains(end), "{}", printed(&output));
    }
    let receipt = fs::read(root.drop_directory("alpha").join("wrong.exe.receipt.json")).expect("a receipt");
    let receipt: Value = serde_json::from_slice(&receipt).expect("JSON");
    assert_eq!((&receipt["state"], &receipt["stored"]), (&json!("discarded"), &json!(0)));
    assert_eq!(receipt.get("ingestion"), None, "it was not read");
    let status: Value = serde_json::from_slice(&Daemon::run(&root, &["status", "--json"], &[]).stdout)
        .expect("the status is JSON");
    assert_eq!(status["clients"]["alpha"]["dropped"], 0, "receipts do not wait: {status:#}");
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
}

#[test]
fn a_second_file_with_the_name_of_a_waiting_file_gets_another_name() {
    let root = root(&stores(), json!({}));
    let folder = root.drop_directory("alpha");
    for (directory, content) in [("one", "a\n1\n"), ("two", "a\n2\n"), ("three", "a\n3\n")] {
        fs::create_dir_all(root.path().join(directory)).expect("directory");
        fs::write(root.path().join(directory).join("data.csv"), content).expect("write");
    }
    run(&root, 0, &["drop", "alpha", "one/data.csv"]);
    let second = run(&root, 0, &["drop", "alpha", "two/data.csv"]);
    let expected =
        "data.csv already exists and is not taken yet: dropped as client-input-directory/alpha/data-2.csv";
    assert!(second.contains(expected), "{second}");
    assert_eq!(fs::read(folder.join("data.csv")).expect("the first"), b"a\n1\n");
    assert_eq!(fs::read(folder.join("data-2.csv")).expect("the second"), b"a\n2\n");

    // The third waits for its own outcome, under its own name.
    let waiting = Daemon::start(&root, &["drop", "alpha", "three/data.csv", "--wait"], &[]);
    until(SOON, "the third is dropped", || folder.join("data-3.csv").exists());
    let mut daemons = ["fetchdata", "batch-manager"].map(|kind| Daemon::start(&root, &[kind], &[]));
    let mut waiting = waiting;
    let status = waiting.wait();
    assert!(status.success(), "{}", waiting.output());
    let ended = "client-input-directory/alpha/data-3.csv: ingested: received 1, stored 1";
    assert!(waiting.output().contains(ended), "{}", waiting.output());
    until(SOON, "all have a receipt", || {
        ["data.csv", "data-2.csv"].iter().all(|name| folder.join(format!("{name}.receipt.json")).exists())
    });
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
}

#[test]
fn a_name_that_fetchdata_would_ignore_is_refused_at_once() {
    let root = root(&stores(), json!({"files": {"extensions": ["csv"], "sentinel": ".done"}}));
    let refused = ["data.csv.part", ".data.csv", "data.csv~", "data.csv.receipt.json", "data.csv.done"];
    for name in refused {
        fs::write(root.path().join(name), "a\n1\n").expect("write");
        let refused = run(&root, 65, &["drop", "alpha", name, "--wait"]);
        assert!(refused.contains(&format!("{name} would wait forever: ")), "{refused}");
    }
}

/// The dropped file used to wait for a sentinel that never came.
#[test]
fn drop_and_retry_write_the_sentinel_that_the_client_demands() {
    let root = root(&stores(), json!({"files": {"extensions": ["csv"], "sentinel": ".done"}}));
    for (name, content) in [("data.csv", "a\n1\n"), ("wrong.exe", "x")] {
        fs::write(root.path().join(name), content).expect("write");
    }
    let folder = root.drop_directory("alpha");
    fs::create_dir_all(&folder).expect("directory");
    // The file of this sentinel has been taken: a new file of that name would lose it again.
    fs::write(folder.join("data.csv.done"), "").expect("a sentinel that is left");
    run(&root, 0, &["drop", "alpha", "data.csv"]);
    assert!(folder.join("data-2.csv").exists() && folder.join("data-2.csv.done").exists());

    let mut daemons = ["fetchdata", "batch-manager"].map(|kind| Daemon::start(&root, &[kind], &[]));
    let printed = run(&root, 65, &["drop", "alpha", "wrong.exe", "--wait"]);
    assert!(printed.contains("discarded: has extension exe"), "{printed}");
    let id = root.list("discarded/alpha").remove(0);
    run(&root, 0, &["retry", &id]);
    until(SOON, "it is discarded again", || {
        root.list("discarded/alpha").first().is_some_and(|other| *other != id)
    });
    until(SOON, "the sentinels are removed with their files", || {
        !folder.join("data-2.csv.done").exists() && !folder.join("wrong.exe.done").exists()
    });
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
}

/// `drop` used to drop the files before the faulty one, without reporting them or waiting for them.
#[test]
fn no_file_is_dropped_if_one_of_several_cannot_be() {
    let root = root(&stores(), json!({}));
    fs::write(root.path().join("data.csv"), "a\n1\n").expect("write");
    fs::create_dir(root.path().join("directory")).expect("directory");
    for other in ["missing.csv", "directory", "data.csv.part"] {
        let output = Daemon::run(&root, &["drop", "alpha", "data.csv", other, "--wait"], &[]);
        assert!(matches!(output.status.code(), Some(65 | 66)), "{}", printed(&output));
        assert!(printed(&output).contains(other), "{}", printed(&output));
        assert_eq!(root.list("client-input-directory/alpha"), [""; 0], "{other}");
    }
}

#[test]
fn drop_reports_progress_while_it_waits() {
    // All micro-batches except the first wait until they may continue.
    let script = format!(
        "until test $MYSIMBDP_BATCH_INDEX = 0 || test -e go; do sleep 0.1; done; {stores}",
        stores = stores()
    );
    let root = root(&script, json!({"micro_batching": {"block_size": "4KiB"}}));
    let rows: String = (0..1000).map(|row| format!("{row},text\n")).collect();
    fs::write(root.path().join("data.csv"), format!("a,b\n{rows}")).expect("write");
    let mut daemons = ["fetchdata", "batch-manager"].map(|kind| Daemon::start(&root, &[kind], &[]));
    let mut waiting = Daemon::start(&root, &["drop", "alpha", "data.csv", "--wait"], &[]);
    waiting.until_output(SOON, "data.csv: 1 of ");
    let progress = waiting.output();
    assert!(
        progress.contains(" micro-batches done, ") && progress.contains(" of 1000 records, "),
        "{progress}"
    );
    fs::write(root.path().join("go"), "").expect("write");
    assert!(waiting.wait().success(), "{}", waiting.output());
    assert!(waiting.output().contains("ingested: received 1000, stored 1000"), "{}", waiting.output());
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
}

/// The file that is there is kept, so the returned file needs another name.
#[test]
fn a_retry_of_a_file_whose_name_is_in_use_gets_another_name() {
    let root = root(&stores(), json!({}));
    let mut fetchdata = Daemon::start(&root, &["fetchdata"], &[]);
    root.drop_file("alpha", "wrong.exe", b"first");
    until(SOON, "it is discarded", || root.reasons("discarded", "alpha").len() == 1);
    assert!(fetchdata.terminate().success(), "{}", fetchdata.output());
    root.drop_file("alpha", "wrong.exe", b"second");
    let id = root.list("discarded/alpha").remove(0);
    let printed = run(&root, 0, &["retry", &id]);
    assert!(printed.contains("client-input-directory/alpha/wrong-2.exe is dropped again"), "{printed}");
    let content = |name: &str| fs::read(root.drop_directory("alpha").join(name)).expect("a file");
    assert_eq!((content("wrong.exe"), content("wrong-2.exe")), (b"second".to_vec(), b"first".to_vec()));
}
