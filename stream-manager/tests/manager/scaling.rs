//! Reports make the manager start and drain instances, within bounds; invalid reports change nothing.

use std::time::{Duration, Instant};

use mysimbdp_broker::{BrokerLink, ConnectOptions};
use mysimbdp_testbed::{until, until_async};
use serde_json::json;

use crate::fixture::{Fixture, OBEDIENT, Running, SOON, count};

struct Reporter {
    link: BrokerLink,
    topic: String,
}

impl Reporter {
    async fn connect(fixture: &Fixture) -> Self {
        let options = ConnectOptions::new(fixture.broker.url(), format!("{}-reporter", fixture.prefix));
        let (link, _events) = BrokerLink::connect(options, Vec::new()).expect("valid address");
        link.wait_connected(SOON).await.expect("the broker runs");
        Self { link, topic: format!("{}/stream/reports/client1", fixture.prefix) }
    }

    async fn send(&self, payload: String) {
        self.link.publish_to(&self.topic, payload).await.expect("the broker accepts it");
    }
}

/// Sends a report of each running instance, every 50 ms, until the manager runs `count` of them.
async fn report_until(manager: &Running, reporter: &Reporter, count: usize, report: impl Fn(&str) -> String) {
    let mut most = 0;
    until_async(SOON, &format!("{count} instances run"), async || {
        let running: Vec<_> =
            manager.instances().await.into_iter().filter(|instance| instance.state == "running").collect();
        most = most.max(running.len());
        for instance in &running {
            let prefix = manager.config.settings.broker.topic_prefix.clone();
            reporter.send(report(&format!("{prefix}-client1.stream.{}", instance.slot))).await;
        }
        running.len() == count
    })
    .await;
    assert!(most <= 3, "never more than max");
}

async fn scales_up_and_down(report: impl Fn(&str, f64) -> String) {
    let scaling = json!({"target": {"cooldown": "200ms", "stabilization": "500ms"}});
    let fixture = Fixture::new(OBEDIENT, json!({"instances": {"min": 1, "max": 3}, "scaling": scaling}));
    let manager = fixture.start().await;
    manager.until_states("0 running").await;
    let reporter = Reporter::connect(&fixture).await;
    report_until(&manager, &reporter, 3, |instance| report(instance, 1.0)).await;
    // Longer than a cooldown: the number stays within bounds however long the load lasts.
    let held = Instant::now();
    while held.elapsed() < Duration::from_millis(600) {
        report_until(&manager, &reporter, 3, |instance| report(instance, 1.0)).await;
    }
    report_until(&manager, &reporter, 1, |instance| report(instance, 0.01)).await;
    manager.until_states("0 running").await;
    assert_eq!(count(&fixture.log(), "drained 2"), 1, "the highest slots are drained");
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_policy_follows_reports_in_the_object_form() {
    scales_up_and_down(|instance, utilization| {
        json!({
            "client_name": "client1", "average_processing_time": 0.001, "total_number_of_messages_ingested": 10,
            "total_size_of_messages_ingested": 1000, "instance": instance, "interval": 0.2, "utilization": utilization,
        })
        .to_string()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_policy_follows_reports_in_the_array_form() {
    // In 0.2 s, 10 messages one after the other.
    scales_up_and_down(|_, utilization| json!(["client1", utilization * 0.02, 10, 1000]).to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_thresholds_policy_follows_reports_too() {
    let scaling = json!({"policy": "thresholds", "thresholds": {
        "cooldown": "100ms", "up_messages": 10, "down_messages": 1000, "up_processing_time": "50ms",
        "down_processing_time": "5ms",
    }});
    let fixture = Fixture::new(OBEDIENT, json!({"instances": {"min": 1, "max": 3}, "scaling": scaling}));
    let manager = fixture.start().await;
    manager.until_states("0 running").await;
    let reporter = Reporter::connect(&fixture).await;
    report_until(&manager, &reporter, 3, |_| json!(["client1", 0.06, 100, 1000]).to_string()).await;
    report_until(&manager, &reporter, 1, |_| json!(["client1", 0.02, 2000, 1000]).to_string()).await;
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_clients_together_may_have_is_the_reason_that_is_given() {
    let scaling = json!({"target": {"cooldown": "100ms", "stabilization": "500ms"}});
    let fixture = Fixture::new(OBEDIENT, json!({"instances": {"min": 1, "max": 3}, "scaling": scaling}));
    let fixture = fixture.with_manager(json!({"instances_max": 2}));
    let manager = fixture.start().await;
    manager.until_states("0 running").await;
    let reporter = Reporter::connect(&fixture).await;
    // Busier than two instances can be.
    let busy = |_: &str| json!(["client1", 0.02, 10, 1000]).to_string();
    report_until(&manager, &reporter, 2, busy).await;
    until_async(SOON, "the reason is given", async || {
        report_until(&manager, &reporter, 2, busy).await;
        let decisions = manager.status().await.decisions;
        let latest = &decisions[0];
        latest.reason.contains("stream_manager.instances_max")
            && (latest.desired, latest.recommended) == (2, Some(3))
    })
    .await;
    manager.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_reports_change_nothing() {
    let scaling = json!({"target": {"cooldown": "1ms", "stabilization": "1ms"}});
    let fixture = Fixture::new(OBEDIENT, json!({"instances": {"min": 1, "max": 3}, "scaling": scaling}));
    let manager = fixture.start().await;
    manager.until_states("0 running").await;
    let reporter = Reporter::connect(&fixture).await;
    let instance = format!("{}-client1.stream.0", fixture.prefix);
    let valid = |instance: &str, messages: u64, utilization: f64| {
        json!({
            "client_name": "client1", "average_processing_time": 0.001,
            "total_number_of_messages_ingested": messages, "total_size_of_messages_ingested": 1000,
            "instance": instance, "interval": 0.2, "utilization": utilization,
        })
        .to_string()
    };
    // The manager must receive reports at all before invalid ones prove anything.
    until_async(SOON, "the manager receives reports", async || {
        reporter.send(valid(&instance, 1, 0.5)).await;
        manager.instances().await[0].messages > 0
    })
    .await;
    for cycle in 0..50 {
        for invalid in [
            "__import__('os').system('id')".to_owned(),
            json!(["client1", -1, 10, 1000]).to_string(),
            json!(["batchonly", 1, 1000, 1000]).to_string(),
            valid(&format!("{}-client1.stream.1", fixture.prefix), 1000, 1.0),
            valid("nobody", 1000, 1.0),
            valid(&instance, 1000, 2.0),
            format!("[{}", "[".repeat(cycle * 100)),
        ] {
            reporter.send(invalid).await;
        }
    }
    let before = manager.instances().await[0].messages;
    reporter.send(valid(&instance, 1_000_000, 0.5)).await;
    until_async(SOON, "the report after them is received", async || {
        manager.instances().await[0].messages >= before + 1_000_000
    })
    .await;
    let status = manager.status().await;
    assert_eq!((status.desired, status.instances.len()), (1, 1), "{status:?}");
    until(SOON, "the app has started", || count(&fixture.log(), "started") == 1);
    manager.shut_down().await;
}
