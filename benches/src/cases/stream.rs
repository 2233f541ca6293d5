//! Messages to documents, as many as can be.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::cases::{MEMORY_KIB_MAX, PEER, YARDSTICK};
use crate::effort::Effort;
use crate::failure::{BenchError, Result};
use crate::mqtt::consumer::{ConsumerKind, MeasuringConsumer};
use crate::mqtt::publisher::{PublishLoad, flood};
use crate::peers::python_app;
use crate::platform::{RunningPlatform, TOPIC_PREFIX};
use crate::servers::{DEADLINE, Servers, barrier, clear, count, durable};
use crate::wait::until;
use rumqttc::v5::mqttbytes::QoS;

const COLLECTION: &str = "measured";
/// The client with one stream.
const SHARED: &str = "shared";
/// The client with a stream for each topic.
const TOPICS: &str = "topics";
const PYTHON: &str = "python";
/// What takes ten times as long gets a tenth: a rate is compared.
const SLOW_SHARE: u64 = 10;

/// Of QoS 0 some may be lost; when nothing has come for so long, the rest is.
const SILENCE: Duration = Duration::from_secs(3);
/// Longer than a message takes, so that none is on its way when the first run begins.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(10);

pub const QOS_1: Plan = Plan {
    name: "stream-qos1",
    title: "stream, QoS 1, 1 instance",
    unit: "msg/s",
    timed: "from the first message of 200 B published to the last one: platform: acknowledged by the store (majority, \
            journal); yardstick: arrived at a consumer without a store that acknowledges in large batches, mosquitto alone, same publisher",
    goals: &[Goal::AtLeast(1.0, YARDSTICK), Goal::AtLeast(5.0, PEER), Goal::MemoryKib(MEMORY_KIB_MAX)],
    rounds_max: u32::MAX,
    start: |extent| Stream::start(QoS::AtLeastOnce, 1, extent).boxed_local(),
};

pub const QOS_0: Plan = Plan {
    name: "stream-qos0",
    title: "stream, QoS 0, 1 instance",
    timed: "as with QoS 1; lost messages are not counted, but reported",
    goals: &[Goal::AtLeast(0.9, YARDSTICK), Goal::MemoryKib(MEMORY_KIB_MAX)],
    start: |extent| Stream::start(QoS::AtMostOnce, 1, extent).boxed_local(),
    ..QOS_1
};

pub const INSTANCES: Plan = Plan {
    name: "stream-4",
    title: "stream, QoS 1, 4 instances",
    timed: "as with one instance: 4 instances on one shared subscription, and beside it 4 streams with a topic each; \
            yardstick: 4 consumers without a store on one shared subscription, mosquitto alone",
    goals: &[Goal::AtLeast(0.9, YARDSTICK), Goal::MemoryKib(MEMORY_KIB_MAX)],
    start: |extent| Stream::start(QoS::AtLeastOnce, 4, extent).boxed_local(),
    ..QOS_1
};

struct Stream {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    servers: Servers,
    qos: QoS,
    instances: usize,
    messages: u64,
}

impl Stream {
    async fn start(qos: QoS, instances: usize, extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let platform = RunningPlatform::up(&servers, clients(instances));
        let case = Self { platform, servers, qos, instances, messages: extent.of(20_000, 300_000) };
        case.reach(SHARED, instances).await?;
        if instances == 1 {
            case.reach(PYTHON, 1).await?;
        } else {
            case.reach(TOPICS, instances).await?;
        }
        Ok(Box::new(case))
    }

    /// Returns when all instances of a client run and what is published for it is stored.
    async fn reach(&self, client: &str, instances: usize) -> Result<()> {
        self.platform.instances(client, instances).await?;
        let stored = durable(&self.platform.client_database(client), COLLECTION);
        let probe = PublishLoad { messages: instances as u64, ..self.load(topics(client, self.instances)) };
        let what = format!("a first message of each topic of {client} is stored");
        let mut asked = None;
        until(DEADLINE, &what, async || {
            // An instance that runs may not have subscribed yet, and then this message was for nobody.
            if asked.is_none_or(|asked: Instant| asked.elapsed() > PROBE_EVERY) {
                asked = Some(Instant::now());
                self.publish(probe.clone()).await?;
            }
            Ok(count(&stored).await? >= probe.messages)
        })
        .await
    }

    fn load(&self, topics: Vec<String>) -> PublishLoad {
        PublishLoad { topics, qos: self.qos, messages: self.messages }
    }

    async fn publish(&self, load: PublishLoad) -> Result<()> {
        let port = self.servers.mosquitto.port();
        tokio::task::spawn_blocking(move || flood(port, &load))
            .await
            .map_err(BenchError::of("run the publisher"))?
    }

    async fn platform(&self, client: &str, messages: u64) -> Result<Sample> {
        let database = self.platform.client_database(client);
        clear(&database).await?;
        let stored = durable(&database, COLLECTION);
        let load = PublishLoad { messages, ..self.load(topics(client, self.instances)) };
        let (effort, memory) = (Effort::begin(&self.servers, &self.platform)?, self.platform.watch_memory());
        let begun = Instant::now();
        let arriving = self.arrivals(begun, messages, async || count(&stored).await);
        let ((arrived, mut took), ()) = tokio::try_join!(arriving, self.publish(load))?;
        if arrived == messages {
            // What is counted is written; this waits until it is durable.
            barrier(&database).await?;
            took = begun.elapsed();
        }
        let (effort, memory_kib) = (effort.end()?, memory.peaks());
        if arrived > messages {
            return Err(BenchError::new(format!("{arrived} documents of {messages} messages")));
        }
        Ok(Sample { memory_kib, ..sample(messages, arrived, took).with_all(effort) })
    }

    async fn consumers(&self, kind: ConsumerKind, messages: u64) -> Result<Sample> {
        let port = self.servers.mosquitto.port();
        let filter = if self.instances == 1 { "alone/#" } else { "$share/alone/alone/#" };
        let consumers =
            try_join_all((0..self.instances).map(|_| MeasuringConsumer::start(kind, port, filter, self.qos)))
                .await?;
        let effort = Effort::begin(&self.servers, &self.platform)?;
        let begun = Instant::now();
        let received = async || Ok(consumers.iter().map(MeasuringConsumer::received).sum());
        let arriving = self.arrivals(begun, messages, received);
        let load = PublishLoad { messages, ..self.load(vec!["alone/measured".to_owned()]) };
        let ((arrived, took), ()) = tokio::try_join!(arriving, self.publish(load))?;
        Ok(sample(messages, arrived, took).with_all(effort.end()?))
    }

    /// Waits until all have arrived, and gives how many and when the last one did.
    async fn arrivals(
        &self,
        begun: Instant,
        expected: u64,
        mut count: impl AsyncFnMut() -> Result<u64>,
    ) -> Result<(u64, Duration)> {
        let (mut arrived, mut last) = (0, begun.elapsed());
        while arrived < expected {
            let now = count().await?;
            if now > arrived {
                (arrived, last) = (now, begun.elapsed());
            } else if self.qos == QoS::AtMostOnce && arrived > 0 && begun.elapsed() - last > SILENCE {
                break;
            } else if begun.elapsed() > DEADLINE {
                return Err(BenchError::new(format!(
                    "{arrived} of {expected} messages have arrived in {DEADLINE:?}"
                )));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
        Ok((arrived, last))
    }
}

#[async_trait(?Send)]
impl BenchCase for Stream {
    fn contenders(&self) -> Vec<Contender> {
        let peer = match self.instances {
            1 => "Python app, batches of 1,000".to_owned(),
            streams => format!("mysimbdp, {streams} streams by topic"),
        };
        let instances = self.instances;
        vec![
            Contender::new(ContenderKind::Platform, format!("mysimbdp, {instances} on one subscription")),
            Contender::new(ContenderKind::Yardstick, format!("mosquitto alone, consumers: {instances}")),
            Contender::new(ContenderKind::Peer, peer),
            Contender::new(
                ContenderKind::Peer,
                format!("mosquitto alone, consumers with rumqttc: {instances}"),
            ),
        ]
    }

    async fn run(&mut self, contender: usize, _round: u32) -> Result<Sample> {
        match contender {
            0 => self.platform(SHARED, self.messages).await,
            1 => self.consumers(ConsumerKind::Lean, self.messages).await,
            2 if self.instances == 1 => self.platform(PYTHON, self.messages / SLOW_SHARE).await,
            2 => self.platform(TOPICS, self.messages).await,
            _ => self.consumers(ConsumerKind::Library, self.messages).await,
        }
    }
}

fn sample(published: u64, arrived: u64, took: Duration) -> Sample {
    let seconds = took.as_secs_f64();
    Sample::of(arrived as f64 / seconds).with("s", seconds).with("lost", (published - arrived) as f64)
}

fn topics(client: &str, instances: usize) -> Vec<String> {
    let count = if client == TOPICS { instances } else { 1 };
    (0..count).map(|number| format!("{}/{number}", RunningPlatform::topic(client))).collect()
}

fn clients(instances: usize) -> Value {
    let stream = |command: Value, instances: usize| json!({"command": command, "collection": COLLECTION, "instances": {"min": instances, "max": instances}});
    let shared = json!({"id": SHARED, "streams": [stream(json!(["stream-app"]), instances)]});
    if instances == 1 {
        let command = json!([mysimbdp_testbed::python(), python_app("stream_app.py")]);
        return json!([shared, {"id": PYTHON, "streams": [stream(command, 1)]}]);
    }
    let one = |number: usize| {
        let mut one = stream(json!(["stream-app"]), 1);
        one["name"] = json!(format!("topic-{number}"));
        one["topic_filter"] = json!(format!("{TOPIC_PREFIX}/ingest/{TOPICS}/measured/{number}"));
        one
    };
    json!([shared, {"id": TOPICS, "streams": (0..instances).map(one).collect::<Vec<_>>()}])
}
