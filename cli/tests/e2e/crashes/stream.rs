//! Messages: stream-manager and the stream apps die.
//!
//! Every case has the same load: a numbered source, with one message that does not match the client's schema. The
//! stream is scaled up and down again, so that an instance drains.

use bson::doc;
use mysimbdp_store::rejected::INLINE_BYTES_MAX;
use mysimbdp_testbed::{Daemon, Mosquitto, mongodb, mosquitto, until, until_async};
use serde_json::json;

use super::{assert_died, dies_once, start_to_die, wait_reconciled_with, walk};
use crate::support::{Platform, SOON, stream};

pub const MANAGER: &[&str] = &["stream-manager."];
pub const APP: &[&str] = &["stream-app."];

const CLIENT: &str = "client1";

/// Messages of one burst.
const BURST: u64 = 100;
/// The number of the message that is refused.
const REFUSED: u64 = 7;

#[test]
fn stream_manager_dies_between_any_two_steps() {
    walk(MANAGER, |point| async move {
        let fixture = StreamFixture::new(json!(["stream-app"])).await;
        let mut managers =
            Managers { armed: start_to_die(&fixture.platform, "stream-manager", point), next: None };
        fixture.wait_scaled(1, || managers.replace_if_dead(&fixture.platform, point));
        fixture.wait_subscribed().await;
        fixture.publish(0);
        for (burst, instances) in [(1, 2), (2, 1)] {
            fixture.wait_scaled(instances, || managers.replace_if_dead(&fixture.platform, point));
            fixture.publish(burst);
        }
        until(SOON, &format!("it dies at {point}"), || {
            managers.replace_if_dead(&fixture.platform, point);
            managers.next.is_some()
        });
        fixture.verify_outcome(3).await;
        until(SOON, "one instance is left", || managers.instances() == 1);
    });
}

#[test]
fn stream_apps_die_between_any_two_steps() {
    walk(APP, |point| async move {
        // The first instance is never drained.
        let drains = ["stream-app.unsubscribed", "stream-app.disconnected"].contains(&point);
        let condition = if drains { "test $MYSIMBDP_SLOT = 1" } else { "true" };
        let mut fixture = StreamFixture::new(json!(dies_once(condition, point, &["stream-app"]))).await;
        if point == "stream-app.payload-stored-beside" {
            fixture.refused = format!("seven{}", " ".repeat(INLINE_BYTES_MAX as usize));
        }
        let _stream_manager = fixture.platform.start("stream-manager");
        fixture.wait_scaled(1, || {});
        fixture.wait_subscribed().await;
        fixture.publish(0);
        if drains {
            fixture.wait_scaled(2, || {});
            fixture.publish(1);
            fixture.wait_scaled(1, || {});
        } else {
            fixture.publish(1);
        }
        super::wait_for_app_death(&fixture.platform, "clients/client1/stream.log", point).await;
        fixture.publish(2);
        fixture.verify_outcome(3).await;
    });
}

/// The manager that is to die, and its successor. The handle of the first is kept: dropping it would end the instances
/// that the second has adopted.
struct Managers {
    armed: Daemon,
    next: Option<Daemon>,
}

impl Managers {
    /// Starts the second when the first has died.
    fn replace_if_dead(&mut self, platform: &Platform, point: &str) {
        if self.next.is_none() && !self.armed.is_running() {
            assert_died(&mut self.armed, point);
            self.next = Some(platform.start("stream-manager"));
        }
    }

    /// The number of running apps, of either manager.
    fn instances(&self) -> usize {
        let managers = [Some(&self.armed), self.next.as_ref()].into_iter().flatten();
        let is_app = |pid: &u32| managers.clone().all(|manager| manager.pid() != *pid);
        managers.clone().flat_map(|manager| manager.session()).filter(is_app).count()
    }
}

struct StreamFixture {
    platform: Platform,
    /// The content of the message that is refused.
    refused: String,
}

impl StreamFixture {
    async fn new(command: serde_json::Value) -> Self {
        let fields = json!({"number": {"type": "integer"}});
        let settings = json!({
            "command": command,
            "env": {"MYSIMBDP_NUMBER_FIELDS": "source,epoch,seq"},
            "message_schema": {"type": "object", "required": ["number"], "properties": fields},
        });
        let clients = json!([stream(CLIENT, settings)]);
        let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
        Self { platform, refused: "seven".to_owned() }
    }

    /// Waits until the first instance has subscribed: before that, messages are delivered to nobody. The first message
    /// shows it, and may be published repeatedly, as it has a number.
    async fn wait_subscribed(&self) {
        until_async(SOON, "the first message is stored", async || {
            self.publish_numbers(1, 1);
            self.platform.count(CLIENT, "readings").await >= 1
        })
        .await;
    }

    fn publish(&self, burst: u64) {
        self.publish_numbers(burst * BURST + 1, BURST);
    }

    fn publish_numbers(&self, first: u64, count: u64) {
        let message = |sequence: u64| {
            let number = if sequence == REFUSED { json!(self.refused) } else { json!(sequence) };
            let message = json!({"source": "sensor", "epoch": "1", "seq": sequence, "number": number});
            format!("{message}\n")
        };
        let messages: String = (first..first + count).map(message).collect();
        Mosquitto::publish(mosquitto().url(), &self.platform.ingest_topic(CLIENT), &messages);
    }

    /// Requests this number of instances until the request is accepted and they run; calls `meanwhile` before each attempt.
    fn wait_scaled(&self, instances: usize, mut meanwhile: impl FnMut()) {
        let mut accepted = false;
        until(SOON, &format!("{instances} instances run"), || {
            meanwhile();
            if !accepted {
                let words = ["scale", CLIENT, &instances.to_string()];
                accepted = Daemon::run(&self.platform.root, &words, &[]).status.success();
            }
            accepted && self.platform.running(CLIENT).len() == instances
        });
    }

    /// Waits until every message is stored or listed as refused, each once.
    async fn verify_outcome(&self, bursts: u64) {
        let stored = bursts * BURST - 1;
        self.platform.until_stored(CLIENT, "readings", stored, SOON).await;
        until_async(SOON, "the refused message is listed", async || {
            self.platform.count(CLIENT, "rejected").await >= 1
        })
        .await;
        self.platform.until_stored(CLIENT, "rejected", 1, SOON).await;
        let readings = self.platform.client_database(CLIENT).collection::<bson::Document>("readings");
        let numbers = readings.distinct("seq", doc! {}).await.expect("read");
        assert_eq!(numbers.len() as u64, stored, "each number once");
        // The source sends again what a crash between the data and its marks has left unmarked.
        wait_reconciled_with(&self.platform, || self.publish_numbers(1, bursts * BURST));
        self.platform.until_stored(CLIENT, "readings", stored, SOON).await;
        self.platform.until_stored(CLIENT, "rejected", 1, SOON).await;
    }
}
