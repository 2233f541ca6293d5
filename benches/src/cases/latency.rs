//! How long a message takes until it is acknowledged, at a rate that everything can take.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bson::{RawDocumentBuf, rawdoc};
use futures::FutureExt;
use serde_json::json;

use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::cases::YARDSTICK;
use crate::failure::{BenchError, Result};
use crate::mqtt::consumer::{ConsumerKind, MeasuringConsumer};
use crate::mqtt::publisher::{PublishLoad, steady};
use crate::mqtt::tap::Tap;
use crate::percentile::percentile;
use crate::platform::RunningPlatform;
use crate::servers::{DEADLINE, Servers, clear};
use crate::wait::until;
use crate::yardsticks;
use rumqttc::v5::mqttbytes::QoS;

const CLIENT: &str = "steady";
/// Single inserts that are timed for each round.
const INSERTS: usize = 500;

pub const AT_1_000: Plan = Plan {
    name: "latency-1000",
    title: "latency at 1,000 msg/s, p99",
    unit: "ms",
    timed: "from the moment a message of QoS 1 is due to be published to its acknowledgement by the consumer, seen between \
            broker and consumer: platform: stored by then (majority, journal); yardstick: a consumer that acknowledges \
            at once, plus one insert of one such document (majority, journal), added message by message; driver alone: \
            from the moment a document is due to its acknowledgement, no broker, what is due together in one insert",
    goals: &[Goal::AtMostAbove(5.0, YARDSTICK)],
    rounds_max: u32::MAX,
    start: |extent| Latency::start(1_000, extent).boxed_local(),
};

pub const AT_20_000: Plan = Plan {
    name: "latency-20000",
    title: "latency at 20,000 msg/s, p99",
    start: |extent| Latency::start(20_000, extent).boxed_local(),
    ..AT_1_000
};

struct Latency {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    servers: Servers,
    tap: Tap,
    clock: Instant,
    per_second: u64,
    seconds: u64,
}

impl Latency {
    async fn start(per_second: u64, extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let clock = Instant::now();
        let tap = Tap::start(servers.mosquitto.port(), clock)?;
        let clients = json!([{
            "id": CLIENT,
            "streams": [{"command": ["stream-app"], "collection": "measured", "instances": {"min": 1, "max": 1}}],
        }]);
        let platform =
            RunningPlatform::up_through(&servers, &format!("mqtt://127.0.0.1:{}", tap.port()), clients);
        platform.instances(CLIENT, 1).await?;
        let case = Self { platform, servers, tap, clock, per_second, seconds: extent.of(2, 10) };
        Ok(Box::new(case))
    }

    /// The latency of every message of one run, in ascending order.
    async fn latencies(&self, topic: String) -> Result<Vec<Duration>> {
        let messages = self.per_second * self.seconds;
        let load = PublishLoad { topics: vec![topic], qos: QoS::AtLeastOnce, messages };
        let (port, per_second, clock) = (self.servers.mosquitto.port(), self.per_second, self.clock);
        drop(self.tap.take());
        let publishing = tokio::task::spawn_blocking(move || steady(port, &load, per_second, clock));
        publishing.await.map_err(BenchError::of("run the publisher"))??;
        let what = format!("{messages} messages are acknowledged");
        until(DEADLINE, &what, async || Ok(self.tap.len() >= messages)).await?;
        Ok(self.tap.take())
    }

    async fn platform(&self) -> Result<Sample> {
        let latencies = self.latencies(RunningPlatform::topic(CLIENT)).await?;
        clear(&self.platform.client_database(CLIENT)).await?;
        Ok(sample(latencies))
    }

    async fn yardstick(&self) -> Result<Sample> {
        let consumer =
            MeasuringConsumer::start(ConsumerKind::Lean, self.tap.port(), "alone/#", QoS::AtLeastOnce)
                .await?;
        let delivered = self.latencies("alone/measured".to_owned()).await?;
        drop(consumer);
        let documents: Vec<RawDocumentBuf> = (0..INSERTS).map(document).collect();
        let database = self.servers.database("yardstick");
        let url = self.servers.mongod.url();
        let inserted = yardsticks::sequential(&url, database.name(), &documents, 1).await?;
        clear(&database).await?;
        let both =
            delivered.iter().zip(inserted.iter().cycle()).map(|(delivered, inserted)| *delivered + *inserted);
        Ok(sample(both.collect())
            .with("ms p99 of delivery", percentile(delivered.clone(), 99))
            .with("ms p50 of an insert", percentile(inserted.clone(), 50))
            .with("ms p99 of an insert", percentile(inserted, 99)))
    }

    async fn driver(&self) -> Result<Sample> {
        let database = self.servers.database("driver");
        let inserted = yardsticks::paced(&database, &document(0), self.per_second, self.seconds).await?;
        clear(&database).await?;
        Ok(sample(inserted))
    }
}

#[async_trait(?Send)]
impl BenchCase for Latency {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp, to the acknowledgement"),
            Contender::new(ContenderKind::Yardstick, "mosquitto alone, and one insert"),
            Contender::new(ContenderKind::Peer, "driver alone, inserts at this rate"),
        ]
    }

    async fn run(&mut self, contender: usize, _round: u32) -> Result<Sample> {
        match contender {
            0 => self.platform().await,
            1 => self.yardstick().await,
            _ => self.driver().await,
        }
    }
}

/// One like those that the platform makes of the messages.
fn document(n: usize) -> RawDocumentBuf {
    rawdoc! {"n": n as i64, "sent": 0_i64, "temp": 12.5, "pad": "x".repeat(150)}
}

fn sample(latencies: Vec<Duration>) -> Sample {
    let middle = percentile(latencies.clone(), 50);
    Sample::of(percentile(latencies, 99)).with("ms p50", middle)
}
