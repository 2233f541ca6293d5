//! Messages: stream-manager and the stream apps die.
//!
//! Every scene has the same load: a numbered source, with one message that does not fit the client's structure. What
//! has been scaled up is scaled down again, so that an instance drains.

use bson::doc;
use mysimbdp_store::rejected::INLINE_BYTES_MAX;
use mysimbdp_testbed::{Daemon, Mosquitto, mongodb, mosquitto, until, until_async};
use serde_json::json;

use super::{dies_once, has_died, reconciles_after, start_to_die, walk};
use crate::support::{Platform, SOON, stream};

pub const MANAGER: &[&str] = &["stream-manager."];
pub const APP: &[&str] = &["stream-app."];

const CLIENT: &str = "client1";

/// Messages of one burst.
const BURST: u64 = 100;
/// The one that is refused.
const REFUSED: u64 = 7;

#[test]
fn stream_manager_dies_between_any_two_steps() {
    walk(MANAGER, |point| async move {
        let scene = Scene::new(json!(["stream-app"])).await;
        let mut managers =
            Managers { armed: start_to_die(&scene.platform, "stream-manager", point), next: None };
        scene.scaled(1, || managers.keep(&scene.platform, point));
        scene.subscribed().await;
        scene.publish(0);
        for (burst, instances) in [(1, 2), (2, 1)] {
            scene.scaled(instances, || managers.keep(&scene.platform, point));
            scene.publish(burst);
        }
        until(SOON, &format!("it dies at {point}"), || {
            managers.keep(&scene.platform, point);
            managers.next.is_some()
        });
        scene.ends_well(3).await;
        until(SOON, "one instance is left", || managers.instances() == 1);
    });
}

#[test]
fn stream_apps_die_between_any_two_steps() {
    walk(APP, |point| async move {
        // The first instance is never drained.
        let drains = ["stream-app.unsubscribed", "stream-app.taken-leave"].contains(&point);
        let condition = if drains { "test $MYSIMBDP_SLOT = 1" } else { "true" };
        let mut scene = Scene::new(json!(dies_once(condition, point, &["stream-app"]))).await;
        if point == "stream-app.payload-stored-beside" {
            scene.refused = format!("seven{}", " ".repeat(INLINE_BYTES_MAX as usize));
        }
        let _stream_manager = scene.platform.start("stream-manager");
        scene.scaled(1, || {});
        scene.subscribed().await;
        scene.publish(0);
        if drains {
            scene.scaled(2, || {});
            scene.publish(1);
            scene.scaled(1, || {});
        } else {
            scene.publish(1);
        }
        super::app_has_died(&scene.platform, "clients/client1/stream.log", point).await;
        scene.publish(2);
        scene.ends_well(3).await;
    });
}

/// The manager that is to die, and the one that comes after it. The first one's handle stays: with it would go the
/// instances that the second has adopted.
struct Managers {
    armed: Daemon,
    next: Option<Daemon>,
}

impl Managers {
    /// Starts the second when the first has died.
    fn keep(&mut self, platform: &Platform, point: &str) {
        if self.next.is_none() && !self.armed.is_running() {
            has_died(&mut self.armed, point);
            self.next = Some(platform.start("stream-manager"));
        }
    }

    /// How many apps run, of whichever manager.
    fn instances(&self) -> usize {
        let managers = [Some(&self.armed), self.next.as_ref()].into_iter().flatten();
        let is_app = |pid: &u32| managers.clone().all(|manager| manager.pid() != *pid);
        managers.clone().flat_map(|manager| manager.session()).filter(is_app).count()
    }
}

struct Scene {
    platform: Platform,
    /// What the message says that is refused.
    refused: String,
}

impl Scene {
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

    /// Waits until the first instance has subscribed: before that, messages go to nobody. It is the first message that
    /// tells, which may come as often as it likes, as it has a number.
    async fn subscribed(&self) {
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

    /// Asks for so many instances until it is heard and they run; `meanwhile` is called all the while.
    fn scaled(&self, instances: usize, mut meanwhile: impl FnMut()) {
        let mut heard = false;
        until(SOON, &format!("{instances} instances run"), || {
            meanwhile();
            if !heard {
                let words = ["scale", CLIENT, &instances.to_string()];
                heard = Daemon::run(&self.platform.root, &words, &[]).status.success();
            }
            heard && self.platform.running(CLIENT).len() == instances
        });
    }

    /// Waits until every message is stored or listed as refused, each once.
    async fn ends_well(&self, bursts: u64) {
        let stored = bursts * BURST - 1;
        self.platform.stored(CLIENT, "readings", stored, SOON).await;
        until_async(SOON, "the refused message is listed", async || {
            self.platform.count(CLIENT, "rejected").await >= 1
        })
        .await;
        self.platform.stored(CLIENT, "rejected", 1, SOON).await;
        let readings = self.platform.client_database(CLIENT).collection::<bson::Document>("readings");
        let numbers = readings.distinct("seq", doc! {}).await.expect("read");
        assert_eq!(numbers.len() as u64, stored, "each number once");
        // What a crash between the data and its marks has left unmarked, its source sends again.
        reconciles_after(&self.platform, || self.publish_numbers(1, bursts * BURST));
        self.platform.stored(CLIENT, "readings", stored, SOON).await;
        self.platform.stored(CLIENT, "rejected", 1, SOON).await;
    }
}
