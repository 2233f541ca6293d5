//! The sensors that publish: one at each airport, whose weather passes an hour in two seconds.

use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use mysimbdp_broker::Publish;
use mysimbdp_platform::{clock, random};
use mysimbdp_stream_manager::control::client;
use serde_json::{Map, Value};
use tokio::time::{MissedTickBehavior, interval};

use super::pace::Pace;
use crate::demo::data_root::{DemoRoot, STREAM};
use crate::demo::publish::{self, Numbers};

const TICK: Duration = Duration::from_millis(100);
/// How often the number of instances is looked up.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon the broker is looked for again.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(2);
/// One message of so many has a text where a number is required.
const BAD_EVERY: u64 = 250;

/// Publishes until it is dropped.
pub async fn run(demo_root: &DemoRoot, rate_max: u32) {
    let mut sensors = Sensors::new(demo_root);
    let mut pace = Pace::Calm(Duration::ZERO);
    // What is not acknowledged yet. It is sent again after an interruption; the numbers tell the store what it has.
    let mut unacknowledged = Vec::new();
    loop {
        if let Ok(link) = publish::connect(demo_root).await {
            let mut clock = interval(TICK);
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut looked_at, mut instances) = (Instant::now(), 1);
            loop {
                clock.tick().await;
                if looked_at.elapsed() >= LOOK_EVERY {
                    looked_at = Instant::now();
                    instances = count_instances(demo_root).await.unwrap_or(instances);
                }
                pace = pace.after(TICK, instances, rate_max.into());
                unacknowledged.extend(sensors.measure(pace.rate(rate_max.into()) * TICK.as_secs_f64()));
                if publish::all(&link, &unacknowledged).await.is_err() {
                    break;
                }
                unacknowledged.clear();
            }
        }
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}

/// `None` while the stream-manager does not answer.
async fn count_instances(demo_root: &DemoRoot) -> Option<usize> {
    let streams = client::list(&demo_root.config.layout).await.ok()?;
    Some(streams.iter().find(|stream| stream.client.as_str() == STREAM)?.instances.len())
}

struct Sensors {
    /// The weather of each airport, hour by hour.
    airports: Vec<Vec<Map<String, Value>>>,
    started: Instant,
    numbers: Numbers,
    sent: u64,
    /// The part of a message that is left from earlier ticks.
    fraction: f64,
}

impl Sensors {
    fn new(demo_root: &DemoRoot) -> Self {
        let mut airports: Vec<Vec<Map<String, Value>>> = Vec::new();
        for row in publish::readings() {
            match airports.last_mut() {
                Some(hours) if hours[0]["origin"] == row["origin"] => hours.push(row),
                _ => airports.push(vec![row]),
            }
        }
        let numbers = Numbers::new(demo_root, "sensors", random::number());
        Self { airports, started: Instant::now(), numbers, sent: 0, fraction: 0.0 }
    }

    /// This many messages, of the airports in turn.
    fn measure(&mut self, messages: f64) -> Vec<Publish> {
        let wanted = messages + self.fraction;
        self.fraction = wanted.fract();
        let hour = (self.started.elapsed().as_secs_f64() / HOUR.as_secs_f64()) as usize;
        let now = clock::now().to_zoned(TimeZone::UTC);
        let measure = |_| {
            let hours = &self.airports[self.sent as usize % self.airports.len()];
            let mut reading = hours[hour % hours.len()].clone();
            reading["year"] = Value::from(now.year());
            reading["month"] = Value::from(now.month());
            reading["day"] = Value::from(now.day());
            reading["hour"] = Value::from(now.hour());
            reading["time_hour"] = Value::from(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
            self.sent += 1;
            if self.sent.is_multiple_of(BAD_EVERY) {
                reading["temp"] = Value::from("too cold to say");
            }
            self.numbers.next(reading)
        };
        (0..wanted as u64).map(measure).collect()
    }
}
