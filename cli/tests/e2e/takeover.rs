//! Processes are killed, and others take over what they left: instances, brokers, data roots.

use std::path::Path;

use mysimbdp_testbed::mqtt::publish_with_paho;
use mysimbdp_testbed::{
    Daemon, Mosquitto, Signal, descendants, mongodb, mosquitto, signal, until, until_async,
};
use serde_json::{Value, json};

use crate::support::{LOADED, Platform, SOON, documents, keyed_stream, messages, number, readings};

/// The instances of a killed manager go on, and the next one takes them over as they are.
#[tokio::test(flavor = "multi_thread")]
async fn stream_manager_killed_under_load_leaves_instances_that_the_next_one_adopts() {
    const MESSAGES: u64 = 3_000;
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([keyed_stream("client3")])).await;
    let mut killed = platform.start("stream-manager");
    platform.instances("client3", 1).await;
    platform.command(0, &["scale", "client3", "3"]);
    let mut before = platform.instances("client3", 3).await;

    let topic = platform.ingest_topic("client3");
    let publish = move || publish_with_paho(mosquitto().url(), &topic, &messages(0, MESSAGES), 600);
    let publisher = tokio::task::spawn_blocking(publish);
    let stored = async |count| {
        let what = format!("{count} messages are stored");
        until_async(SOON, &what, async || platform.count("client3", "readings").await >= count).await;
    };
    stored(200).await;
    killed.kill9();
    // Nobody manages them, and they go on.
    stored(platform.count("client3", "readings").await + 300).await;

    let mut stream_manager = platform.start("stream-manager");
    let mut after = platform.instances("client3", 3).await;
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(before, after, "the same processes");
    let listed = platform.command(0, &["list", "client3", "--json"]);
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
    assert!(listed.iter().all(|instance| instance["adopted"] == true), "{listed:?}");
    // They obey the one who adopted them.
    platform.command(0, &["scale", "client3", "1"]);
    platform.instances("client3", 1).await;

    publisher.await.expect("all are published");
    platform.stored("client3", "readings", MESSAGES, LOADED).await;
    assert!(stream_manager.terminate().success(), "{}", stream_manager.output());
    for pid in before {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "instance {pid} is left");
    }
}

/// `up` starts the embedded broker anew, perhaps at another address, and everything finds it again.
#[tokio::test(flavor = "multi_thread")]
async fn embedded_broker_killed_under_up_is_started_again_and_everything_goes_on() {
    let mut client = documents("client3");
    client["streams"] = keyed_stream("client3")["streams"].clone();
    client["streams"][0]["collection"] = json!("messages");
    let platform = Platform::new(mongodb().url(), "mqtt://127.0.0.1:1", json!([client])).await;
    platform.use_embedded_broker();
    // Found by the bell alone.
    platform.set("batch_manager", json!({"scan_every": "60s"}));
    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    platform.instances("client3", 1).await;
    let topic = platform.ingest_topic("client3");
    Mosquitto::publish(&platform.embedded_broker(), &topic, &messages(0, 200));
    platform.stored("client3", "messages", 200, SOON).await;

    let broker_pid = || platform.embedded_broker_state()["pid"].as_u64();
    let pid = u32::try_from(broker_pid().expect("a broker runs")).expect("a pid");
    assert!(descendants(up.pid()).contains(&pid), "a child of up");
    signal(pid, Signal::KILL);
    until(SOON, "another broker runs", || {
        broker_pid().is_some_and(|other| other != u64::from(pid)) && !platform.embedded_broker().is_empty()
    });

    // A message is queued once the instance has subscribed again: nobody else could keep it.
    let again = |log: &str| {
        log.contains("connected to the broker again") || log.matches("connected to the broker").count() > 1
    };
    until(SOON, "the instance is connected again", || {
        again(&platform.root.log("clients/client3/stream.log"))
    });
    Mosquitto::publish(&platform.embedded_broker(), &topic, &messages(200, 200));
    platform.stored("client3", "messages", 400, SOON).await;
    until(SOON, "batch-manager listens again", || again(&platform.root.log("batch-manager.log")));
    let (content, rows) = readings(50_000);
    platform.root.drop_file("client3", "weather.csv", &content);
    let run = &platform.ingested("client3", 1, SOON).await[0];
    assert_eq!((number(run, "stored"), number(run, "rejected")), (rows as i64, 0));
    platform.command(0, &["scale", "client3", "2"]);
    platform.instances("client3", 2).await;
    assert!(up.interrupt().success(), "{}", up.output());
}

/// What it was to start again after its start it starts again during it.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_while_up_starts_it_is_started_again() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([documents("client2")])).await;
    for role in ["fetchdata", "batch-manager", "stream-manager"] {
        let mut up = Daemon::start(&platform.root, &["up"], &[]);
        let mut killed = None;
        until(SOON, "it is killed", || {
            let child = descendants(up.pid()).into_iter().find(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|words| words.contains(role))
            });
            killed = killed.or(child);
            killed.is_some()
        });
        signal(killed.expect("a pid"), Signal::KILL);
        up.until_output(SOON, "ready after");
        platform.command(0, &["health"]);
        assert!(up.interrupt().success(), "{role}: {}", up.output());
    }
}

/// The processes of a killed `up` end in order, which takes as long as the clients' apps take.
#[tokio::test(flavor = "multi_thread")]
async fn up_waits_for_the_processes_that_a_killed_one_has_left() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([keyed_stream("client3")])).await;
    platform.set("stream_manager", json!({"stop_grace": "4s"}));
    let mut killed = Daemon::start(&platform.root, &["up"], &[]);
    killed.until_output(SOON, "ready after");
    let instance = platform.instances("client3", 1).await[0];
    signal(instance, Signal::STOP);
    killed.kill9();

    let mut up = Daemon::start(&platform.root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    platform.instances("client3", 1).await;
    assert!(up.interrupt().success(), "{}", up.output());

    // One that a person has started is not waited for.
    let mut manager = platform.start("stream-manager");
    platform.instances("client3", 1).await;
    let said = platform.command(77, &["up"]);
    assert!(said.contains("stream-manager ended at its start"), "{said}");
    assert!(manager.terminate().success(), "{}", manager.output());
}

/// Two data roots by mistake with one topic prefix: their instances have the same client ids, and take the session from
/// each other until one side gives up, which a person sees.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_managers_with_one_topic_prefix_one_gives_way_after_a_few_attempts() {
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
    let (gone, stayed) = if has_given_up(&first) { (first, second) } else { (second, first) };
    assert!(gone.root.log("clients/client3/stream.log").contains("another process has connected"));
    let pid = stayed.instances("client3", 1).await[0];
    Mosquitto::publish(mosquitto().url(), &topic, &messages(0, 100));
    stayed.stored("client3", "readings", 100, SOON).await;
    assert!(stayed.running("client3").contains(&pid), "nobody disturbs it any more");
}

/// Of two that want one data root the second is told who holds it; a lock whose holder is dead holds nobody up.
#[test]
fn a_data_root_has_one_of_each_process_and_a_dead_one_holds_nothing() {
    let root = mysimbdp_testbed::Root::new(&json!({
        "broker": {"url": "mqtt://127.0.0.1:1"}, "clients": [documents("client2")],
    }));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    for (role, lock) in [
        ("fetchdata", "client-input-directory/.fetchdata.lock"),
        ("batch-manager", "staging/.batch-manager.lock"),
        ("stream-manager", "state/.stream-manager.lock"),
        ("broker", "state/broker/.broker.lock"),
    ] {
        let lock = root.path().join(lock);
        std::fs::create_dir_all(lock.parent().expect("a directory")).expect("make a directory");
        // Left by a host that has lost its power: the lock itself went with it.
        std::fs::write(&lock, "pid 1 on a-host-that-is-no-more\n").expect("write a stale lock");
        let holds = |daemon: &Daemon| {
            let holder = format!("pid {} on {}", daemon.pid(), host.trim());
            until(SOON, "it holds its lock", || {
                std::fs::read_to_string(&lock).is_ok_and(|text| text.trim() == holder)
            });
            holder
        };
        let mut first = Daemon::start(&root, &[role], &[]);
        let holder = holds(&first);
        let second = Daemon::run(&root, &[role], &[]);
        let said =
            String::from_utf8_lossy(&second.stderr).into_owned() + &String::from_utf8_lossy(&second.stdout);
        assert_eq!(second.status.code(), Some(77), "{role} said {said}");
        assert!(said.contains(&holder), "{role} said {said}");

        first.kill9();
        let mut third = Daemon::start(&root, &[role], &[]);
        holds(&third);
        assert!(third.terminate().success(), "{role}: {}", third.output());
    }
}
