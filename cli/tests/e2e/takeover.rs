//! Processes are killed, and others take over what they leave behind: instances, brokers, data roots.

use std::path::Path;

use mysimbdp_testbed::mqtt::publish_with_paho;
use mysimbdp_testbed::{
    Daemon, Mosquitto, Signal, descendants, mongodb, mosquitto, signal, until, until_async,
};
use serde_json::{Value, json};

use crate::support::{LOADED, Platform, SOON, documents, keyed_stream, messages, number, readings};

/// The instances of a killed manager keep running, and the next manager adopts them unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn stream_manager_killed_under_load_leaves_instances_that_the_next_one_adopts() {
    const MESSAGES: u64 = 3_000;
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([keyed_stream("client3")])).await;
    let mut killed = platform.start("stream-manager");
    platform.until_instances("client3", 1).await;
    platform.command(0, &["scale", "client3", "3"]);
    let mut before = platform.until_instances("client3", 3).await;

    let topic = platform.ingest_topic("client3");
    let publish = move || publish_with_paho(mosquitto().url(), &topic, &messages(0, MESSAGES), 600);
    let publisher = tokio::task::spawn_blocking(publish);
    let stored = async |count| {
        let what = format!("{count} messages are stored");
        until_async(SOON, &what, async || platform.count("client3", "readings").await >= count).await;
    };
    stored(200).await;
    killed.kill9();
    // They keep running without a manager.
    stored(platform.count("client3", "readings").await + 300).await;

    let mut stream_manager = platform.start("stream-manager");
    let mut after = platform.until_instances("client3", 3).await;
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(before, after, "the same processes");
    let listed = platform.command(0, &["list", "client3", "--json"]);
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
    assert!(listed.iter().all(|instance| instance["adopted"] == true), "{listed:?}");
    // They obey the manager that adopted them.
    platform.command(0, &["scale", "client3", "1"]);
    platform.until_instances("client3", 1).await;

    publisher.await.expect("all are published");
    platform.until_stored("client3", "readings", MESSAGES, LOADED).await;
    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());
    for pid in before {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "instance {pid} is left");
    }
}

/// `up` restarts the embedded broker, perhaps at another address, and every process reconnects to it.
#[tokio::test(flavor = "multi_thread")]
async fn embedded_broker_killed_under_up_is_restarted_and_everything_continues() {
    let mut client = documents("client3");
    client["streams"] = keyed_stream("client3")["streams"].clone();
    client["streams"][0]["collection"] = json!("messages");
    let platform = Platform::new(mongodb().url(), "mqtt://127.0.0.1:1", json!([client])).await;
    platform.use_embedded_broker();
    // Only a staged notification makes batch-manager find the file soon enough.
    platform.set("batch_manager", json!({"scan_every": "60s"}));
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    platform.until_instances("client3", 1).await;
    let topic = platform.ingest_topic("client3");
    Mosquitto::publish(&platform.embedded_broker(), &topic, &messages(0, 200));
    platform.until_stored("client3", "messages", 200, SOON).await;

    let broker_pid = || platform.embedded_broker_state()["pid"].as_u64();
    let pid = u32::try_from(broker_pid().expect("a broker runs")).expect("a pid");
    assert!(descendants(up.pid()).contains(&pid), "a child of up");
    signal(pid, Signal::KILL);
    until(SOON, "another broker runs", || {
        broker_pid().is_some_and(|other| other != u64::from(pid)) && !platform.embedded_broker().is_empty()
    });

    // A message is queued only once the instance has subscribed again: no other session could keep it.
    let has_reconnected = |log: &str| {
        log.contains("connected to the broker again") || log.matches("connected to the broker").count() > 1
    };
    until(SOON, "the instance is connected again", || {
        has_reconnected(&platform.root.log("clients/client3/stream.log"))
    });
    Mosquitto::publish(&platform.embedded_broker(), &topic, &messages(200, 200));
    platform.until_stored("client3", "messages", 400, SOON).await;
    until(SOON, "batch-manager listens again", || has_reconnected(&platform.root.log("batch-manager.log")));
    let (content, rows) = readings(50_000);
    platform.root.drop_file("client3", "weather.csv", &content);
    let run = &platform.until_ingested("client3", 1, SOON).await[0];
    assert_eq!((number(run, "stored"), number(run, "rejected")), (rows as i64, 0));
    platform.command(0, &["scale", "client3", "2"]);
    platform.until_instances("client3", 2).await;
    assert!(up.interrupt().success(), "{}", up.output());
}

/// `up` restarts a process that is killed while `up` itself is still starting, as it does later.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_while_up_starts_is_restarted() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([documents("client2")])).await;
    for kind in ["fetchdata", "batch-manager", "stream-manager"] {
        let mut up = Daemon::start(&platform.root, &["up"], &[]);
        let mut killed = None;
        until(SOON, "it is killed", || {
            let child = descendants(up.pid()).into_iter().find(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|words| words.contains(kind))
            });
            killed = killed.or(child);
            killed.is_some()
        });
        signal(killed.expect("a pid"), Signal::KILL);
        up.until_output(SOON, "ready after");
        platform.command(0, &["health"]);
        assert!(up.interrupt().success(), "{kind}: {}", up.output());
    }
}

/// The processes of a killed `up` shut down in order, which takes as long as the clients' apps need.
#[tokio::test(flavor = "multi_thread")]
async fn up_waits_for_the_processes_that_a_killed_up_has_left() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([keyed_stream("client3")])).await;
    platform.set("stream_manager", json!({"stop_grace": "4s"}));
    let mut killed = Daemon::start(&platform.root, &["up"], &[]);
    killed.until_output(SOON, "ready after");
    let instance = platform.until_instances("client3", 1).await[0];
    signal(instance, Signal::STOP);
    killed.kill9();

    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    up.until_output(SOON, "waits for the stream-manager of an earlier `mysimbdp up` to end");
    up.until_output(SOON, "ready after");
    platform.until_instances("client3", 1).await;
    assert!(up.interrupt().success(), "{}", up.output());

    // `up` does not wait for a process that a person has started.
    let mut manager = platform.start("stream-manager");
    platform.until_instances("client3", 1).await;
    let printed = platform.command(77, &["up"]);
    assert!(printed.contains("stream-manager ended at its start"), "{printed}");
    assert!(manager.terminate().success(), "{}", manager.output());
}

/// Two data roots that have the same topic prefix by mistake: their instances have the same client ids, and take the
/// session from each other until one side gives up, which an operator sees.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_managers_with_the_same_topic_prefix_one_gives_up_after_a_few_attempts() {
    let platform = async || {
        let platform =
            Platform::new(mongodb().url(), mosquitto().url(), json!([keyed_stream("client3")])).await;
        platform.set("stream_manager", json!({"restarts_max": 3, "backoff_max": "30s"}));
        platform
    };
    let (first, second) = (platform().await, platform().await);
    second.set("broker", json!({"topic_prefix": first.topic_prefix}));
    let _managers = [first.start("stream-manager"), second.start("stream-manager")];
    let has_given_up = |platform: &Platform| {
        Daemon::run(&platform.root, &["list", "client3", "--json"], &[])
            .stdout
            .windows(8)
            .any(|part| part == b"given-up")
    };
    until(SOON, "one has given up", || has_given_up(&first) || has_given_up(&second));
    let topic = first.ingest_topic("client3");
    let (given_up, remaining) = if has_given_up(&first) { (first, second) } else { (second, first) };
    assert!(given_up.root.log("clients/client3/stream.log").contains("another process has connected"));
    let pid = remaining.until_instances("client3", 1).await[0];
    Mosquitto::publish(mosquitto().url(), &topic, &messages(0, 100));
    remaining.until_stored("client3", "readings", 100, SOON).await;
    assert!(remaining.running("client3").contains(&pid), "no other process disturbs it any more");
}

/// The second process on a data root reports which process holds it; the lock of a dead process blocks nobody.
#[test]
fn a_data_root_has_one_process_of_each_kind_and_a_dead_one_blocks_nothing() {
    let root = mysimbdp_testbed::Root::new(&json!({
        "broker": {"url": "mqtt://127.0.0.1:1"}, "clients": [documents("client2")],
    }));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    for (kind, lock) in [
        ("fetchdata", "client-input-directory/.fetchdata.lock"),
        ("batch-manager", "staging/.batch-manager.lock"),
        ("stream-manager", "state/.stream-manager.lock"),
        ("broker", "state/broker/.broker.lock"),
    ] {
        let lock = root.path().join(lock);
        std::fs::create_dir_all(lock.parent().expect("a directory")).expect("make a directory");
        // Left by a host that lost its power: the lock itself ended with the host, only the file remains.
        std::fs::write(&lock, "pid 1 on a-host-that-is-no-more\n").expect("write a stale lock");
        let holds = |daemon: &Daemon| {
            let holder = format!("pid {} on {}", daemon.pid(), host.trim());
            until(SOON, "it holds its lock", || {
                std::fs::read_to_string(&lock).is_ok_and(|text| text.trim() == holder)
            });
            holder
        };
        let mut first = Daemon::start(&root, &[kind], &[]);
        let holder = holds(&first);
        let second = Daemon::run(&root, &[kind], &[]);
        let printed =
            String::from_utf8_lossy(&second.stderr).into_owned() + &String::from_utf8_lossy(&second.stdout);
        assert_eq!(second.status.code(), Some(77), "{kind} printed {printed}");
        assert!(printed.contains(&holder), "{kind} printed {printed}");

        first.kill9();
        let mut third = Daemon::start(&root, &[kind], &[]);
        holds(&third);
        assert!(third.terminate().success(), "{kind}: {}", third.output());
    }
}
