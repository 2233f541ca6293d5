//! The records that are queried: of stations that report in both layers, where files correct a part of the messages.

use bson::{DateTime, doc};
use mongodb::{Database, IndexModel};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::{BenchError, Result};
use crate::http::HttpConnection;
use crate::platform::RunningPlatform;
use crate::servers::barrier;

/// The client, its collections and its view.
pub const CLIENT: &str = "served";
pub const FILES: &str = "files";
pub const MESSAGES: &str = "messages";
pub const VIEW: &str = "all";

/// How many stations there are.
pub const STATIONS: u64 = 100;

/// One of so many messages is corrected by a file.
const CORRECTED_EVERY: u64 = 5;

/// 2026-01-01, in milliseconds since 1970.
const BEGIN: i64 = 1_767_225_600_000;

const INSERTED_AT_A_TIME: usize = 1_000;

/// A record as both layers store it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    #[serde(rename = "_id")]
    pub id: String,
    pub n: i64,
    pub at: DateTime,
    pub station: String,
    pub temp: f64,
    pub humidity: f64,
}

/// The client's config.
pub fn client() -> Value {
    json!({
        "id": CLIENT,
        "apps": [{
            "name": "app", "command": ["document-app"], "collection": FILES, "ids": "key", "record_key": ["n"],
        }],
        "streams": [{
            "command": ["stream-app"], "collection": MESSAGES, "ids": "key", "record_key": ["n"],
            "instances": {"min": 1, "max": 1},
        }],
        // What files correct is found by the key.
        "views": {
            VIEW: {"batch": FILES, "stream": MESSAGES, "time": "at", "source": "station"},
            FILES: {"batch": FILES, "time": "at", "source": "station"},
        },
    })
}

/// Stores records of which `count` are in the view, about half of them from each layer, and returns once the server has built
/// the indexes of the view.
///
/// # Errors
///
/// The store refuses them, or the server does not answer.
pub async fn fill(platform: &RunningPlatform, count: u64) -> Result<()> {
    let database = platform.client_database(CLIENT);
    // Every file's record is in the view, and every message that no file corrects.
    let files = count / 2;
    let messages = (count - files) * CORRECTED_EVERY / (CORRECTED_EVERY - 1);
    let message = |n: u64| record(n, n);
    // The first correct messages, the others are of times in between.
    let corrections = messages / CORRECTED_EVERY;
    let file = |n: u64| match n {
        correction if correction < corrections => record(correction * CORRECTED_EVERY, n),
        other => record(messages + other, other),
    };
    insert(&database, FILES, (0..files).map(file)).await?;
    insert(&database, MESSAGES, (0..messages).map(message)).await?;
    barrier(&database).await?;
    let (host, _) = platform.http_server()?;
    let mut connection = HttpConnection::open(&host).await?;
    for path in [latest(0), list(1)] {
        let answer = connection.get(&path, "application/json").await?;
        if answer.status != 200 {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(BenchError::new(format!("{path} was answered with {}: {text}", answer.status)));
        }
    }
    Ok(())
}

/// The path of a station's latest record, in the list of all.
pub fn latest(number: u64) -> String {
    let station = station(number);
    format!("/api/clients/{CLIENT}/records?view={VIEW}&source={station}&limit=1&order=desc")
}

/// The path of a station's latest record of the batch layer.
pub fn latest_of(number: u64) -> String {
    format!("/api/clients/{CLIENT}/latest/{}?view={FILES}", station(number))
}

/// Whether an answer is about this station.
pub fn has_record(body: &[u8], number: u64) -> bool {
    memchr::memmem::find(body, station(number).as_bytes()).is_some()
}

/// Whether the driver finds a station's latest record of the batch layer.
pub async fn find_latest(database: &Database, number: u64) -> bool {
    let stored = database.collection::<Record>(FILES);
    let found = stored.find_one(doc! {"station": station(number)}).sort(doc! {"at": -1, "_id": -1}).await;
    found.is_ok_and(|found| found.is_some_and(|record| serde_json::to_vec(&record).is_ok()))
}

/// The path of the first records.
pub fn list(limit: u64) -> String {
    format!("/api/clients/{CLIENT}/records?view={VIEW}&limit={limit}")
}

pub fn station(number: u64) -> String {
    format!("station-{:03}", number % STATIONS)
}

/// The indexes that the server creates for the view.
pub async fn index(database: &Database) -> Result<()> {
    for collection in [FILES, MESSAGES] {
        let by_station = IndexModel::builder().keys(doc! {"station": 1, "at": 1, "_id": 1}).build();
        let created = database.collection::<Record>(collection).create_index(by_station).await;
        created.map_err(BenchError::of(format!("create an index of {collection}")))?;
    }
    Ok(())
}

fn record(n: u64, second: u64) -> Record {
    Record {
        id: format!("{n:09}"),
        n: n as i64,
        at: DateTime::from_millis(BEGIN + second as i64 * 1_000),
        station: station(second),
        temp: (second % 400) as f64 / 8.0 + 0.5,
        humidity: (second % 97) as f64 + 0.25,
    }
}

async fn insert(database: &Database, collection: &str, records: impl Iterator<Item = Record>) -> Result<()> {
    let stored = database.collection::<Record>(collection);
    let records: Vec<Record> = records.collect();
    for batch in records.chunks(INSERTED_AT_A_TIME) {
        let inserted = stored.insert_many(batch).ordered(false).await;
        inserted.map_err(BenchError::of(format!("fill {collection}")))?;
    }
    Ok(())
}
