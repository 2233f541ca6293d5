//! What is left of apps, and who is never signalled.

use jiff::Timestamp;
use mysimbdp_platform::process::ProcessId;
use mysimbdp_stream_manager::control::{Command, End};
use mysimbdp_stream_manager::instances::{Record, Registry, Started};
use mysimbdp_stream_manager::key::StreamKey;
use mysimbdp_testbed::{Process, is_running, until, until_async};
use serde_json::json;

use crate::bed::{Bed, CRASHING, FORKING, OBEDIENT, Running, SOON, client, count};

async fn stop(manager: &Running, pid: u32) -> End {
    match manager.ask(Command::Stop { client: client("client1"), pid, forget: false }).await {
        Ok(mysimbdp_stream_manager::control::Answer::Stopped { end, .. }) => end,
        other => panic!("not stopped: {other:?}"),
    }
}

/// The daemons that the app has named in its log.
fn daemons(bed: &Bed) -> Vec<u32> {
    let log = bed.log();
    log.lines().filter_map(|line| line.strip_prefix("daemon ")?.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_an_app_that_forks_away_and_ignores_the_order_to_end() {
    let bed = Bed::new(FORKING, json!({"instances": {"min": 1, "max": 3}}))
        .with_manager(json!({"stop_grace": "200ms", "backoff_first": "30s", "backoff_max": "30s"}));
    let manager = bed.start().await;
    until(SOON, "the app has forked", || daemons(&bed).len() == 1);
    let (_, second) = manager.start_one().await;
    until(SOON, "the second one has forked", || daemons(&bed).len() == 2);
    assert_eq!(stop(&manager, second).await, End::Unfinished);
    assert!(!is_running(second) && !is_running(daemons(&bed)[1]), "neither it nor its daemon");
    assert!(is_running(daemons(&bed)[0]), "the other one's daemon is its own");

    // The next manager is not the parent of what it adopts, and cleans up after it all the same.
    manager.vanish().await;
    let manager = bed.start().await;
    let first = manager.instances().await.iter().find(|instance| instance.slot == 0).and_then(|one| one.pid);
    let first = first.expect("adopted");
    stop(&manager, first).await;
    assert!(!is_running(first));
    until(SOON, "the adopted one's daemon has ended", || !is_running(daemons(&bed)[0]));
    manager.shut_down().await;
    assert!(daemons(&bed).iter().all(|daemon| !is_running(*daemon)));
}

/// A process that has a pid which the registry remembers is another one, if its start time is.
#[tokio::test(flavor = "multi_thread")]
async fn a_bystander_with_the_pid_of_a_remembered_instance_is_never_signalled() {
    let bed = Bed::new(OBEDIENT, json!({"instances": {"min": 2, "max": 3}}));
    let mut command = std::process::Command::new("sleep");
    command.arg("300");
    let mut bystander = Process::spawn(command);
    let now = ProcessId::of_pid(bystander.id()).expect("it runs");
    let earlier = ProcessId { start_time: now.start_time - 1, ..now };
    let remember = |stream: &str| {
        let key = StreamKey { client: client("client1"), stream: stream.to_owned() }.slot(0);
        let process = Started { id: earlier, at: Timestamp::UNIX_EPOCH, fingerprint: 7 };
        let registry = Registry::open(&bed.load().layout).expect("open the registry");
        registry.write(&Record { key, process: Some(process) }).expect("remember");
    };
    // One of a stream that runs, and one that would be stopped as its stream is not configured any more.
    remember("stream");
    remember("gone");

    let manager = bed.start().await;
    manager.until_states("0 running, 1 running").await;
    let instances = manager.instances().await;
    assert!(
        instances.iter().all(|instance| !instance.adopted && instance.pid != Some(now.pid)),
        "{instances:?}"
    );
    let refused = manager.ask(Command::Stop { client: client("client1"), pid: now.pid, forget: false }).await;
    assert!(refused.is_err(), "{refused:?}");
    manager.shut_down().await;
    assert_eq!(bystander.try_wait(), None, "the bystander was never signalled");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_crashes_again_and_again_keeps_no_other_client_waiting() {
    let mut bed = Bed::new(CRASHING, json!({"instances": {"min": 3, "max": 3}}));
    std::fs::write(bed.root.path().join("good.sh"), OBEDIENT).expect("write the other's app");
    let other = json!({"id": "client2", "streams": [
        {"name": "stream", "command": ["sh", "good.sh"], "instances": {"min": 1, "max": 1}},
    ]});
    bed.config["clients"].as_array_mut().expect("an array").push(other);
    let bed = bed.with_manager(json!({"restarts_max": 8}));
    let manager = bed.start().await;
    let started = || count(&bed.root.log("clients/client2/stream.log"), "started");
    until(SOON, "the other client's instance runs", || started() == 1);
    assert!(!manager.states().await.contains("given-up"), "it did not wait for the end of the crashes");
    until_async(SOON, "the crashing one is given up", async || {
        manager.states().await == "0 given-up, 1 given-up, 2 given-up"
    })
    .await;
    // More where starting took so long that an instance counts as one that lived.
    assert!(count(&bed.log(), "started") >= 27, "each slot is started once and eight times more");
    assert_eq!(started(), 1, "the other one was left alone");
    manager.shut_down().await;
}
