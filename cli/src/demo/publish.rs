//! Publishes the rows of the weather file as a live stream.

use std::time::Duration;

use futures::future::try_join_all;
use mysimbdp_broker::{BrokerError, BrokerLink, ConnectOptions, Publish};
use mysimbdp_config::address;
use mysimbdp_model::{exit, source};
use mysimbdp_platform::random;
use mysimbdp_stream_manager::control::{ControlCommand, client};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::data_root::{DemoRoot, STREAM, WEATHER};
use crate::error::CommandError;

/// The stream is sent in bursts, about this far apart.
const BURST_EVERY: Duration = Duration::from_millis(20);
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// How many times a message is sent if it is not acknowledged.
const ATTEMPTS_MAX: u32 = 5;

/// Publishes every row as a numbered JSON message, `rate` of them a second, until all are published or a shutdown is
/// requested. Returns the number of rows in either case.
pub async fn rows(
    demo_root: &DemoRoot,
    rate: u32,
    shutdown: watch::Receiver<bool>,
) -> Result<u64, CommandError> {
    let link = connect(demo_root).await?;
    let mut numbers = Numbers::new(demo_root, "weather.csv", random::number());
    let messages: Vec<Publish> = readings().map(|reading| numbers.next(reading)).collect();
    let burst = (f64::from(rate) * BURST_EVERY.as_secs_f64()).ceil() as usize;
    let mut clock = tokio::time::interval(Duration::from_secs_f64(burst as f64 / f64::from(rate)));
    for burst in messages.chunks(burst) {
        if *shutdown.borrow() {
            break;
        }
        clock.tick().await;
        all(&link, burst).await.map_err(|error| CommandError::of(exit::UNAVAILABLE, &error))?;
    }
    link.close().await;
    Ok(messages.len() as u64)
}

pub async fn connect(demo_root: &DemoRoot) -> Result<BrokerLink, CommandError> {
    let failure = |error: BrokerError| CommandError::of(exit::UNAVAILABLE, &error);
    let url =
        address::broker(&demo_root.config).map_err(|error| CommandError::of(exit::UNAVAILABLE, &error))?;
    let options =
        ConnectOptions::new(url, format!("{}-publisher", demo_root.config.settings.coredms.database));
    let (link, _events) = BrokerLink::connect(options, Vec::new()).map_err(failure)?;
    link.wait_connected(CONNECTED_WITHIN).await.map_err(failure)?;
    Ok(link)
}

/// Publishes these at the same time, and waits until all are acknowledged.
pub async fn all(link: &BrokerLink, messages: &[Publish]) -> Result<(), BrokerError> {
    try_join_all(messages.iter().map(|message| publish(link, message))).await.map(|_| ())
}

/// Sending again is harmless: the number tells the store that it is the same message.
async fn publish(link: &BrokerLink, message: &Publish) -> Result<(), BrokerError> {
    let mut attempt = 1;
    loop {
        match link.publish(message.clone()).await {
            Err(_) if attempt < ATTEMPTS_MAX => {
                attempt += 1;
                link.wait_connected(CONNECTED_WITHIN).await?;
            }
            result => return result,
        }
    }
}

/// Makes numbered messages of readings.
pub struct Numbers {
    topic: String,
    source: &'static str,
    epoch: u64,
    next: u64,
}

impl Numbers {
    pub fn new(demo_root: &DemoRoot, source: &'static str, epoch: u64) -> Self {
        let topic = format!("{}/ingest/{STREAM}/weather", demo_root.config.settings.broker.topic_prefix);
        Self { topic, source, epoch, next: source::FIRST }
    }

    pub fn next(&mut self, reading: Map<String, Value>) -> Publish {
        let number = self.next;
        self.next += 1;
        Publish {
            topic: self.topic.clone(),
            payload: Value::Object(reading).to_string().into(),
            user_properties: vec![
                ("source".to_owned(), self.source.to_owned()),
                ("epoch".to_owned(), self.epoch.to_string()),
                ("seq".to_owned(), number.to_string()),
            ],
            ..Publish::default()
        }
    }
}

/// The rows of the file.
pub fn readings() -> impl Iterator<Item = Map<String, Value>> {
    let mut lines = WEATHER.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    lines.map(move |line| reading(&columns, line))
}

/// Converts a row to what a sensor would send: numbers as numbers, and null for a value that is not available. The file
/// has no quoted fields.
fn reading(columns: &[&str], line: &str) -> Map<String, Value> {
    let value = |field: &str| match field {
        "NA" => Value::Null,
        _ => serde_json::from_str::<serde_json::Number>(field)
            .map_or_else(|_| Value::from(field), Value::Number),
    };
    columns.iter().zip(line.split(',')).map(|(column, field)| ((*column).to_owned(), value(field))).collect()
}

/// Ends the demo's broker sessions; otherwise a real broker would continue to queue messages for them.
pub async fn end_sessions(demo_root: &DemoRoot) -> Result<(), CommandError> {
    let layout = &demo_root.config.layout;
    for stream in client::list(layout).await.unwrap_or_default() {
        for pid in stream.instances.iter().filter_map(|instance| instance.pid) {
            let stop = ControlCommand::Stop { client: stream.client.clone(), pid, forget: true };
            client::ask(layout, stop).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_has_numbers_nulls_and_text() {
        let reading = reading(&["origin", "temp", "wind_gust"], "EWR,39.02,NA");
        assert_eq!(Value::Object(reading).to_string(), r#"{"origin":"EWR","temp":39.02,"wind_gust":null}"#);
    }

    #[test]
    fn every_row_of_the_sample_becomes_a_message_with_its_own_number() {
        let mut numbers =
            Numbers { topic: "t".to_owned(), source: "weather.csv", epoch: 7, next: source::FIRST };
        let messages: Vec<Publish> = readings().map(|reading| numbers.next(reading)).collect();
        assert_eq!(messages.len(), 26_115);
        assert_eq!(messages[26_114].user_properties[2].1, "26115");
    }
}
