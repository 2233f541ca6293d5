//! Files: fetchdata, batch-manager and the batch apps die.
//!
//! Every case has the same load: a file with good records and a bad one, an object, a file that an app refuses and one
//! that validation refuses. The cases differ in which process dies at which point, and in what has to be set up to
//! reach it.

use std::path::Path;

use bson::{Document, doc};
use mysimbdp_store::CHUNK_BYTES;
use mysimbdp_store::rejected::INLINE_BYTES_MAX;
use mysimbdp_testbed::{binary, mongodb, mosquitto, until};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{assert_died, dies_once, start_to_die, wait_for_app_death, wait_reconciled, walk};
use crate::support::{Platform, SOON, documents, number, objects, readings};

pub const FETCHDATA: &[&str] = &["fetchdata.", "staging.retry-"];
pub const BATCH_MANAGER: &[&str] =
    &["batch-manager.", "staging.removal-", "staging.hold-", "staging.run-", "staging.copy-"];
pub const BATCH_APP: &[&str] = &["batch-app."];

const CLIENTS: [&str; 3] = ["documents", "objects", "refused"];

#[test]
fn fetchdata_dies_between_any_two_steps() {
    walk(FETCHDATA, |point| async move {
        let fixture = BatchFixture::new(point).await;
        let crashes = crash_points(point);
        let returns = needs_return(crashes[0]);
        let mut fetchdata = start_to_die(&fixture.platform, "fetchdata", crashes[0]);
        let _batch_manager = fixture.platform.start("batch-manager");
        if returns {
            fixture.wait_held();
            fixture.drop_held_again();
        }
        assert_died(&mut fetchdata, crashes[0]);
        for point in &crashes[1..] {
            let mut fetchdata = start_to_die(&fixture.platform, "fetchdata", point);
            assert_died(&mut fetchdata, point);
        }
        if crashes[0] == "fetchdata.copy-published" {
            until(SOON, "the copy is ingested while its original still waits", || {
                fixture.nothing_is_staged()
            });
        }
        let _fetchdata = fixture.platform.start("fetchdata");
        fixture.verify_outcome(returns).await;
    });
}

#[test]
fn batch_manager_dies_between_any_two_steps() {
    walk(BATCH_MANAGER, |point| async move {
        let fixture = BatchFixture::new(point).await;
        let mut batch_manager = start_to_die(&fixture.platform, "batch-manager", point);
        let _fetchdata = fixture.platform.start("fetchdata");
        assert_died(&mut batch_manager, point);
        let _batch_manager = fixture.platform.start("batch-manager");
        fixture.verify_outcome(false).await;
    });
}

#[test]
fn batch_apps_die_between_any_two_steps() {
    walk(BATCH_APP, |point| async move {
        let fixture = BatchFixture::new(point).await;
        let _daemons = ["fetchdata", "batch-manager"].map(|kind| fixture.platform.start(kind));
        let log =
            if stores_objects(point) { "clients/objects/batch.log" } else { "clients/documents/batch.log" };
        wait_for_app_death(&fixture.platform, log, point).await;
        fixture.verify_outcome(false).await;
    });
}

/// Whether the point is reached only if held content is dropped again.
fn needs_return(point: &str) -> bool {
    point.starts_with("staging.retry-")
        || ["fetchdata.repeat-set-aside", "fetchdata.held-returned"].contains(&point)
}

/// Whether the point is reached only if staging is on another file system.
fn needs_copies(point: &str) -> bool {
    [
        "fetchdata.part",
        "fetchdata.original-",
        "fetchdata.copy-",
        "staging.run-copied",
        "staging.copy-published",
    ]
    .iter()
    .any(|prefix| point.starts_with(prefix))
}

/// The points at which fetchdata dies, start after start: its recovery runs only after another crash.
fn crash_points(point: &'static str) -> Vec<&'static str> {
    match point {
        "fetchdata.recovery-published" => vec!["fetchdata.unpublished-synced", point],
        "fetchdata.recovery-returned" => vec!["fetchdata.manifest-written", point],
        "fetchdata.recovery-restored" => vec!["fetchdata.repeat-set-aside", point],
        _ => vec![point],
    }
}

fn stores_objects(point: &str) -> bool {
    ["batch-app.chunks-stored", "batch-app.object-committed"].contains(&point)
}

/// A platform and its load.
struct BatchFixture {
    platform: Platform,
    rows: u64,
    weather: Vec<u8>,
    /// Where staging is, if not below the root.
    _elsewhere: Option<TempDir>,
}

impl BatchFixture {
    async fn new(point: &str) -> Self {
        let app = |name: &str, app: &[&str]| match point.starts_with("batch-app.") {
            true if (name == "objects") == stores_objects(point) => json!(dies_once("true", point, app)),
            _ => json!(app),
        };
        let mut weather = documents("documents");
        weather["micro_batching"] = json!({"block_size": "40KiB"});
        weather["receipt"] = json!(true);
        weather["apps"][0]["command"] =
            app("documents", &["document-app", "--null", "NA", "--type", "time_hour=date"]);
        let mut images = objects("objects");
        images["apps"][0]["command"] = app("objects", &["object-app"]);
        let platform =
            Platform::new(mongodb().url(), mosquitto().url(), json!([weather, images, refused()])).await;
        let elsewhere = needs_copies(point).then(|| staging_elsewhere(&platform));
        let (mut weather, rows) = readings(60_000);
        weather.extend_from_slice(REJECTED);
        if point == "batch-manager.reject-stored-beside" {
            // It is too large for a document.
            weather.splice(weather.len() - 1..weather.len() - 1, vec![b'x'; INLINE_BYTES_MAX as usize]);
        }
        let fixture = Self { platform, rows, weather, _elsewhere: elsewhere };
        let root = &fixture.platform.root;
        root.drop_file("documents", "weather.csv", &fixture.weather);
        root.drop_file("documents", "weather.exe", b"no such extension");
        root.drop_file("objects", "image.csv", &fixture.weather);
        root.drop_file("refused", "later.ndjson", LATER);
        fixture
    }

    fn wait_held(&self) {
        until(SOON, "the refused file is held", || self.platform.root.list("held/refused").len() == 1);
    }

    fn nothing_is_staged(&self) -> bool {
        CLIENTS.iter().all(|client| self.platform.root.list(&format!("staging/{client}")).is_empty())
    }

    /// Repairs the client's app, and drops the file again.
    fn drop_held_again(&self) {
        std::fs::write(self.platform.root.path().join("repaired"), "").expect("repair the app");
        self.platform.root.drop_file("refused", "later.ndjson", LATER);
    }

    /// Waits until nothing is in progress, and verifies everything that is stored.
    async fn verify_outcome(&self, returned: bool) {
        let root = &self.platform.root;
        until(SOON, "nothing is in progress", || {
            let waits = |client: &&str| {
                let mut dropped = root.list(&format!("client-input-directory/{client}"));
                dropped.retain(|name| name != "backfill" && !name.ends_with(".receipt.json"));
                !dropped.is_empty()
            };
            let held = root.list("held/refused").len();
            !CLIENTS.iter().any(waits)
                && self.nothing_is_staged()
                && root.list("state/outbox").is_empty()
                && held == usize::from(!returned)
        });
        self.assert_documents_stored().await;
        self.assert_object_stored().await;
        self.platform.until_stored("refused", "readings", if returned { 2 } else { 0 }, SOON).await;
        assert_eq!(root.list("discarded/documents").len(), 1);
        assert_eq!(root.reasons("discarded", "documents")[0]["file"], "weather.exe");
        let (discarded, directory) = ("discarded/documents", &root.list("discarded/documents")[0]);
        assert_eq!(root.list(&format!("{discarded}/{directory}")), ["reason.json", "weather.exe"]);
        for directory in ["client-input-directory", "staging", "held", "discarded"] {
            let left = hidden_below(&root.path().join(directory));
            assert!(left.is_empty(), "left behind: {left:?}");
        }
        wait_reconciled(&self.platform);
    }

    async fn assert_documents_stored(&self) {
        let runs = self.platform.until_ingested("documents", 1, SOON).await;
        let [run] = &runs[..] else { panic!("one file is one run: {runs:?}") };
        let counts = ["received", "stored", "duplicates", "rejected"].map(|field| number(run, field) as u64);
        assert_eq!(counts, [self.rows + 1, self.rows, 0, 1]);
        // A document with an id of its own cannot be stored twice; the count shows that none is missing.
        assert_eq!(self.platform.count("documents", "readings").await, self.rows);
        self.assert_reject_kept().await;
        let receipt = self.platform.root.drop_directory("documents").join("weather.csv.receipt.json");
        let receipt = std::fs::read(receipt).expect("the sender has a receipt");
        let receipt: Value = serde_json::from_slice(&receipt).expect("a receipt is JSON");
        assert_eq!(receipt["stored"], self.rows);
    }

    async fn assert_reject_kept(&self) {
        assert_eq!(self.platform.count("documents", "rejected").await, 1);
        let run = &self.platform.history("documents").await[0];
        let ingestion = run.get_str("ingestion").expect("an id");
        let exported = self.platform.command(0, &["rejected", ingestion, "--csv"]);
        let lines: Vec<&[u8]> = self.weather.split(|byte| *byte == b'\n').collect();
        let expected = [lines[0], lines[lines.len() - 2], b""].join(&b'\n');
        assert!(exported.as_bytes() == expected, "{} of {} bytes", exported.len(), expected.len());
    }

    async fn assert_object_stored(&self) {
        let database = self.platform.client_database("objects");
        let files = database.collection::<Document>("files.files");
        let object = files.find_one(doc! {}).await.expect("read").expect("the object is there");
        assert_eq!(number(&object, "length"), self.weather.len() as i64);
        assert_eq!(self.platform.count("objects", "files.files").await, 1);
        let chunks = self.weather.len().div_ceil(CHUNK_BYTES as usize) as u64;
        assert_eq!(self.platform.count("objects", "files.chunks").await, chunks);
    }
}

const REJECTED: &[u8] = b"EWR,2013,1.5,2.25,0,no time at all\n";
const LATER: &[u8] = b"{\"number\":1}\n{\"number\":2}\n";

/// A client whose app says that the data is bad, until the app has been repaired.
fn refused() -> Value {
    let app = binary("document-app");
    let script = format!("test -e repaired || exit 65; exec {}", app.display());
    json!({
        "id": "refused",
        "files": {"globs": ["*.ndjson"]},
        "receipt": true,
        "apps": [{"name": "app", "command": ["sh", "-c", script], "collection": "readings"}],
    })
}

/// `/dev/shm` and `/tmp` exist on every Linux; if they were one file system, the points would not be reached.
fn staging_elsewhere(platform: &Platform) -> TempDir {
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("temporary directory in memory");
    std::os::unix::fs::symlink(elsewhere.path(), platform.root.path().join("staging")).expect("link");
    elsewhere
}

/// Everything whose name begins with a dot, at any depth, except locks and what fetchdata says of itself.
fn hidden_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // The platform's own directory stays, and nothing may wait in it; `.fetchdata.json` says whose files are taken.
        let is_own = directory.ends_with(".mysimbdp");
        let stays = name.ends_with(".lock") || [".mysimbdp", ".fetchdata.json"].contains(&&*name);
        if is_own || name.starts_with('.') && !stays {
            found.push(path.display().to_string());
        }
        if path.is_dir() {
            found.extend(hidden_below(&path));
        }
    }
    found
}
