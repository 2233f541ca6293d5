//! What the end-to-end tests share: a configured data root, the processes on it, and queries of the database.

use std::path::Path;
use std::time::Duration;

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mongodb::Client;
pub use mysimbdp_testbed::SOON;
use mysimbdp_testbed::{Daemon, Root, unique, until, until_async};
use serde_json::{Value, json};

/// Long enough for a 50 MB load on a machine that is busy with other tests.
pub const LOADED: Duration = Duration::from_secs(400);

/// Runs a command to its end and returns its output; its exit code must be `code`.
#[track_caller]
pub fn run(root: &Root, code: i32, words: &[&str]) -> String {
    let output = Daemon::run(root, words, &[]);
    let printed =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{words:?} printed\n{printed}");
    printed
}

/// A platform on real servers: its data root, its database, its topics.
#[derive(Debug)]
pub struct Platform {
    pub root: Root,
    pub database: String,
    pub topic_prefix: String,
    client: Client,
}

impl Platform {
    /// Creates a data root for these clients, with short intervals.
    pub async fn new(mongodb: &str, broker: &str, clients: Value) -> Self {
        Self::within(&std::env::temp_dir(), mongodb, broker, clients).await
    }

    /// Like [`Self::new`], with the data root below `parent`, such as a disk whose power can be cut.
    pub async fn within(parent: &Path, mongodb: &str, broker: &str, clients: Value) -> Self {
        let (database, topic_prefix) = (unique("e2e"), unique("e2e"));
        let root = Root::within(
            parent,
            &json!({
                "broker": {"url": broker, "topic_prefix": topic_prefix, "keep_alive": "2s"},
                "coredms": {"url": mongodb, "database": database},
                "fetchdata": {"settle": "100ms", "scan_every": "1s"},
                "batch_manager": {"scan_every": "1s", "backoff_first": "100ms", "backoff_max": "1s", "stop_grace": "5s"},
                "stream_manager": {
                    "report_every": "1s", "backoff_first": "100ms", "backoff_max": "2s", "stop_grace": "5s", "drain_quiet": "500ms",
                },
                "clients": clients,
            }),
        );
        let client = Client::with_uri_str(mongodb).await.expect("a valid address");
        Self { root, database, topic_prefix, client }
    }

    /// Changes settings of one section for processes that are started from now on.
    pub fn set(&self, section: &str, settings: Value) {
        self.configure(|config| {
            for (name, value) in settings.as_object().expect("an object") {
                config[section][name] = value.clone();
            }
        });
    }

    /// Changes the configuration for processes that are started from now on.
    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let text = std::fs::read_to_string(self.root.config()).expect("read config.json");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        change(&mut config);
        self.root.configure(&config);
    }

    /// Starts one of the platform's processes.
    pub fn start(&self, kind: &str) -> Daemon {
        Daemon::start(&self.root, &[kind], &[])
    }

    /// Runs a command to its end and returns its output; its exit code must be `code`.
    #[track_caller]
    pub fn command(&self, code: i32, words: &[&str]) -> String {
        run(&self.root, code, words)
    }

    pub fn client_database(&self, client: &str) -> mongodb::Database {
        self.client.database(&format!("{}_{client}", self.database))
    }

    pub async fn count(&self, client: &str, collection: &str) -> u64 {
        let documents = self.client_database(client).collection::<Document>(collection);
        documents.count_documents(doc! {}).await.expect("count documents")
    }

    /// The history of a client's ingestions.
    pub async fn history(&self, client: &str) -> Vec<Document> {
        let runs = self.client.database(&self.database).collection::<Document>("ingestions");
        let found = runs.find(doc! {"client": client}).await.expect("read the history");
        found.try_collect().await.expect("read the history")
    }

    /// The documents of a collection of the platform.
    pub async fn documents(&self, collection: &str) -> Vec<Document> {
        let documents = self.client.database(&self.database).collection::<Document>(collection);
        let found = documents.find(doc! {}).await.expect("read the documents");
        found.try_collect().await.expect("read the documents")
    }

    /// Waits until `files` files of the client are ingested, and returns their runs.
    pub async fn until_ingested(&self, client: &str, files: usize, deadline: Duration) -> Vec<Document> {
        let what = format!("{files} files of {client} are ingested");
        until_async(deadline, &what, async || self.history(client).await.len() >= files).await;
        self.history(client).await
    }

    /// Waits until the collection has exactly `documents` documents.
    pub async fn until_stored(&self, client: &str, collection: &str, documents: u64, deadline: Duration) {
        let what = format!("{client} has {documents} documents in {collection}");
        until_async(deadline, &what, async || self.count(client, collection).await >= documents).await;
        assert_eq!(self.count(client, collection).await, documents, "{what}, not more");
    }

    /// Removes the broker's address from the configuration, so that the embedded broker is used.
    pub fn use_embedded_broker(&self) {
        self.configure(|config| {
            drop(config["broker"].as_object_mut().and_then(|broker| broker.remove("url")))
        });
    }

    /// The state file of this data root's embedded broker; null if there is none.
    pub fn embedded_broker_state(&self) -> Value {
        let text = std::fs::read(self.root.path().join("state/broker.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Waits for the embedded broker of this data root, and returns its address.
    pub fn embedded_broker(&self) -> String {
        let url = || self.embedded_broker_state()["url"].as_str().map(str::to_owned);
        until(SOON, "the embedded broker listens", || url().is_some());
        url().expect("just seen")
    }

    /// The topic that a client's stream app listens to.
    pub fn ingest_topic(&self, client: &str) -> String {
        format!("{}/ingest/{client}/readings", self.topic_prefix)
    }

    /// Waits until `count` instances of the client's stream run, and returns their pids.
    pub async fn until_instances(&self, client: &str, count: usize) -> Vec<u32> {
        let what = format!("{client} has {count} instances");
        until_async(SOON, &what, async || self.running(client).len() == count).await;
        self.running(client)
    }

    /// The pids of the client's running instances.
    pub fn running(&self, client: &str) -> Vec<u32> {
        let output = Daemon::run(&self.root, &["list", client, "--json"], &[]);
        let Ok(Value::Array(instances)) = serde_json::from_slice(&output.stdout) else { return Vec::new() };
        let running = instances.iter().filter(|instance| instance["state"] == "running");
        running.filter_map(|instance| instance["pid"].as_u64()?.try_into().ok()).collect()
    }
}

/// An integer field of a document, of either integer type.
pub fn number(document: &Document, field: &str) -> i64 {
    match document.get(field) {
        Some(Bson::Int32(value)) => i64::from(*value),
        Some(Bson::Int64(value)) => *value,
        other => panic!("{field} is {other:?}: expected an integer"),
    }
}

/// A batch client that stores documents.
pub fn documents(id: &str) -> Value {
    json!({
        "id": id,
        "files": {"globs": ["*.csv", "*.ndjson", "*.json"], "extensions": ["csv", "ndjson", "json"]},
        "micro_batching": {"block_size": "10MB"},
        "apps": [{
            "name": "documents",
            "command": ["document-app", "--null", "NA", "--type", "time_hour=date"],
            "collection": "readings",
        }],
    })
}

/// A batch client that stores whole files.
pub fn objects(id: &str) -> Value {
    json!({
        "id": id,
        "files": {"globs": ["*.csv"], "extensions": ["csv"]},
        "micro_batching": {"block_size": "10MB"},
        "apps": [{"name": "objects", "command": ["object-app"], "unit": "file", "ids": "object", "collection": "files"}],
    })
}

/// A stream client; `stream` is merged over the defaults.
pub fn stream(id: &str, stream: Value) -> Value {
    let mut settings =
        json!({"command": ["stream-app"], "collection": "readings", "instances": {"min": 1, "max": 3}});
    for (name, value) in stream.as_object().expect("an object") {
        settings[name] = value.clone();
    }
    json!({"id": id, "streams": [settings]})
}

/// A stream client whose messages are identified by their number: a message that is delivered twice, because its
/// acknowledgement was lost with the connection, becomes one document.
pub fn keyed_stream(id: &str) -> Value {
    stream(id, json!({"ids": "key", "record_key": ["number"]}))
}

/// A CSV file of about `bytes` bytes, and its number of rows, with numbers, text, `NA` and a time; the same each time.
pub fn readings(bytes: usize) -> (Vec<u8>, u64) {
    use std::io::Write;
    let mut file = b"origin,year,temp,wind_gust,visib,time_hour\n".to_vec();
    let mut rows = 0;
    while file.len() < bytes {
        let origin = ["EWR", "JFK", "LGA"][rows as usize % 3];
        let gust = if rows % 4 == 0 { "NA".to_owned() } else { format!("{}.25", rows % 40) };
        let (day, hour, minute) = (rows / 1440 % 28 + 1, rows / 60 % 24, rows % 60);
        writeln!(
            file,
            "{origin},2013,{}.5,{gust},{rows},2013-01-{day:02}T{hour:02}:{minute:02}:00Z",
            rows % 100
        )
        .expect("write to memory");
        rows += 1;
    }
    (file, rows)
}

/// JSON messages, one per line, numbered from `first`.
pub fn messages(first: u64, count: u64) -> String {
    (first..first + count)
        .map(|number| format!("{{\"number\":{number},\"temp\":{}.5}}\n", number % 40))
        .collect()
}

/// The pids of the processes whose command line has this argument.
pub fn with_argument(argument: &str) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").expect("processes").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_argument = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
    };
    pids.filter(has_argument).collect()
}
