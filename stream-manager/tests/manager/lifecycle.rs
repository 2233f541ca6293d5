//! Instances are started, stopped, restarted after a crash, and adopted.

use std::time::Duration;

use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_stream_manager::control::{Answer, Auto, ControlCommand, End, Scale};
use mysimbdp_testbed::{is_running, until, until_async};
use serde_json::json;

use crate::fixture::{CRASHING, Fixture, OBEDIENT, Running, SOON, STUBBORN, client, count};

async fn stop(manager: &Running, pid: u32, forget: bool) -> End {
    match manager.ask(ControlCommand::Stop { client: client("client1"), pid, forget }).await {
        Ok(Answer::Stopped { pid: stopped, end, .. }) if stopped == pid => end,
        other => panic!("not stopped: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn start_returns_a_pid_and_stop_accepts_it() {
    let fixture = Fixture::new(OBEDIENT, json!({}));
    let manager = fixture.start().await;
    let (first_slot, first) = manager.start_one().await;
    let (second_slot, second) = manager.start_one().await;
    assert_eq!((first_slot, second_slot), (0, 1));
    assert!(first != second && is_running(first) && is_running(second));

    assert_eq!(stop(&manager, first, false).await, End::Drained);
    assert!(!is_running(first) && is_running(second), "only the named one ends");
    assert_eq!(manager.states().await, "1 running");
    let (again, third) = manager.start_one().await;
    assert_eq!(again, 0, "the lowest free slot");
    assert_eq!(stop(&manager, third, false).await, End::Drained);

    assert_eq!(stop(&manager, second, false).await, End::SessionKept, "the last session is not ended");
    assert_eq!(manager.states().await, "1 parked");
    let status = manager.status().await;
    assert_eq!((status.desired, status.is_manual), (0, true));
    let log = fixture.log();
    assert_eq!(
        (count(&log, "drained 0"), count(&log, "drained 1"), count(&log, "stopped 1")),
        (2, 0, 1),
        "{log}"
    );

    assert_eq!(manager.start_one().await.0, 1, "messages may wait in the idle slot");
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_all_instances_and_the_next_start_resumes_every_session() {
    let fixture = Fixture::new(OBEDIENT, json!({}));
    let manager = fixture.start().await;
    let pids = [manager.start_one().await.1, manager.start_one().await.1];
    manager.shut_down().await;
    assert!(pids.iter().all(|pid| !is_running(*pid)));
    let log = fixture.log();
    assert_eq!((count(&log, "stopped"), count(&log, "drained")), (2, 0), "no session is ended: {log}");

    let manager = fixture.start().await;
    manager.until_states("0 running, 1 running").await;
    assert!(manager.status().await.is_manual, "the manual override outlives the manager");
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_adopts_the_instances_of_a_killed_one() {
    let fixture = Fixture::new(OBEDIENT, json!({"instances": {"min": 2, "max": 3}}));
    let manager = fixture.start().await;
    manager.until_states("0 running, 1 running").await;
    let before: Vec<_> = manager.instances().await.iter().map(|instance| instance.pid).collect();
    until(SOON, "both apps have started", || count(&fixture.log(), "started") == 2);
    manager.abort().await;

    let manager = fixture.start().await;
    let adopted = manager.instances().await;
    assert!(adopted.iter().all(|instance| instance.adopted && instance.state == "running"), "{adopted:?}");
    assert_eq!(adopted.iter().map(|instance| instance.pid).collect::<Vec<_>>(), before);
    assert_eq!(count(&fixture.log(), "started"), 2, "nothing was started twice");

    // It is unknown whether it drained cleanly, so its slot is drained once more.
    let pid = adopted[1].pid.expect("running");
    assert_eq!(stop(&manager, pid, false).await, End::Unfinished);
    assert!(!is_running(pid));
    manager.until_states("0 running").await;
    assert_eq!(count(&fixture.log(), "drained 1"), 2);

    // An adopted instance that ends without being asked counts as crashed, and is replaced.
    let pid = adopted[0].pid.expect("running");
    kill(pid, "TERM");
    until_async(SOON, "slot 0 has another process", async || {
        let instances = manager.instances().await;
        instances.len() == 1 && instances[0].state == "running" && instances[0].pid != Some(pid)
    })
    .await;
    assert_eq!(manager.instances().await[0].restarts, 1);
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_keeps_crashing_backs_off_and_is_given_up() {
    // An instance that runs as long as the longest wait resets the crash count. On a busy machine, a start and a failure alone
    // could take as long as a short one.
    let fixture = Fixture::new(CRASHING, json!({"instances": {"min": 1, "max": 3}}))
        .with_manager(json!({"backoff_max": "60s"}));
    let manager = fixture.start().await;
    manager.until_states("0 given-up").await;
    assert_eq!(count(&fixture.log(), "started"), 4, "the first start and three more");
    assert_eq!(manager.instances().await[0].restarts, 4);

    std::fs::write(fixture.root.path().join("app.sh"), OBEDIENT).expect("repair the app");
    assert_eq!(manager.start_one().await.0, 0, "start tries the slot again");
    let status = manager.status().await;
    assert_eq!((status.desired, status.instances.len()), (1, 1), "{status:?}");
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_hangs_is_killed_in_bounded_time_and_its_slot_is_not_forgotten() {
    let fixture = Fixture::new(STUBBORN, json!({}))
        .with_manager(json!({"stop_grace": "200ms", "backoff_first": "30s", "backoff_max": "30s"}));
    let manager = fixture.start().await;
    let (_, first) = manager.start_one().await;
    let (_, second) = manager.start_one().await;
    assert_eq!(stop(&manager, second, false).await, End::Unfinished);
    assert!(!is_running(second));
    assert_eq!(count(&fixture.log(), "asked 1"), 1, "it was signalled before it was killed");
    assert_eq!(manager.states().await, "0 running, 1 backing-off", "messages may be left in its session");
    manager.shut_down().await;
    assert!(!is_running(first), "a shutdown is bounded too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_is_reported_at_once() {
    let fixture = Fixture::new(OBEDIENT, json!({"command": ["no-such-program-anywhere"]}));
    let manager = fixture.start().await;
    let refused =
        manager.ask(ControlCommand::Start { client: client("client1"), pid: 0, stream: None }).await;
    let refused = refused.expect_err("cannot be started");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.to_string().contains("no-such-program-anywhere"), "{refused}");
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_before_the_store_is_available_and_the_reason_is_reported() {
    let fixture = Fixture::new(OBEDIENT, json!({"instances": {"min": 1, "max": 3}}));
    // A file where the embedded store's directory should be.
    let state = fixture.root.path().join("state");
    std::fs::create_dir_all(&state).expect("create a directory");
    std::fs::write(state.join("coredms"), "").expect("write a file");
    let manager = fixture.start().await;
    let config = manager.config.clone();
    let timeout = Duration::from_millis(300);
    let start = ControlCommand::Start { client: client("client1"), pid: 0, stream: None };
    let request = mysimbdp_stream_manager::control::Request::new(start, timeout);
    let refused = mysimbdp_stream_manager::control::client::request(&config.layout, &request, timeout).await;
    let refused = refused.expect_err("not started");
    assert_eq!(refused.kind(), ErrorKind::Temporary);
    assert!(refused.to_string().contains("store"), "{refused}");
    assert!(!manager.status().await.ready);

    std::fs::remove_file(state.join("coredms")).expect("remove the file");
    manager.until_states("0 running, 1 running").await;
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_with_other_settings_are_replaced_in_their_slots() {
    let mut fixture = Fixture::new(OBEDIENT, json!({"instances": {"min": 2, "max": 3}}));
    let manager = fixture.start().await;
    manager.until_states("0 running, 1 running").await;
    let before: Vec<_> = manager.instances().await.iter().map(|instance| instance.pid).collect();
    until(SOON, "both apps have started", || count(&fixture.log(), "started") == 2);
    manager.abort().await;

    fixture.config["clients"][0]["streams"][0]["env"] = json!({"NEW": "setting"});
    fixture.root.configure(&fixture.config);
    let manager = fixture.start().await;
    until_async(SOON, "both slots have new processes", async || {
        let instances = manager.instances().await;
        instances.len() == 2
            && instances.iter().all(|instance| instance.state == "running" && !before.contains(&instance.pid))
    })
    .await;
    assert_eq!(count(&fixture.log(), "drained"), 0, "no session was ended");
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_overrides_the_number_until_auto() {
    let fixture = Fixture::new(OBEDIENT, json!({"instances": {"min": 1, "max": 3}}));
    let manager = fixture.start().await;
    let scale = async |instances| match manager
        .ask(ControlCommand::Scale { client: client("client1"), stream: None, instances })
        .await
    {
        Ok(Answer::Scaled { desired, is_manual, .. }) => (desired, is_manual),
        other => panic!("not scaled: {other:?}"),
    };
    assert_eq!(scale(Scale::Count(3)).await, (3, true));
    manager.until_states("0 running, 1 running, 2 running").await;
    assert_eq!(scale(Scale::Count(1)).await, (1, true));
    manager.until_states("0 running").await;
    assert_eq!(scale(Scale::Count(0)).await, (0, true));
    manager.until_states("0 parked").await;
    assert_eq!(scale(Scale::Auto(Auto::Auto)).await, (1, false));
    manager.until_states("0 running").await;
    let log = fixture.log();
    assert_eq!((count(&log, "drained"), count(&log, "stopped 0")), (2, 1), "{log}");
    manager.shut_down().await;
}

fn kill(pid: u32, signal: &str) {
    let status = std::process::Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(status.expect("kill runs").success());
}
