//! The command line with embedded defaults: what it prints and its exit codes.

use std::path::Path;

use mysimbdp_testbed::{Daemon, Mongod, Mosquitto, Proxy, Root, binary, mongodb, python, until};
use serde_json::{Value, json};

use crate::support::{SOON, documents, objects, readings, run, with_argument};

fn embedded(clients: &Value) -> Root {
    Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s", "backoff_first": "100ms"},
        "clients": clients,
    }))
}

#[test]
fn a_faulty_config_starts_nothing_and_every_fault_is_reported_with_its_location() {
    let root = embedded(&json!([documents("client2")]));
    let text = std::fs::read_to_string(root.config()).expect("read");
    let faulty = text.replace("\"100ms\"", "\"100 ms\"").replace("\"batch_manager\"", "\"batchmanager\"");
    std::fs::write(root.config(), faulty).expect("write");
    for command in ["check", "up", "fetchdata", "batch-manager", "stream-manager", "status"] {
        let printed = run(&root, 78, &[command]);
        assert!(printed.contains("config.json:") && printed.contains("batchmanager"), "{command}: {printed}");
        assert!(
            printed.contains("100 ms") && printed.contains("batch_manager"),
            "all faults with what is expected: {printed}"
        );
    }
    assert!(
        root.list("").iter().all(|name| !name.starts_with("s")),
        "no staging, no state: {:?}",
        root.list("")
    );
}

#[test]
fn the_shipped_config_is_valid() {
    let shipped = include_str!("../../../config.json");
    let root = Root::new(&serde_json::from_str(shipped).expect("JSON"));
    assert!(run(&root, 0, &["check"]).contains("no faults"));
}

#[test]
fn a_wrong_command_line_exits_64_and_help_0() {
    let root = embedded(&json!([documents("client2")]));
    run(&root, 64, &["drop"]);
    run(&root, 64, &["dorp", "client2"]);
    run(&root, 64, &["start", "No Client"]);
    assert!(run(&root, 0, &["--help"]).contains("demo"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&root, 0, &["completions", shell]).contains("mysimbdp"));
    }
}

#[test]
fn drop_waits_for_the_outcome_status_shows_it_and_retry_drops_it_again() {
    let root = embedded(&json!([documents("client2"), objects("client1")]));
    let mut up = Daemon::start(&root, &["up"], &[]);
    until(SOON, "up is ready", || up.output().contains("ready after") || !up.is_running());
    assert!(up.is_running(), "{}", up.output());

    let (content, rows) = readings(200_000);
    let file = root.path().join("weather.csv");
    std::fs::write(&file, content).expect("write");
    let file = file.to_str().expect("UTF-8");
    let printed = run(&root, 0, &["drop", "client2", file, "--wait"]);
    assert!(printed.contains(&format!("stored {rows}")), "{printed}");
    assert!(run(&root, 0, &["drop", "client1", file, "--wait"]).contains("ingested"));
    let again = run(&root, 65, &["drop", "client2", file, "--wait"]);
    assert!(again.contains("discarded") && again.contains("weather.csv"), "{again}");
    run(&root, 66, &["drop", "nobody", file]);
    run(&root, 66, &["drop", "client2", "/no/such/file.csv"]);

    let status: Value = serde_json::from_str(&run(&root, 0, &["status", "--json"])).expect("JSON");
    let discarded = &status["clients"]["client2"]["discarded"];
    assert_eq!(discarded.as_array().map(Vec::len), Some(1), "{status:#}");
    let id = discarded[0]["id"].as_str().expect("an id").to_owned();
    run(&root, 0, &["retry", &id]);
    until(SOON, "it is validated and discarded again", || {
        root.list("discarded/client2").first().is_some_and(|other| *other != id)
    });
    run(&root, 66, &["retry", "../../etc"]);

    run(&root, 66, &["timing", "--client", "nobody"]);
    let table = run(&root, 0, &["timing"]);
    for stage in
        ["settle", "validate", "split", "stage", "notify", "queue", "spawn", "ingest", "finish", "whole"]
    {
        assert!(table.contains(stage), "{stage} is missing:\n{table}");
    }
    assert!(up.interrupt().success(), "{}", up.output());
}

/// The client owns its folder, and may replace any directory in it by a symlink.
#[test]
fn retry_and_drop_write_nothing_through_a_clients_symlink() {
    let root = embedded(&json!([documents("client2")]));
    let folder = root.drop_directory("client2");
    let (discarded, instances) =
        (root.path().join("discarded/client2/one"), root.path().join("state/instances"));
    for directory in [&folder, &discarded, &instances] {
        std::fs::create_dir_all(directory).expect("directory");
    }
    let explain = |dropped_at: &str| {
        let reason = json!({
            "file": "x.json", "client": "client2", "ingestion": null, "dropped_at": dropped_at, "bytes": 2,
            "received_at": "2026-01-31T00:00:00Z", "decided_at": "2026-01-31T00:00:00Z", "reasons": ["no"],
        });
        std::fs::write(discarded.join("reason.json"), reason.to_string()).expect("reason");
    };
    std::fs::write(discarded.join("x.json"), "{}").expect("file");
    std::os::unix::fs::symlink(&instances, folder.join("sub")).expect("symlink");

    explain("client-input-directory/client2/sub/x.json");
    let printed = run(&root, 74, &["retry", "one"]);
    assert!(printed.contains("client2/sub"), "{printed}");
    explain("state/instances/x.json");
    run(&root, 65, &["retry", "one"]);
    std::os::unix::fs::symlink(&instances, folder.join("backfill")).expect("symlink");
    let file = root.path().join("y.json");
    std::fs::write(&file, "{}").expect("file");
    run(&root, 74, &["drop", "client2", "--backfill", file.to_str().expect("UTF-8")]);
    assert_eq!(root.list("state/instances"), Vec::<String>::new());
    assert!(discarded.join("x.json").exists(), "it can still be returned");

    std::fs::remove_file(folder.join("sub")).expect("remove");
    explain("client-input-directory/client2/sub/x.json");
    run(&root, 0, &["retry", "one"]);
    assert_eq!(std::fs::read(folder.join("sub/x.json")).expect("the file"), b"{}");
    assert!(!discarded.exists());
}

#[test]
fn the_second_platform_on_a_data_root_reports_which_process_holds_it() {
    let root = embedded(&json!([documents("client2")]));
    let mut first = Daemon::start(&root, &["batch-manager"], &[]);
    let holder = format!("pid {}", first.pid());
    until(SOON, "the first holds its lock", || {
        std::fs::read_to_string(root.path().join("staging/.batch-manager.lock"))
            .is_ok_and(|text| text.contains(&holder))
    });
    assert!(run(&root, 77, &["batch-manager"]).contains(&holder));
    assert!(first.terminate().success());
}

#[test]
fn the_reference_apps_keep_the_contract() {
    let root = embedded(&json!([documents("client2")]));
    let app = binary("document-app");
    let app = app.to_str().expect("UTF-8");
    for protocol in ["stdin", "worker"] {
        let printed = run(&root, 0, &["check", "app", "--protocol", protocol, app]);
        assert!(printed.contains("10 passed, 0 failed"), "{printed}");
    }
    let printed = run(&root, 0, &["check", "app", "--ids", "key", app]);
    assert!(printed.contains("8 passed, 0 failed"), "{printed}");
    let object_app = binary("object-app");
    let words = ["check", "app", "--ids", "object", object_app.to_str().expect("UTF-8")];
    let printed = run(&root, 0, &words);
    assert!(printed.contains("4 passed, 0 failed"), "{printed}");
    assert!(run(&root, 65, &["check", "app", "--ids", "object", "true"]).contains("1 passed, 3 failed"));
    let printed = run(&root, 65, &["check", "app", "cat"]);
    assert!(printed.contains("FAILED"), "cat is not an app: {printed}");
}

#[test]
fn a_daemon_that_holds_the_pipes_of_an_app_delays_no_check() {
    let root = embedded(&json!([documents("client2")]));
    let script = "(trap '' TERM; env -i setsid sleep 600.25 &); exit 75";
    let printed = run(&root, 65, &["check", "app", "sh", "-c", script]);
    assert!(printed.contains("exited 75") && !printed.contains("nothing within"), "{printed}");
    assert_eq!(with_argument("600.25"), [] as [u32; 0], "nothing is left of the daemons");
}

#[tokio::test]
async fn an_app_in_python_keeps_the_contract() {
    let root = embedded(&json!([documents("client2")]));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../client-apps/python/batch_app.py");
    let python = python();
    let words = ["check", "app", python.to_str().expect("UTF-8"), script];
    let output = Daemon::run(&root, &words, &[("MYSIMBDP_COREDMS", mongodb().url())]);
    let printed =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.contains("10 passed, 0 failed"), "{printed}");
    let client = mongodb::Client::with_uri_str(mongodb().url()).await.expect("a valid address");
    let names = client.list_database_names().await.expect("names");
    assert!(!names.iter().any(|name| name.starts_with("mysimbdp_check_")), "{names:?}");
}

#[test]
fn a_batch_app_that_claims_to_have_stored_data_that_is_none_fails_the_check() {
    let root = embedded(&json!([documents("client2")]));
    let app = binary("document-app");
    let script = format!(
        r#"cat > unit; if grep -aq '^a,b' unit; then echo '{{"type":"done","stored":2}}'; else exec {} < unit; fi"#,
        app.display()
    );
    let printed = run(&root, 65, &["check", "app", "sh", "-c", &script]);
    assert!(printed.contains("FAILED  input that is not data is rejected or refused"), "{printed}");
    assert!(printed.contains("9 passed, 1 failed"), "{printed}");
}

/// What is staged again is announced like a new file, so that nobody waits for a scan.
#[test]
fn a_retried_file_and_held_content_that_is_dropped_again_are_processed_at_once() {
    let script = "cat > /dev/null; test -e repaired || exit 65";
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1h"},
        "clients": [{
            "id": "client2",
            "archive": "1d",
            "apps": [{"name": "app", "command": ["sh", "-c", script], "collection": "records", "ids": "none"}],
        }],
    }));
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let contents = ["a,b\n1,2\n", "a,b\n3,4\n"];
    for (number, content) in contents.iter().enumerate() {
        root.drop_file("client2", &format!("{number}.csv"), content.as_bytes());
    }
    until(SOON, "both are held", || root.list("held/client2").len() == 2);
    std::fs::write(root.path().join("repaired"), "").expect("repair the app");
    root.drop_file("client2", "again.csv", contents[0].as_bytes());
    until(SOON, "the first one is ingested", || root.list("archive/client2").len() == 1);
    let held = root.list("held/client2");
    assert_eq!(held.len(), 1);
    run(&root, 0, &["retry", &held[0]]);
    until(SOON, "the second one is ingested", || root.list("archive/client2").len() == 2);
    assert!(up.interrupt().success(), "{}", up.output());
}

/// batch-manager still has to write the history of the run that was held when the file is staged again.
#[test]
fn a_file_that_is_retried_while_its_hold_is_still_being_recorded_is_processed_at_once() {
    let script =
        "cat > /dev/null; test -e repaired && exit 0; until test -e fail; do sleep 0.05; done; exit 65";
    let store = Proxy::before_mongodb(mongodb().url());
    let name = format!("test{}", std::process::id());
    let root = Root::new(&json!({
        "coredms": {"url": store.mongodb_url(), "database": name},
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1h"},
        "clients": [{
            "id": "client2",
            "archive": "1d",
            "apps": [{"name": "app", "command": ["sh", "-c", script], "collection": "records", "ids": "none"}],
        }],
    }));
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    root.drop_file("client2", "a.csv", b"a,b\n1,2\n");
    until(SOON, "it is staged", || root.list("staging/client2").len() == 1);
    store.fall_silent();
    std::fs::write(root.path().join("fail"), "").expect("let the app fail");
    until(SOON, "it is held", || root.list("held/client2").len() == 1);
    std::fs::write(root.path().join("repaired"), "").expect("repair the app");
    run(&root, 0, &["retry", &root.list("held/client2")[0]]);
    store.heal();
    until(SOON, "it is ingested", || root.list("archive/client2").len() == 1);
    assert!(up.interrupt().success(), "{}", up.output());
}

/// With an embedded broker and an embedded store, as on a laptop.
#[test]
fn the_reference_stream_app_keeps_the_contract_and_nothing_is_left_behind() {
    let root = embedded(&json!([documents("client2")]));
    let temporary = root.path().join("temporary");
    std::fs::create_dir(&temporary).expect("create");
    let directory = [("TMPDIR", temporary.to_str().expect("UTF-8"))];
    let app = binary("stream-app");
    let app = app.to_str().expect("UTF-8");
    for (ids, passed) in [("platform", 13), ("key", 9), ("none", 8)] {
        let words = ["check", "app", "--stream", "--ids", ids, app, "--topic-field", "topic"];
        let output = Daemon::run(&root, &words, &directory);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{ids}: {printed}");
        assert!(printed.contains(&format!("{passed} passed, 0 failed")), "{ids}: {printed}");
    }
    let left: Vec<_> = std::fs::read_dir(&temporary).expect("list").collect();
    assert!(left.is_empty(), "{left:?}");

    run(&root, 64, &["check", "app", "--stream", "--ids", "object", app]);
    run(&root, 64, &["check", "app", "--ids", "none", app]);
    let printed = run(&root, 65, &["check", "app", "--stream", "true"]);
    assert!(printed.contains("FAILED  messages are stored: it ended by itself"), "{printed}");
}

/// Each violation of the contract fails the case that is about it.
#[test]
fn stream_apps_that_break_the_contract_fail_the_matching_case() {
    let root = embedded(&json!([documents("client2")]));
    let app = binary("stream-app");
    let app = app.display();
    let broken = [
        (format!("trap '' TERM; {app}; exit 3"), "FAILED  SIGTERM ends it"),
        (format!("MYSIMBDP_IDS=none exec {app}"), "FAILED  a numbered message has the id of its number"),
        (format!("MYSIMBDP_RECEIPT_TOPIC= exec {app}"), "FAILED  a numbered source gets receipts"),
        (format!("MYSIMBDP_REPORT_TOPIC=other exec {app}"), "FAILED  its reports add up"),
    ];
    // In parallel, because each waits for something that never arrives.
    let root = &root;
    std::thread::scope(|scope| {
        for (script, case) in &broken {
            scope.spawn(move || {
                let printed = run(root, 65, &["check", "app", "--stream", "sh", "-c", script]);
                assert!(printed.contains(case), "{script}: {printed}");
            });
        }
    });
}

#[test]
fn an_interrupted_check_of_a_stream_app_leaves_nothing() {
    let root = embedded(&json!([documents("client2")]));
    let temporary = root.path().join("temporary");
    std::fs::create_dir(&temporary).expect("create");
    let script = format!("sleep 600.5 & exec {}", binary("stream-app").display());
    let words = ["check", "app", "--stream", "sh", "-c", &script];
    let directory = [("TMPDIR", temporary.to_str().expect("UTF-8"))];
    let mut check = Daemon::start(&root, &words, &directory);
    until(SOON, "the app runs", || !with_argument("600.5").is_empty());
    let status = check.interrupt();
    assert_eq!(status.code(), Some(75), "{}", check.output());
    assert_eq!(with_argument("600.5"), [] as [u32; 0], "nothing is left of the app");
    let left: Vec<_> = std::fs::read_dir(&temporary).expect("list").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_stream_app_in_python_keeps_the_contract() {
    let root = embedded(&json!([documents("client2")]));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../client-apps/python/stream_app.py");
    let (python, store) = (python(), Mongod::start());
    let words = ["check", "app", "--stream", "--ids", "none", python.to_str().expect("UTF-8"), script];
    let output = Daemon::run(&root, &words, &[("MYSIMBDP_COREDMS", &store.url())]);
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(output.status.success() && printed.contains("8 passed, 0 failed"), "{printed}");
    let client = mongodb::Client::with_uri_str(store.url()).await.expect("a valid address");
    let names = client.list_database_names().await.expect("names");
    assert!(!names.iter().any(|name| name.starts_with("mysimbdp_check_")), "{names:?}");
}

/// Programs are looked up and run in the current directory, as the platform does in the data root.
#[test]
fn a_stream_app_that_reports_more_than_it_stores_fails_the_check() {
    let root = embedded(&json!([documents("client2")]));
    let apps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client-apps/python");
    let honest = std::fs::read_to_string(apps.join("stream_app.py")).expect("the app");
    let (count, more) = (r#"_messages_ingested": messages,"#, r#"_messages_ingested": messages + 1,"#);
    assert!(honest.contains(count));
    std::fs::create_dir(root.path().join("apps")).expect("directory");
    std::fs::write(root.path().join("apps/liar.py"), honest.replace(count, more)).expect("app");
    std::fs::copy(apps.join("exact_json.py"), root.path().join("apps/exact_json.py")).expect("its module");
    let (python, store) = (python(), Mongod::start());
    let words =
        ["check", "app", "--stream", "--ids", "none", python.to_str().expect("UTF-8"), "apps/liar.py"];
    let output = Daemon::run(&root, &words, &[("MYSIMBDP_COREDMS", &store.url())]);
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert_eq!(output.status.code(), Some(65), "{printed}");
    assert!(
        printed.contains("ok      messages are stored") && printed.contains("FAILED  its reports add up"),
        "{printed}"
    );
}

/// A program that is killed when the test ends, whether it passes or fails.
struct Program(std::process::Child);

impl Program {
    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("its state").is_some()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Mosquitto closes the connection of the displaced process without giving a reason.
#[test]
fn of_two_stream_apps_in_python_with_the_same_client_id_one_ends_on_mosquitto_too() {
    let (broker, store) = (Mosquitto::start(), Mongod::start());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../client-apps/python/stream_app.py");
    let start = || {
        let process = std::process::Command::new(python())
            .arg(script)
            .env("MYSIMBDP_BROKER", broker.url())
            .env("MYSIMBDP_COREDMS", store.url())
            .env("MYSIMBDP_DATABASE", "twins")
            .env("MYSIMBDP_COLLECTION", "messages")
            .env("MYSIMBDP_CLIENT_ID", "twins")
            .env("MYSIMBDP_INSTANCE", "twins-0")
            .env("MYSIMBDP_TOPIC_FILTER", "$share/twins/twins/#")
            .env("MYSIMBDP_REPORT_TOPIC", "reports/twins")
            .spawn();
        Program(process.expect("python starts"))
    };
    let mut processes = [start(), start()];
    until(SOON, "one of them has ended", || processes.iter_mut().any(Program::has_ended));
    assert!(!processes.iter_mut().all(Program::has_ended), "the other one continues");
}
