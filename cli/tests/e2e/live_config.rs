//! The config file is edited while everything runs.

use std::path::Path;

use mysimbdp_testbed::{Daemon, Mosquitto, Root, Signal, descendants, mongodb, mosquitto, signal, until};
use serde_json::{Value, json};

use crate::support::{Platform, SOON, documents, keyed_stream, messages, number, readings};

fn clients(platform: &Platform, change: impl FnOnce(&mut Vec<Value>)) {
    platform.configure(|config| change(config["clients"].as_array_mut().expect("clients")));
}

/// Every process starts to serve new clients, and other clients are not affected.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_added_takes_effect_without_a_restart_and_others_are_not_touched() {
    let before = json!([documents("client2"), keyed_stream("client3")]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), before).await;
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let (processes, instance) = (descendants(up.pid()), platform.until_instances("client3", 1).await);

    clients(&platform, |clients| clients.extend([documents("late"), keyed_stream("latestream")]));
    let reloaded = platform.command(0, &["reload"]);
    assert_eq!(reloaded.matches("runs on config").count(), 4, "{reloaded}");
    let (content, rows) = readings(20_000);
    platform.root.drop_file("late", "weather.csv", &content);
    let run = &platform.until_ingested("late", 1, SOON).await[0];
    assert_eq!(number(run, "stored"), rows as i64);
    platform.until_instances("latestream", 1).await;
    Mosquitto::publish(mosquitto().url(), &platform.ingest_topic("latestream"), &messages(0, 100));
    platform.until_stored("latestream", "readings", 100, SOON).await;

    assert_eq!(platform.running("client3"), instance, "the stream of another client is not restarted");
    let after = descendants(up.pid());
    assert!(processes.iter().all(|process| after.contains(process)), "no process was restarted");
    assert!(up.interrupt().success(), "{}", up.output());
}

/// Editing the file is enough: each process detects the change.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_changed_is_started_again_and_one_that_is_removed_ends() {
    let before = json!([keyed_stream("client1"), keyed_stream("client3"), keyed_stream("leaves")]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), before).await;
    let mut stream_manager = platform.start("stream-manager");
    let stays = platform.until_instances("client1", 1).await;
    let changes = platform.until_instances("client3", 1).await;
    platform.until_instances("leaves", 1).await;

    clients(&platform, |clients| {
        clients[1]["streams"][0]["batch_messages_max"] = json!(7);
        clients.remove(2);
    });
    until(SOON, "the changed stream has another instance", || {
        let running = platform.running("client3");
        running.len() == 1 && running != changes
    });
    until(SOON, "the removed one has ended", || {
        platform.root.list("state/instances").iter().all(|name| !name.starts_with("leaves.stream.0"))
    });
    platform.command(66, &["list", "leaves"]);
    Mosquitto::publish(mosquitto().url(), &platform.ingest_topic("client3"), &messages(0, 100));
    platform.until_stored("client3", "readings", 100, SOON).await;
    assert_eq!(platform.running("client1"), stays);
    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());
}

/// A file that waits because its app is broken is ingested by the app that replaces it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_waits_for_a_broken_app_is_ingested_by_the_repaired_one() {
    let mut client = documents("client2");
    client["apps"][0]["command"] = json!(["no-such-program-anywhere"]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([client])).await;
    // The file must not be held before the app is repaired.
    platform.set("batch_manager", json!({"backoff_first": "1h", "backoff_max": "1h"}));
    let mut daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    let (content, rows) = readings(20_000);
    platform.root.drop_file("client2", "weather.csv", &content);
    until(SOON, "a unit has failed", || platform.root.log("batch-manager.log").contains("a unit failed"));

    clients(&platform, |clients| clients[0] = documents("client2"));
    let run = &platform.until_ingested("client2", 1, SOON).await[0];
    assert_eq!(number(run, "stored"), rows as i64);
    for daemon in &mut daemons {
        assert!(daemon.terminate().success(), "{}", daemon.output());
    }
}

/// Like `kill -HUP` by a service manager: `up` forwards the signal. A setting that is refused is refused by every
/// process, and named.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_of_up_reloads_and_settings_that_need_a_restart_are_refused_by_name() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([documents("client2")])).await;
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    clients(&platform, |clients| clients.push(documents("late")));
    signal(up.pid(), Signal::HUP);
    let logs = ["fetchdata.log", "batch-manager.log", "stream-manager.log", "serve.log"];
    until(SOON, "all have applied it", || {
        logs.iter().all(|log| platform.root.log(log).contains("was edited and is applied"))
    });

    platform.set("broker", json!({"topic_prefix": "another"}));
    clients(&platform, |clients| clients.push(documents("later")));
    let refused = platform.command(78, &["reload"]);
    assert_eq!(refused.matches("broker.topic_prefix").count(), 4, "{refused}");
    assert!(!platform.root.drop_directory("later").exists(), "nothing of it is applied");
    assert!(up.interrupt().success(), "{}", up.output());
}

/// Nothing below the new data root shows that the processes run, so a command there would bypass the platform.
#[tokio::test(flavor = "multi_thread")]
async fn commands_do_not_use_an_edited_data_root_while_the_processes_run_on_the_old_one() {
    let clients = json!([documents("client2"), keyed_stream("client3")]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let edge = ["edge", "--client", "client3", "--source", "meter", "--follow"];
    let lines = platform.root.path().join("lines.ndjson");
    std::fs::write(&lines, messages(0, 10)).expect("write lines");
    let lines = lines.to_str().expect("UTF-8");
    let elsewhere = tempfile::tempdir().expect("temporary directory");
    let valid = std::fs::read_to_string(platform.root.config()).expect("read");
    platform.configure(|config| config["data_root"] = json!(elsewhere.path()));

    let names_both = |refused: &str| {
        for root in [platform.root.path(), elsewhere.path()] {
            assert!(refused.contains(&*root.to_string_lossy()), "{refused}");
        }
        assert!(refused.contains("set data_root to the same value, or stop it"), "{refused}");
    };
    let follow: Vec<&str> = edge.into_iter().chain([lines]).collect();
    let drop = ["drop", "client2", lines];
    for words in [
        &["up"][..],
        &["fetchdata"],
        &["reload"],
        &drop,
        &["reconcile"],
        &["purge", "--held", "--older-than", "1h"],
        &follow,
    ] {
        names_both(&platform.command(78, words));
    }
    // These report on the running platform.
    for words in [&["health"][..], &["list"], &["status"]] {
        names_both(&platform.command(0, words));
    }
    assert_eq!(
        std::fs::read_dir(elsewhere.path()).expect("a directory").count(),
        0,
        "nothing was created there"
    );

    // As after a deployment that removes what it does not know: the next refused edit brings the note back.
    let note = platform.root.config().with_file_name(".config.json.data-root");
    std::fs::remove_file(&note).expect("remove the note");
    platform.configure(|config| config["data_root"] = json!(elsewhere.path().join("further")));
    until(SOON, "the note exists again", || note.exists());
    platform.command(78, &drop);

    // The file may have other faults, or be missing.
    std::fs::write(platform.root.config(), "{").expect("write");
    platform.command(0, &["health"]);
    std::fs::remove_file(platform.root.config()).expect("remove");
    platform.command(0, &["health"]);

    // If nothing runs any more, the note about the config in use does not block commands.
    std::fs::write(platform.root.config(), valid).expect("write");
    assert!(up.interrupt().success(), "{}", up.output());
    platform.configure(|config| config["data_root"] = json!(elsewhere.path()));
    platform.command(69, &["health"]);
}

/// The folder of the config is a symlink, as deployments exchange it; the data root is that folder, as it is by default.
#[test]
fn a_config_folder_that_is_exchanged_moves_no_process_to_another_data_root() {
    let mut root = Root::new(&json!({"clients": [documents("client2")]}));
    let [first, second, link] = ["first", "second", "current"].map(|name| root.path().join(name));
    for folder in [&first, &second] {
        std::fs::create_dir(folder).expect("a folder");
        std::fs::copy(root.config(), folder.join("config.json")).expect("copy the config");
    }
    std::os::unix::fs::symlink(&first, &link).expect("a symlink");
    root.set_config(link.join("config.json"));
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let command = |code: i32, words: &[&str]| {
        let output = Daemon::run(&root, words, &[]);
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {printed}");
        printed
    };

    let exchange = |folder: &Path| {
        let next = root.path().join("next");
        std::os::unix::fs::symlink(folder, &next).expect("a symlink");
        std::fs::rename(&next, &link).expect("exchange the symlink");
    };
    exchange(&second);
    let note = second.join(".config.json.data-root");
    until(SOON, "the processes refuse the other data root", || note.exists());
    let refused = command(78, &["reconcile"]);
    assert!(refused.contains(&*first.to_string_lossy()), "{refused}");
    // What `up` starts again stays with the others.
    let process = |kind: &str| {
        let words = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        descendants(up.pid()).into_iter().find(|pid| words(pid).contains(kind))
    };
    let killed = process("fetchdata").expect("it runs");
    // It may not have noticed the new folder yet.
    let log = || std::fs::read_to_string(first.join("logs/fetchdata.log")).unwrap_or_default();
    let refusals = || log().matches("needs a restart").count();
    signal(killed, Signal::KILL);
    let before = refusals();
    until(SOON, "fetchdata runs again", || process("fetchdata").is_some_and(|pid| pid != killed));
    until(SOON, "everything is as it should be", || {
        Daemon::run(&root, &["health"], &[]).status.success() && process("fetchdata").is_some()
    });
    // The one that was started while the new folder was there refuses it too.
    until(SOON, "the new fetchdata refuses it", || refusals() > before);
    command(78, &["up"]);
    let left: Vec<_> = std::fs::read_dir(&second)
        .expect("a folder")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    assert_eq!(left.len(), 2, "only the config and the note: {left:?}");

    exchange(&first);
    until(SOON, "it is the config in use again", || Daemon::run(&root, &["reconcile"], &[]).status.success());
    assert!(up.interrupt().success(), "{}", up.output());
}
