//! Requests to the manager, over the socket and over MQTT, and those that it refuses.

use std::process::Command as Program;
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_broker::consumer::Consumer;
use mysimbdp_broker::{BrokerLink, ConnectOptions, Incoming, LinkEvent, Publish};
use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_model::layout::Layout;
use mysimbdp_stream_manager::Error;
use mysimbdp_stream_manager::control::client::{ControlError, request};
use mysimbdp_stream_manager::control::{
    Answer, ControlCommand, End, Refusal, Request, RequestOutcome, Response, Scale,
};
use mysimbdp_testbed::{Process, is_running, until};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::fixture::{Fixture, OBEDIENT, Running, SOON, STUBBORN, client, count};

async fn refused(manager: &Running, command: ControlCommand) -> (Refusal, ErrorKind) {
    match manager.ask(command.clone()).await {
        Err(error) => {
            let kind = error.kind();
            let ControlError::Refused(refusal) = error else { panic!("{command:?}: {error}") };
            (refusal, kind)
        }
        Ok(answer) => panic!("{command:?} was answered: {answer:?}"),
    }
}

fn start(name: &str, pid: u32, stream: Option<&str>) -> ControlCommand {
    ControlCommand::Start { client: client(name), pid, stream: stream.map(str::to_owned) }
}

fn stop(name: &str, pid: u32) -> ControlCommand {
    ControlCommand::Stop { client: client(name), pid, forget: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_says_what_is_allowed_and_has_the_right_kind() {
    let mut fixture = Fixture::new(OBEDIENT, json!({"instances": {"min": 0, "max": 1}}));
    let two = json!({"id": "two", "streams": [
        {"name": "a", "command": ["sh", "app.sh"], "topic_filter": "x/a", "instances": {"min": 0, "max": 1}},
        {"name": "b", "command": ["sh", "app.sh"], "topic_filter": "x/b", "instances": {"min": 0, "max": 1}},
    ]});
    fixture.config["clients"].as_array_mut().expect("clients").push(two);
    fixture.root.configure(&fixture.config);
    let fixture = fixture.with_manager(json!({"instances_max": 2}));
    let manager = fixture.start().await;
    let (_, ours) = manager.start_one().await;
    let mut sleep = Program::new("sleep");
    sleep.arg("60");
    let mut bystander = Process::spawn(sleep);

    let many = ControlCommand::Scale { client: client("client1"), stream: None, instances: Scale::Count(2) };
    for (command, expected, says) in [
        (start("nobody", 0, None), ErrorKind::NotFound, "batchonly, client1, two"),
        (stop("nobody", ours), ErrorKind::NotFound, "batchonly, client1, two"),
        (
            ControlCommand::List { client: Some(client("nobody")) },
            ErrorKind::NotFound,
            "batchonly, client1, two",
        ),
        (start("batchonly", 0, None), ErrorKind::NotFound, "no streams"),
        (start("two", 0, None), ErrorKind::InvalidRequest, "a, b"),
        (start("two", 0, Some("c")), ErrorKind::NotFound, "a, b"),
        (start("client1", 4711, None), ErrorKind::InvalidRequest, "expected 0"),
        (start("client1", 0, None), ErrorKind::NotPermitted, "at most 1 instances (instances.max)"),
        (many, ErrorKind::NotPermitted, "at most 1 instances (instances.max)"),
        (stop("client1", 0), ErrorKind::InvalidRequest, &ours.to_string()),
        (stop("client1", bystander.id()), ErrorKind::NotPermitted, &ours.to_string()),
        (stop("client1", std::process::id()), ErrorKind::NotPermitted, &ours.to_string()),
        (stop("two", ours), ErrorKind::NotPermitted, "its instances: none"),
    ] {
        let (refusal, kind) = refused(&manager, command.clone()).await;
        assert_eq!(kind, expected, "{command:?}: {refusal}");
        assert!(refusal.to_string().contains(says), "{refusal} does not say {says}");
    }
    assert!(bystander.is_running() && is_running(ours), "nobody was signalled");

    let in_a = manager.ask(start("two", 0, Some("a"))).await.expect("one more instance is allowed");
    assert!(matches!(in_a, Answer::Started { .. }));
    let (refusal, kind) = refused(&manager, start("two", 0, Some("b"))).await;
    assert_eq!((refusal, kind), (Refusal::AllMaxReached { max: 2 }, ErrorKind::NotPermitted));
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_manager_gets_a_clear_error() {
    let root = tempfile::tempdir().expect("temporary directory");
    let timeout = Duration::from_secs(1);
    let (layout, list) =
        (Layout::new(root.path()), Request::new(ControlCommand::List { client: None }, timeout));
    let error = request(&layout, &list, timeout).await.expect_err("nobody answers");
    assert!(matches!(error, ControlError::NoManager { .. }));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("mysimbdp stream-manager"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_manager_is_refused_and_the_first_continues() {
    let fixture = Fixture::new(OBEDIENT, json!({}));
    let manager = fixture.start().await;
    let (_shutdown, stop) = watch::channel(false);
    let second = mysimbdp_stream_manager::run(Arc::clone(&manager.config), stop).await;
    let error = second.expect_err("the lock is held");
    assert!(matches!(error, Error::Lock(_)));
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
    assert!(error.to_string().contains(&std::process::id().to_string()), "it says who holds it: {error}");
    manager.start_one().await;
    manager.shut_down().await;
}

/// Sends requests over MQTT.
struct Remote {
    link: BrokerLink,
    events: mpsc::Receiver<LinkEvent>,
    control: String,
    answers: String,
}

impl Remote {
    async fn connect(fixture: &Fixture) -> Self {
        let answers = format!("{}/test/answers", fixture.prefix);
        let options = ConnectOptions::new(fixture.broker.url(), format!("{}-remote", fixture.prefix));
        let (link, events) = BrokerLink::connect(options, vec![answers.clone()]).expect("valid address");
        link.wait_connected(SOON).await.expect("the broker runs");
        Self { link, events, control: format!("{}/stream/control", fixture.prefix), answers }
    }

    async fn send(&self, payload: Vec<u8>, correlation: &'static [u8], retain: bool) {
        let publish = Publish {
            retain,
            response_topic: Some(self.answers.clone()),
            correlation: Some(correlation.into()),
            ..Publish::new(&self.control, payload)
        };
        self.link.publish(publish).await.expect("the broker accepts it");
    }

    /// Returns once the manager has answered a request, and so has handled everything that was sent before.
    async fn until_handled(&mut self) {
        loop {
            let list = Request::new(ControlCommand::List { client: None }, SOON);
            self.send(serde_json::to_vec(&list).expect("serialises"), b"list", false).await;
            let answered = async { while self.answer().await.0.id != list.id {} };
            // A request that was sent before the manager had subscribed is lost, so it is sent again.
            if tokio::time::timeout(Duration::from_millis(500), answered).await.is_ok() {
                return;
            }
        }
    }

    async fn answer(&mut self) -> (Response, Option<bytes::Bytes>) {
        let next = async {
            loop {
                match self.events.recv().await.expect("the link is open") {
                    LinkEvent::Message(Incoming { payload, correlation, .. }) => {
                        return (payload, correlation);
                    }
                    LinkEvent::Connected | LinkEvent::Disconnected { .. } => {}
                }
            }
        };
        let (payload, correlation) = tokio::time::timeout(SOON, next).await.expect("an answer arrives");
        (serde_json::from_slice(&payload).expect("a response"), correlation)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_over_mqtt_is_answered_again_and_not_run_again() {
    let fixture = Fixture::new(OBEDIENT, json!({}));
    let manager = fixture.start().await;
    let mut remote = Remote::connect(&fixture).await;
    remote.until_handled().await;

    let request = Request::new(start("client1", 0, None), SOON);
    let payload = serde_json::to_vec(&request).expect("serialises");
    let mut pids = Vec::new();
    for correlation in [b"first", b"again"] {
        remote.send(payload.clone(), correlation, false).await;
        let (response, returned) = loop {
            let answer = remote.answer().await;
            if answer.0.id == request.id {
                break answer;
            }
        };
        assert_eq!(returned.as_deref(), Some(&correlation[..]));
        let RequestOutcome::Answer(Answer::Started { pid, .. }) = response.outcome else {
            panic!("{response:?}")
        };
        pids.push(pid);
    }
    assert_eq!(pids[0], pids[1]);
    assert_eq!(manager.instances().await.len(), 1);

    let expired =
        Request { expires_at: jiff::Timestamp::UNIX_EPOCH, ..Request::new(start("client1", 0, None), SOON) };
    remote.send(serde_json::to_vec(&expired).expect("serialises"), b"late", false).await;
    let (response, _) = remote.answer().await;
    assert_eq!((response.id, response.outcome), (expired.id, Refusal::Expired.into()));

    manager.shut_down().await;
}

/// Sends many of each, as fast as the broker accepts them.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_invalid_expired_and_repeated_requests_changes_nothing() {
    let fixture = Fixture::new(OBEDIENT, json!({}));
    let manager = fixture.start().await;
    let mut remote = Remote::connect(&fixture).await;
    remote.until_handled().await;
    let bytes = |request: &Request| serde_json::to_vec(request).expect("serialises");
    let run_once = Request::new(start("client1", 0, None), SOON);
    let expired =
        Request { expires_at: jiff::Timestamp::MIN, ..Request::new(start("client1", 0, None), SOON) };
    let id_of_run = Request { id: run_once.id.clone(), ..Request::new(start("client1", 0, None), SOON) };
    let mut payloads = vec![
        bytes(&run_once),
        bytes(&id_of_run),
        bytes(&expired),
        bytes(&Request { id: "x".repeat(129), ..run_once.clone() }),
        bytes(&Request::new(stop("client1", 1), SOON)),
        bytes(&Request::new(stop("client1", u32::MAX), SOON)),
        bytes(&Request::new(
            ControlCommand::Scale {
                client: client("client1"),
                stream: None,
                instances: Scale::Count(u32::MAX),
            },
            SOON,
        )),
        bytes(&Request::new(start("client1", 1, Some("../../x")), SOON)),
        b"{\"verb\":\"exec\",\"command\":\"id\"}".to_vec(),
        b"\xff\x00".to_vec(),
        "[".repeat(60_000).into_bytes(),
        Vec::new(),
    ];
    // Larger than any request may be.
    payloads.push(vec![b'{'; 1_000_000]);
    for cycle in 0..20 {
        for payload in &payloads {
            remote.send(payload.clone(), b"invalid", false).await;
        }
        // Response topics on which nothing can be published, and one on which the answer would itself be a request.
        for topic in ["#", "a/+/b", &remote.control] {
            let list = Request {
                id: format!("{cycle}{topic}"),
                ..Request::new(ControlCommand::List { client: None }, SOON)
            };
            let response_topic = Some(topic.to_owned());
            let publish = Publish { response_topic, ..Publish::new(&remote.control, bytes(&list)) };
            // The broker may refuse it.
            let _ = remote.link.publish(publish).await;
        }
    }
    remote.until_handled().await;
    manager.until_states("0 running").await;
    assert_eq!(manager.status().await.desired, 1, "it was started once");
    assert_eq!(count(&fixture.log(), "started"), 1);
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retained_request_is_not_run_by_each_manager_that_starts() {
    let fixture = Fixture::new(OBEDIENT, json!({}));
    let manager = fixture.start().await;
    let mut remote = Remote::connect(&fixture).await;
    remote.until_handled().await;
    let retained = Request::new(start("client1", 0, None), Duration::from_secs(600));
    let retained = serde_json::to_vec(&retained).expect("serialises");
    // A client that is already subscribed gets it like any other message.
    remote.send(retained, b"", true).await;
    manager.until_states("0 running").await;
    remote.send(b"{\"verb\":\"start\",\"client\":\"client1\"}".to_vec(), b"", false).await;
    manager.abort().await;

    let manager = fixture.start().await;
    remote.until_handled().await;
    assert_eq!(manager.states().await, "0 running");
    // Clears the retained message.
    remote.send(Vec::new(), b"", true).await;
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_for_a_stream_without_instances_wait_in_the_session_that_the_manager_created() {
    let fixture = Fixture::new(OBEDIENT, json!({}));
    let manager = fixture.start().await;
    manager.until_states("0 parked").await;
    publish(&fixture, "before any instance ran").await;
    assert_eq!(first_message(&fixture).await, "before any instance ran");
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_forget_ends_the_last_session_even_if_the_app_does_not() {
    let fixture = Fixture::new(STUBBORN, json!({})).with_manager(json!({"stop_grace": "100ms"}));
    let manager = fixture.start().await;
    manager.until_states("0 parked").await;
    let (_, pid) = manager.start_one().await;
    until(SOON, "the app has started", || count(&fixture.log(), "started") == 1);
    publish(&fixture, "lost with the session").await;
    let stopped = manager.ask(ControlCommand::Stop { client: client("client1"), pid, forget: true }).await;
    assert!(matches!(stopped, Ok(Answer::Stopped { end: End::Forgotten, .. })), "{stopped:?}");
    assert_eq!(manager.states().await, "");
    manager.abort().await;
    let manager = fixture.start().await;
    assert_eq!(manager.states().await, "", "a session that a person has ended is not created again");

    // The next client in the slot gets no earlier message: its first one was published later.
    let (consumer, mut deliveries) = connect(&fixture);
    consumer.wait_connected(SOON).await.expect("the broker runs");
    publish(&fixture, "later").await;
    let first = tokio::time::timeout(SOON, deliveries.recv())
        .await
        .expect("a message arrives")
        .expect("not taken over");
    assert_eq!(first.payload, "later");
    consumer.disconnect(true).await.expect("the broker runs");
    manager.shut_down().await;
}

async fn publish(fixture: &Fixture, text: &'static str) {
    let options = ConnectOptions::new(fixture.broker.url(), format!("{}-sensor", fixture.prefix));
    let (link, _events) = BrokerLink::connect(options, Vec::new()).expect("valid address");
    link.wait_connected(SOON).await.expect("the broker runs");
    link.publish_to(format!("{}/ingest/client1/t", fixture.prefix), text)
        .await
        .expect("the broker accepts it");
    link.close().await;
}

/// Connects in place of an instance in slot 0.
fn connect(fixture: &Fixture) -> (Consumer, mysimbdp_broker::consumer::Deliveries) {
    let options = ConnectOptions {
        session_expiry: Some(Duration::from_secs(60)),
        ..ConnectOptions::new(fixture.broker.url(), format!("{}-client1.stream.0", fixture.prefix))
    };
    let filter = format!("$share/client1/{}/ingest/client1/#", fixture.prefix);
    Consumer::connect(options, vec![filter]).expect("valid address")
}

async fn first_message(fixture: &Fixture) -> bytes::Bytes {
    let (consumer, mut deliveries) = connect(fixture);
    let first = tokio::time::timeout(SOON, deliveries.recv())
        .await
        .expect("a message arrives")
        .expect("not taken over");
    consumer.disconnect(true).await.expect("the broker runs");
    first.payload
}
