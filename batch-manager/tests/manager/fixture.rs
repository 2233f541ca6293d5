//! A data root with one client and one app, on which a batch-manager runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bson::{Document, doc};
use jiff::Timestamp;
use mysimbdp_batch_manager as batch_manager;
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::{Format, Lane, Manifest, MicroBatch, Prefix, VERSION};
use mysimbdp_model::outcome::Run;
use mysimbdp_model::reason::ReasonFile;
use mysimbdp_platform::clock;
use mysimbdp_store::Coredms;
use mysimbdp_store::history::History;
use mysimbdp_testbed::{Root, until_async};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use mysimbdp_testbed::SOON as DEADLINE;

pub(crate) struct Fixture {
    pub(crate) root: Root,
    pub(crate) config: Arc<Config>,
    running: Option<Running>,
}

struct Running {
    shutdown: watch::Sender<bool>,
    task: JoinHandle<Result<(), batch_manager::Error>>,
}

/// Returns settings of one client with one app; `app` changes those of the app.
pub(crate) fn settings(app: Value) -> Value {
    let mut settings = json!({
        "batch_manager": {
            "units_in_parallel": 3,
            "scan_every": "100ms",
            "attempts_max": 3,
            "backoff_first": "20ms",
            "backoff_max": "100ms",
            "stop_grace": "300ms"
        },
        "clients": [{
            "id": "client1",
            "archive": "1d",
            "apps": [{ "name": "app", "command": ["python3", "app.py", "good"], "timeout": "30s" }]
        }]
    });
    merge(&mut settings["clients"][0]["apps"][0], app);
    settings
}

pub(crate) fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes,
    }
}

impl Fixture {
    /// Makes a data root whose app runs `app.py` in this mode.
    pub(crate) fn of_mode(mode: &[&str]) -> Self {
        Self::new(settings(json!({ "command": command(mode) })))
    }

    pub(crate) fn new(settings: Value) -> Self {
        Self::within(&std::env::temp_dir(), settings)
    }

    /// Does the same with the data root below `parent`, such as a disk whose power can be cut.
    pub(crate) fn within(parent: &Path, settings: Value) -> Self {
        let root = Root::within(parent, &settings);
        for (name, text) in [("app.py", include_str!("app.py")), ("coredms.py", include_str!("coredms.py"))] {
            std::fs::write(root.path().join(name), text).expect("write the app");
        }
        let config = Config::load(&root.config(), |_| None).expect("a config without faults");
        Self { root, config: Arc::new(config), running: None }
    }

    /// Changes the settings for the next start.
    pub(crate) fn configure(&mut self, settings: &Value) {
        self.root.configure(settings);
        self.config = Arc::new(Config::load(&self.root.config(), |_| None).expect("a config without faults"));
    }

    pub(crate) fn client(&self) -> ClientId {
        "client1".parse().expect("client id")
    }

    fn layout(&self) -> &Layout {
        &self.config.layout
    }

    /// Stages an NDJSON file whose micro-batches have so many records each.
    pub(crate) fn stage(&self, file: &str, batches: &[u64]) -> IngestionId {
        let line = |number: u64| format!("{{\"file\":{file:?},\"n\":{number}}}\n").into_bytes();
        let mut ranges = Vec::new();
        let mut first = 0;
        for count in batches {
            ranges.push(((first..first + count).flat_map(line).collect::<Vec<u8>>(), *count));
            first += count;
        }
        self.stage_ranges(file, Format::Ndjson, &ranges)
    }

    pub(crate) fn stage_ranges(&self, file: &str, format: Format, ranges: &[(Vec<u8>, u64)]) -> IngestionId {
        let client = self.client();
        let whole: Vec<u8> = ranges.iter().flat_map(|(range, _)| range.clone()).collect();
        let ingestion = IngestionId::new(&client, &blake3::hash(&whole));
        let (mut offset, mut first_record, mut micro_batches) = (0, 0, Vec::new());
        for (index, (range, records)) in (0..).zip(ranges) {
            let (length, xxh3) = (range.len() as u64, format!("{:016x}", xxhash_rust::xxh3::xxh3_64(range)));
            let path = file.to_owned();
            micro_batches.push(MicroBatch {
                index,
                path,
                offset,
                length,
                first_record,
                records: *records,
                xxh3,
            });
            offset += length;
            first_record += records;
        }
        let now = clock::now();
        let manifest = Manifest {
            version: VERSION,
            ingestion,
            client: client.clone(),
            lane: Lane::Live,
            file: file.to_owned(),
            bytes: offset,
            records: first_record,
            blake3: blake3::hash(&whole).to_hex().to_string(),
            format,
            prefix: Prefix::default(),
            app: "app".to_owned(),
            received_at: now,
            taken_at: None,
            staged_at: now,
            micro_batches,
            columns: Vec::new(),
            replace: false,
        };
        let unpublished = self.layout().staged_unpublished(&client, ingestion);
        std::fs::create_dir_all(&unpublished).expect("staged directory");
        std::fs::write(unpublished.join(file), whole).expect("data");
        std::fs::write(unpublished.join(Layout::MANIFEST), manifest.to_json()).expect("manifest");
        std::fs::rename(unpublished, self.layout().staged(&client, ingestion)).expect("publish");
        ingestion
    }

    pub(crate) fn start(&mut self) {
        let (shutdown, receiver) = watch::channel(false);
        let task = tokio::spawn(batch_manager::run(Arc::clone(&self.config), receiver));
        self.running = Some(Running { shutdown, task });
    }

    /// Shuts the manager down and waits for its end.
    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().expect("it was started");
        running.shutdown.send_replace(true);
        let ended = tokio::time::timeout(DEADLINE, running.task).await.expect("it ends in time");
        ended.expect("it does not panic").expect("it ends without error");
    }

    /// Whether the manager has not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.task.is_finished())
    }

    pub(crate) async fn database(&self, name: &str) -> Arc<dyn Coredms> {
        mysimbdp_store::open(&self.config.coredms_url, name).await.expect("open the store")
    }

    pub(crate) async fn client_database(&self) -> Arc<dyn Coredms> {
        self.database(&self.config.clients[&self.client()].database).await
    }

    /// Waits until the file is archived, and returns the history of its run.
    pub(crate) async fn until_ingested(&self, ingestion: IngestionId) -> Document {
        let archived = self.layout().archived(&self.client(), ingestion);
        self.until("the file is archived", || archived.is_dir()).await;
        let manifest = mysimbdp_spool::staging::read_manifest(&archived).expect("archived with its manifest");
        self.run_of(ingestion, manifest.staged_at).await
    }

    /// Writes a run of the same content, staged long ago, to the history.
    pub(crate) async fn add_earlier_run(&self, ingestion: IngestionId) {
        let platform = self.database(&self.config.settings.coredms.database).await;
        let id = Run::id(ingestion, Timestamp::UNIX_EPOCH);
        let run = doc! { "_id": id, "ingestion": ingestion.to_string() };
        platform.put(History::COLLECTION, run).await.expect("write the history");
        platform.close().await;
    }

    pub(crate) async fn run_of(&self, ingestion: IngestionId, staged_at: Timestamp) -> Document {
        let platform = self.database(&self.config.settings.coredms.database).await;
        let filter = doc! { "_id": Run::id(ingestion, staged_at) };
        let mut found = platform.find(History::COLLECTION, filter, 2).await.expect("find the history");
        platform.close().await;
        assert_eq!(found.len(), 1, "one document per run");
        found.remove(0)
    }

    /// Waits until the file is held, and returns all reasons as one text.
    pub(crate) async fn until_held(&self, ingestion: IngestionId) -> String {
        let reason = self.layout().held(&self.client(), ingestion).join(ReasonFile::FILE);
        self.until("the file is held", || reason.is_file()).await;
        let reason: ReasonFile =
            serde_json::from_slice(&std::fs::read(reason).expect("read the reason")).expect("a reason");
        assert_eq!(reason.ingestion.as_deref(), Some(ingestion.to_string().as_str()));
        reason.reasons.join("; ")
    }

    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        until_async(DEADLINE, what, async || {
            assert!(
                self.running.is_none() || self.is_running(),
                "the manager has ended while waiting until {what}"
            );
            condition()
        })
        .await;
    }

    /// Returns what the app has noted at the start of each unit, in time order.
    pub(crate) fn runs(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.root.path().join("runs.ndjson")).unwrap_or_default();
        // The last line may be incomplete.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn outcomes(&self, ingestion: IngestionId) -> PathBuf {
        self.layout().staged(&self.client(), ingestion).join(Layout::OUTCOMES)
    }

    pub(crate) fn is_staged(&self, ingestion: IngestionId) -> bool {
        self.layout().staged(&self.client(), ingestion).is_dir()
    }
}

pub(crate) fn command(mode: &[&str]) -> Vec<String> {
    ["python3", "app.py"].iter().chain(mode).map(|part| (*part).to_owned()).collect()
}

/// Returns the received, stored, duplicate and rejected counts of a run.
pub(crate) fn counts(run: &Document) -> [i64; 4] {
    ["received", "stored", "duplicates", "rejected"].map(|name| match run.get(name) {
        Some(bson::Bson::Int64(count)) => *count,
        Some(bson::Bson::Int32(count)) => i64::from(*count),
        other => panic!("{name} is {other:?}"),
    })
}
