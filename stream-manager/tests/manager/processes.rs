//! Processes that apps leave behind are killed, and no other process is ever signalled.

use jiff::Timestamp;
use mysimbdp_platform::process::ProcessId;
use mysimbdp_stream_manager::control::{ControlCommand, End};
use mysimbdp_stream_manager::instances::{Record, Registry, Started};
use mysimbdp_stream_manager::key::StreamKey;
use mysimbdp_testbed::{Process, is_running, until, until_async};
use serde_json::json;

use crate::fixture::{CRASHING, FORKING, Fixture, OBEDIENT, Running, SOON, client, count};

async fn stop(manager: &Running, pid: u32) -> End {
    match manager.ask(ControlCommand::Stop { client: client("client1"), pid, forget: false }).await {
        Ok(mysimbdp_stream_manager::control::Answer::Stopped { end, .. }) => end,
        other => panic!("not stopped: {other:?}"),
    }
}

/// The daemons whose pids the app has logged.
fn daemons(fixture: &Fixture) -> Vec<u32> {
    let log = fixture.log();
    log.lines().filter_map(|line| line.strip_prefix("daemon ")?.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_forks_and_ignores_sigterm_leaves_no_process() {
    let fixture = Fixture::new(FORKING, json!({"instances": {"min": 1, "max": 3}}))
        .with_manager(json!({"stop_grace": "200ms", "backoff_first": "30s", "backoff_max": "30s"}));
    let manager = fixture.start().await;
    until(SOON, "the app has forked", || daemons(&fixture).len() == 1);
    let (_, second) = manager.start_one().await;
    until(SOON, "the second one has forked", || daemons(&fixture).len() == 2);
    assert_eq!(stop(&manager, second).await, End::Unfinished);
    assert!(
        !is_running(second) && !is_running(daemons(&fixture)[1]),
        "the instance and its daemon have ended"
    );
    assert!(is_running(daemons(&fixture)[0]), "the daemon of the other instance is left alone");

    // The next manager is not the parent of the process that it adopts, but still cleans up after it.
    manager.abort().await;
    let manager = fixture.start().await;
    let first = manager.instances().await.iter().find(|instance| instance.slot == 0).and_then(|one| one.pid);
    let first = first.expect("adopted");
    stop(&manager, first).await;
    assert!(!is_running(first));
    until(SOON, "the adopted one's daemon has ended", || !is_running(daemons(&fixture)[0]));
    manager.shut_down().await;
    assert!(daemons(&fixture).iter().all(|daemon| !is_running(*daemon)));
}

/// A process with a recorded pid is a different one if its start time differs from the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_bystander_with_the_pid_of_a_recorded_instance_is_never_signalled() {
    let fixture = Fixture::new(OBEDIENT, json!({"instances": {"min": 2, "max": 3}}));
    let mut command = std::process::Command::new("sleep");
    command.arg("300");
    let mut bystander = Process::spawn(command);
    let now = ProcessId::of_pid(bystander.id()).expect("it runs");
    let earlier = ProcessId { start_time: now.start_time - 1, ..now };
    let record = |stream: &str| {
        let key = StreamKey { client: client("client1"), stream: stream.to_owned() }.slot(0);
        let process = Started { id: earlier, at: Timestamp::UNIX_EPOCH, fingerprint: 7 };
        let registry = Registry::open(&fixture.load().layout).expect("open the registry");
        registry.write(&Record { key, process: Some(process) }).expect("remember");
    };
    // One of a configured stream, and one that would be stopped as its stream is no longer configured.
    record("stream");
    record("gone");

    let manager = fixture.start().await;
    manager.until_states("0 running, 1 running").await;
    let instances = manager.instances().await;
    assert!(
        instances.iter().all(|instance| !instance.adopted && instance.pid != Some(now.pid)),
        "{instances:?}"
    );
    let refused =
        manager.ask(ControlCommand::Stop { client: client("client1"), pid: now.pid, forget: false }).await;
    assert!(refused.is_err(), "{refused:?}");
    manager.shut_down().await;
    assert_eq!(bystander.try_wait(), None, "the bystander was never signalled");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_keeps_crashing_delays_no_other_client() {
    let mut fixture = Fixture::new(CRASHING, json!({"instances": {"min": 3, "max": 3}}));
    std::fs::write(fixture.root.path().join("good.sh"), OBEDIENT).expect("write the other's app");
    let other = json!({"id": "client2", "streams": [
        {"name": "stream", "command": ["sh", "good.sh"], "instances": {"min": 1, "max": 1}},
    ]});
    fixture.config["clients"].as_array_mut().expect("an array").push(other);
    let fixture = fixture.with_manager(json!({"restarts_max": 8}));
    let manager = fixture.start().await;
    let started = || count(&fixture.root.log("clients/client2/stream.log"), "started");
    until(SOON, "the other client's instance runs", || started() == 1);
    assert!(
        !manager.states().await.contains("given-up"),
        "it did not wait until the crashing slots were given up"
    );
    until_async(SOON, "the crashing one is given up", async || {
        manager.states().await == "0 given-up, 1 given-up, 2 given-up"
    })
    .await;
    // More if a start took so long that the instance's crash count was reset.
    assert!(count(&fixture.log(), "started") >= 27, "each slot is started once and restarted eight times");
    assert_eq!(started(), 1, "the other one was left alone");
    manager.shut_down().await;
}
