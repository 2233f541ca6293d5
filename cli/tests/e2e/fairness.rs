//! What one client does, and what its apps do, delays no other client.
//!
//! The tests count and do not measure time, which says little on a busy machine: when the other client's work is done,
//! only a small part of the first client's flood is.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use mysimbdp_testbed::{Daemon, Process, Root, binary, mongodb, mosquitto, program, until};
use serde_json::{Value, json};

use crate::support::{LOADED, Platform, SOON, documents, keyed_stream, messages, readings, with_argument};

/// Files of the flood; at most a third of them may be processed when a file that is dropped at its beginning is.
const FLOOD: usize = 300;

/// A client whose files all go to this script, which stores nothing.
fn scripted(id: &str, script: &str) -> Value {
    json!({
        "id": id,
        "files": {"globs": ["*"], "extensions": ["csv"]},
        "micro_batching": {"block_size": "10kB"},
        "archive": "1d",
        "apps": [{
            "name": "script", "command": ["bash", "-c", script], "ids": "none", "unit": "micro-batch",
            "concurrency": 16, "timeout": "1s",
        }],
    })
}

/// The number of a client's files that have reached one of these states.
fn ended(platform: &Platform, client: &str, states: &[&str]) -> usize {
    states.iter().map(|state| platform.root.list(&format!("{state}/{client}")).len()).sum()
}

/// One client drops many files and publishes as fast as it can, another one sends a file and a few messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_files_and_messages_delays_no_other_client() {
    // Each file takes time, but no processor time: 15 s for all of them.
    let mut flooding = scripted("client1", "cat > /dev/null; sleep 0.2");
    flooding["streams"] = keyed_stream("client1")["streams"].clone();
    let mut calm = documents("client2");
    calm["streams"] = keyed_stream("client2")["streams"].clone();
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([flooding, calm])).await;
    let _daemons = ["fetchdata", "batch-manager", "stream-manager"].map(|kind| platform.start(kind));
    platform.until_instances("client1", 1).await;
    platform.until_instances("client2", 1).await;

    for number in 0..FLOOD {
        let content = format!("a,b\n{number},1\n");
        platform.root.drop_file("client1", &format!("{number}.csv"), content.as_bytes());
    }
    let published = 10_000;
    let lines = platform.root.path().join("flood.ndjson");
    std::fs::write(&lines, messages(0, published)).expect("write what is published");
    let _publisher = publisher(&platform, "client1", &lines);
    until(SOON, "the flood has begun", || ended(&platform, "client1", &["archive"]) > 0);

    let (content, rows) = readings(20_000);
    platform.root.drop_file("client2", "calm.csv", &content);
    mysimbdp_testbed::Mosquitto::publish(
        mosquitto().url(),
        &platform.ingest_topic("client2"),
        &messages(0, 50),
    );
    platform.until_ingested("client2", 1, SOON).await;
    let through = ended(&platform, "client1", &["archive"]);
    platform.until_stored("client2", "readings", rows + 50, SOON).await;
    assert!(
        through < FLOOD / 3,
        "{through} files of the flood were ingested before the other client's only one"
    );

    platform.until_stored("client1", "readings", published, LOADED).await;
    until(LOADED, "the flood is ingested", || ended(&platform, "client1", &["archive"]) == FLOOD);
}

/// Publishes the lines of a file in the background.
fn publisher(platform: &Platform, client: &str, lines: &std::path::Path) -> Process {
    let mut command = std::process::Command::new(program("mosquitto_pub"));
    let port = mosquitto().port().to_string();
    command.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-l", "-t", &platform.ingest_topic(client)]);
    command.stdin(std::fs::File::open(lines).expect("what is published"));
    Process::spawn(command)
}

/// A long backfill uses all slots that it may have, and a small configuration file of another pipeline arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_big_backfill_delays_no_small_file_of_another_pipeline() {
    // Each unit takes time, but no processor time: 20 s and more for all of them.
    let clients = json!([scripted("client1", "cat > /dev/null; sleep 0.4"), documents("client2")]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    let (big, _) = readings(2_000_000);
    let units_done = || {
        let ingestions = platform.root.list("staging/client1");
        let outcomes = |ingestion: &String| {
            let names = platform.root.list(&format!("staging/client1/{ingestion}/outcomes"));
            names.iter().filter(|name| name.len() == "00000.json".len()).count()
        };
        ingestions.iter().map(outcomes).sum::<usize>()
    };
    platform.root.drop_file("client1/backfill", "big.csv", &big);
    until(SOON, "the backfill is in progress", || units_done() >= 3);

    for number in 0..3 {
        let before = units_done();
        let content = format!("origin,temp\nJFK,{number}\n");
        platform.root.drop_file("client2", &format!("settings-{number}.csv"), content.as_bytes());
        platform.until_ingested("client2", number + 1, SOON).await;
        let between = units_done() - before;
        // Three slots of four, 0.4 s for each unit: this many are done in about 4 s. The whole backfill has over 200.
        assert!(between <= 30, "{between} units of the backfill were ingested first");
    }
    assert!(!platform.root.list("staging/client1").is_empty(), "the backfill has not ended before");
}

/// Every kind of misbehaving app, each with a client of its own and enough work for all slots: the good client's files
/// are ingested, and the bad ones' are held, each with its reason.
#[tokio::test(flavor = "multi_thread")]
async fn apps_that_misbehave_delay_no_other_client_and_are_held() {
    let bad = [
        ("fails", "cat > /dev/null; exit 1", "ended with 1"),
        ("crashes", "kill -SEGV $$", "signal 11"),
        ("hangs", "trap '' TERM; while :; do sleep 1; done", "took longer than 5 s"),
        ("floods", "yes", "took longer than 1 s"),
        ("greedy", "ulimit -v 100000; exec python3 -c 'bytearray(1 << 30)'", "ended with 1"),
        ("lies", "cat > /dev/null; echo '{\"type\":\"done\",\"stored\":1000000}'", "not believed"),
        ("daemon", "(trap '' TERM; env -i setsid sleep 600.125 &); exit 3", "ended with 3"),
    ];
    let mut clients: Vec<Value> = bad
        .iter()
        .map(|(id, script, _)| {
            let mut client = scripted(id, script);
            client["apps"][0]["ids"] = json!(if *id == "lies" { "platform" } else { "none" });
            // The app that hangs does so until the good client is done, and apps that end by themselves are not stopped
            // before.
            client["apps"][0]["timeout"] = json!(match *id {
                "floods" => "1s",
                "hangs" => "5s",
                _ => "30s",
            });
            client
        })
        .collect();
    clients.push(documents("good"));
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!(clients)).await;
    platform.set("batch_manager", json!({"attempts_max": 3, "stop_grace": "200ms"}));
    let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    let (content, _) = readings(5_000);
    for (id, ..) in bad {
        platform.root.drop_file(id, "bad.csv", &content);
    }
    until(SOON, "the misbehaving apps run", || !platform.root.list("logs/clients/floods").is_empty());

    for number in 0..5 {
        let content =
            [content.clone(), format!("JFK,2013,{number}.5,NA,1,2013-01-01T00:00:00Z\n").into()].concat();
        platform.root.drop_file("good", &format!("good-{number}.csv"), &content);
        platform.until_ingested("good", number + 1, SOON).await;
    }
    assert!(!platform.root.list("staging/hangs").is_empty(), "all five were ingested while the others ran");
    for (id, _, fragment) in bad {
        until(SOON, &format!("the file that {id} could not ingest is held"), || {
            ended(&platform, id, &["held"]) == 1
        });
        let reason = platform.root.reasons("held", id).remove(0)["reasons"].to_string();
        assert!(reason.contains(fragment) && reason.contains("failed 3 times"), "{id}: {reason}");
    }
    assert_eq!(with_argument("600.125"), [] as [u32; 0], "nothing is left of the daemons");
}

/// A user other than root, which may read everything.
const UNPRIVILEGED_USER: u32 = 65_534;

/// 100,000 files of one client cannot be read. They are dropped before the other client's files, and come first by name.
#[test]
fn heavy_unreadable_files_of_one_client_delay_no_other_client() {
    const FILES: usize = 100_000;
    let mut settings = json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s", "free_space_min": "0B"},
        "clients": [scripted("aaron", "exit 1"), scripted("zoe", "exit 1")],
    });
    settings["clients"][1]["files"]["globs"] = json!(["z*"]);
    // In memory, as 100,000 files alone are a load for a disk.
    let root = Root::within(Path::new("/dev/shm"), &settings);
    let unreadable = root.drop_directory("aaron").join("#recycle");
    for directory in [root.drop_directory("zoe"), unreadable.clone()] {
        std::fs::create_dir_all(directory).expect("directories");
    }
    for number in 0..FILES {
        let file = std::fs::File::create(root.drop_directory("aaron").join(format!("{number}.csv")))
            .expect("a file");
        file.set_permissions(std::fs::Permissions::from_mode(0o000)).expect("unreadable");
    }
    std::fs::set_permissions(&unreadable, std::fs::Permissions::from_mode(0o000)).expect("unreadable");
    let mut command = std::process::Command::new(binary("mysimbdp"));
    command.arg("--config").arg(root.config()).arg("fetchdata");
    if std::fs::metadata(root.path()).expect("metadata").uid() == 0 {
        for path in
            ["", "client-input-directory", "client-input-directory/aaron", "client-input-directory/zoe"]
        {
            std::os::unix::fs::chown(
                root.path().join(path),
                Some(UNPRIVILEGED_USER),
                Some(UNPRIVILEGED_USER),
            )
            .expect("change the owner");
        }
        command.uid(UNPRIVILEGED_USER).gid(UNPRIVILEGED_USER);
    }
    let mut fetchdata = Process::spawn(command);
    until(LOADED, "it has tried some", || root.log("fetchdata.log").contains("file could not be processed"));

    for number in 0..2 {
        let name = format!("z{number}.csv");
        std::fs::write(root.drop_directory("zoe").join(&name), format!("a\n{number}\n")).expect("a file");
        until(LOADED, "the other client's file is staged", || root.list("staging/zoe").len() == number + 1);
    }
    let names_it = || root.log("fetchdata.log").contains("#recycle");
    until(LOADED, "the directory that cannot be read is named", names_it);
    assert!(fetchdata.is_running());
    let log = root.log("fetchdata.log");
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    // One of each kind, and one more for each minute that this takes.
    assert!((1..20).contains(&warnings.len()), "{} lines: {:#?}", warnings.len(), &warnings[..20]);
    assert!(root.list("staging/aaron").is_empty());
}

/// A supervisor that repeats the signal does not interrupt the drain, and the drain has a deadline.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_twice_under_load_drains_within_the_deadline_and_loses_nothing() {
    let clients = json!([documents("client2"), keyed_stream("client3")]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    platform.until_instances("client3", 1).await;
    let published = 10_000;
    let lines = platform.root.path().join("load.ndjson");
    std::fs::write(&lines, messages(0, published)).expect("write what is published");
    let mut publisher = publisher(&platform, "client3", &lines);
    let (content, rows) = readings(4_000_000);
    platform.root.drop_file("client2", "load.csv", &content);
    mysimbdp_testbed::until_async(SOON, "files and messages are being processed", async || {
        platform.count("client2", "readings").await > 0 && platform.count("client3", "readings").await > 0
    })
    .await;

    let instance = platform.running("client3")[0];
    mysimbdp_testbed::signal(up.pid(), mysimbdp_testbed::Signal::TERM);
    mysimbdp_testbed::signal(instance, mysimbdp_testbed::Signal::TERM);
    mysimbdp_testbed::signal(up.pid(), mysimbdp_testbed::Signal::TERM);
    let signalled_at = std::time::Instant::now();
    let status = up.wait();
    assert!(status.success(), "{status}: {}", up.output());
    // The grace period of the apps and the margin of the supervisor, for each of the three processes.
    assert!(signalled_at.elapsed() < Duration::from_secs(30), "{:?}", signalled_at.elapsed());
    assert!(!up.output().contains("did not stop"), "{}", up.output());

    assert!(publisher.wait(SOON).success());
    let _up = Daemon::start(&platform.root, &["up"], &[]);
    platform.until_ingested("client2", 1, LOADED).await;
    platform.until_stored("client2", "readings", rows, SOON).await;
    platform.until_stored("client3", "readings", published, LOADED).await;
}
