//! `mysimbdp reconcile`: what is stored balances, and what is removed or added behind the platform's back is found.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bson::{Binary, Document, doc};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::source::{Lost, Source};
use mysimbdp_store::sequences::Sequences;
use mysimbdp_store::{CHUNK_BYTES, Coredms};
use mysimbdp_testbed::{Daemon, Root, mongodb, mosquitto, until, until_async};
use serde_json::{Value, json};

use crate::support::{Platform, SOON, documents, objects, readings, run, stream};

/// Documents under the platform's ids, of which the validator refuses some.
fn with_rejects(id: &str) -> Value {
    let mut client = documents(id);
    client["apps"][0]["rejects_max"] = json!("100%");
    client["collections"] =
        json!({"readings": {"validator": {"bsonType": "object", "properties": {"visib": {"maximum": 990}}}}});
    client
}

fn keyed(id: &str) -> Value {
    let mut client = documents(id);
    client["apps"][0]["ids"] = json!("key");
    client["apps"][0]["record_key"] = json!(["visib"]);
    client
}

/// One client for each kind of ids: documents with rejects, keys, and objects of several chunks.
fn clients() -> Value {
    json!([objects("client1"), with_rejects("client2"), keyed("client3")])
}

fn reconcile(root: &Root, code: i32, words: &[&str]) -> String {
    run(root, code, &[&["reconcile"], words].concat())
}

fn drop_everything(root: &Root) -> u64 {
    let (content, rows) = readings(2 * CHUNK_BYTES as usize);
    assert!(rows > 1000, "{rows}");
    for client in ["client1", "client2", "client3"] {
        root.drop_file(client, "year.csv", &content);
    }
    rows
}

/// Waits until everything is ingested, and drops newer documents under some of the keys.
fn ingest_everything(root: &Root) {
    until_ingested(root, 1);
    root.drop_file("client3", "a day.csv", &readings(10_000).0);
    until_ingested(root, 2);
}

fn until_ingested(root: &Root, files_with_keys: u64) {
    until(SOON, "everything is ingested", || {
        let output = Daemon::run(root, &["reconcile", "--json"], &[]);
        let Ok(report) = serde_json::from_slice::<Value>(&output.stdout) else { return false };
        let contents = |client: &str| report["clients"][client]["contents"].as_u64();
        [("client1", 1), ("client2", 1), ("client3", files_with_keys)].iter().all(|(client, count)| {
            contents(client) == Some(*count) && report["clients"][client]["staged"] == 0
        })
    });
}

fn report(root: &Root) -> Value {
    serde_json::from_str(&reconcile(root, 0, &["--json"])).expect("JSON alone")
}

fn assert_everything_balances(root: &Root, rows: u64) {
    let report = report(root);
    assert_eq!(report["differences"], json!([]));
    let rejected = rows - 991;
    let client2 = &report["clients"]["client2"];
    assert_eq!((&client2["received"], &client2["in_coredms"]), (&json!(rows), &json!(991)));
    assert_eq!(client2["rejected"], json!(rejected));
    let client3 = &report["clients"]["client3"];
    let day = readings(10_000).1;
    // Each key is one document, whichever file was the last to write it.
    assert_eq!((&client3["in_coredms"], &client3["superseded"]), (&json!(rows), &json!(day)));
    assert!(reconcile(root, 0, &["--client", "client2"]).contains("balances"));
    reconcile(root, 66, &["--client", "nobody"]);
    reconcile(root, 64, &["--since", "yesterday"]);
    assert!(!reconcile(root, 0, &["--since", "2100-01-01"]).contains("year.csv"));
    assert!(reconcile(root, 0, &["--since", "2h"]).contains("year.csv"));
}

/// The records may expire before they are counted, or at any time after.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_an_index_expires_are_not_a_difference() {
    let mut client = documents("client1");
    client["apps"] = json!([
        {"name": "keyed", "files": ["keyed.csv"], "command": ["document-app", "--type", "time=date"], "collection": "readings",
            "ids": "key", "record_key": ["number"]},
        {"name": "documents", "command": ["document-app", "--type", "time=date"], "collection": "readings"},
    ]);
    client["collections"] = json!({"readings": {"expires": true}});
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([client])).await;
    let database = platform.client_database("client1");
    let often = doc! {"setParameter": 1, "ttlMonitorSleepSecs": 1};
    database.client().database("admin").run_command(often).await.expect("set how often it checks");
    let index = doc! {"key": {"time": 1}, "name": "time", "expireAfterSeconds": 0};
    let create = doc! {"createIndexes": "readings", "indexes": [index]};
    database.run_command(create).await.expect("an index");

    let _fetchdata = platform.start("fetchdata");
    let _batch_manager = platform.start("batch-manager");
    for (name, first) in [("old.csv", 0), ("keyed.csv", 5_000)] {
        let file = platform.root.path().join(name);
        let rows: String =
            (first..first + 5_000).map(|row| format!("{row},2013-01-01T00:00:00Z\n")).collect();
        std::fs::write(&file, format!("number,time\n{rows}{first},no time\n")).expect("a file");
        platform.command(65, &["drop", "--wait", "client1", file.to_str().expect("UTF-8")]);
    }
    let expired = async || platform.count("client1", "readings").await == 0;
    until_async(SOON, "all records have expired", expired).await;
    let report = report(&platform.root);
    let client = &report["clients"]["client1"];
    let found = ["stored", "rejected", "expired", "superseded"].map(|name| &client[name]);
    assert_eq!(found, [&json!(10_000), &json!(2), &json!(10_000), &json!(0)], "{report}");
}

fn ingestion_of(root: &Root, client: &str) -> IngestionId {
    let report = report(root);
    let runs = report["runs"].as_array().expect("runs");
    let run = runs.iter().find(|run| run["client"] == client).expect("a run");
    run["run"]
        .as_str()
        .and_then(|run| run.split('-').next())
        .expect("a run id")
        .parse()
        .expect("an ingestion")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balances_on_mongodb_and_each_change_behind_its_back_is_named() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients()).await;
    let root = &platform.root;
    let rows = drop_everything(root);
    let _fetchdata = platform.start("fetchdata");
    let _batch_manager = platform.start("batch-manager");
    ingest_everything(root);
    assert_everything_balances(root, rows);

    let ingestion = ingestion_of(root, "client2");
    let id = |number| Binary::from(ingestion.record_id(number));
    let readings = platform.client_database("client2").collection::<Document>("readings");
    let third = readings.find_one_and_delete(doc! {"_id": id(3)}).await.expect("delete").expect("it existed");
    let found = reconcile(root, 65, &[]);
    assert!(
        found.contains("\"year.csv\"") && found.contains("has 990 documents of its records, expected 991"),
        "{found}"
    );
    readings.insert_one(third).await.expect("put it back");

    readings.insert_one(doc! {"_id": id(1_000_000), "visib": 1}).await.expect("add one");
    let found = reconcile(root, 65, &["--client", "client2"]);
    assert!(found.contains("has 992 documents of its records, expected 991 (1 too many)"), "{found}");
    readings.delete_one(doc! {"_id": id(1_000_000)}).await.expect("delete");

    let rejected = platform.client_database("client2").collection::<Document>("rejected");
    let reject = rejected.find_one_and_delete(doc! {}).await.expect("delete").expect("it existed");
    let found = reconcile(root, 65, &[]);
    let (is, must_be) = (rows - 992, rows - 991);
    assert!(found.contains(&format!("{is} records are listed as rejected, expected {must_be}")), "{found}");
    rejected.insert_one(reject).await.expect("put it back");

    let chunks = platform.client_database("client1").collection::<Document>("files.chunks");
    let chunk = chunks.find_one_and_delete(doc! {"n": 1}).await.expect("delete").expect("it existed");
    let found = reconcile(root, 65, &[]);
    assert!(found.contains("client client1") && found.contains("its object has 2 chunks of"), "{found}");
    chunks.insert_one(chunk).await.expect("put it back");

    let keyed = platform.client_database("client3").collection::<Document>("readings");
    let newest = keyed.find_one(doc! {"_id": 0}).await.expect("find").expect("it existed");
    for number in 0..500 {
        let mut invalid = newest.clone();
        invalid.insert("_id", format!("invalid {number}"));
        keyed.insert_one(invalid).await.expect("add one");
    }
    let found = reconcile(root, 65, &[]);
    assert!(
        found.contains("\"a day.csv\"") && found.contains("documents that it wrote, expected at most"),
        "{found}"
    );
    keyed.delete_many(doc! {"_id": {"$gte": "forged"}}).await.expect("delete");
    assert_everything_balances(root, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balances_on_the_embedded_store_and_what_is_missing_there_is_named() {
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s", "backoff_first": "100ms"},
        "clients": clients(),
    }));
    let rows = drop_everything(&root);
    let mut fetchdata = Daemon::start(&root, &["fetchdata"], &[]);
    let mut batch_manager = Daemon::start(&root, &["batch-manager"], &[]);
    ingest_everything(&root);
    assert!(fetchdata.terminate().success() && batch_manager.terminate().success());
    assert_everything_balances(&root, rows);

    let (client1, client2) = (ingestion_of(&root, "client1"), ingestion_of(&root, "client2"));
    let url = format!("sqlite:{}", root.path().join("state/coredms").display());
    let store = mysimbdp_store::open(&url, "mysimbdp_client2").await.expect("open the store");
    let extra = bson::RawDocumentBuf::try_from(&doc! {"_id": Binary::from(client2.record_id(1_000_000))});
    store.insert_many("readings", vec![extra.expect("a document")]).await.expect("add one");
    let reject = bson::RawDocumentBuf::try_from(&doc! {"_id": Binary::from(client2.record_id(0))});
    store.insert_many("rejected", vec![reject.expect("a document")]).await.expect("add one");
    store.close().await;
    let object = root.path().join("state/coredms/mysimbdp_client1.objects/files").join(client1.to_string());
    let file = std::fs::OpenOptions::new().write(true).open(object).expect("the object's file");
    file.set_len(u64::from(CHUNK_BYTES)).expect("cut it off");

    let found = reconcile(&root, 65, &[]);
    for fragment in [
        "has 992 documents of its records, expected 991 (1 too many)",
        "records are listed as rejected, expected",
        "its object has 1 chunks of 261120 bytes",
    ] {
        assert!(found.contains(fragment), "{fragment}: {found}");
    }
    let stored = root.path().join("state/coredms");
    std::fs::rename(&stored, root.path().join("state/elsewhere")).expect("move the store away");
    std::fs::write(&stored, "in the way").expect("block the store");
    reconcile(&root, 69, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_file_is_not_a_difference_until_it_is_lost() {
    let mut client = documents("client2");
    client["apps"][0]["command"] = json!(["false"]);
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s", "backoff_first": "10ms", "backoff_max": "10ms", "attempts_max": 1},
        "clients": [client],
    }));
    root.drop_file("client2", "year.csv", &readings(1_000).0);
    let _fetchdata = Daemon::start(&root, &["fetchdata"], &[]);
    let _batch_manager = Daemon::start(&root, &["batch-manager"], &[]);
    until(SOON, "the history knows that it is held", || {
        Daemon::run(&root, &["reconcile"], &[]).stdout.windows(8).any(|text| text == b"year.csv")
    });
    let report = report(&root);
    assert_eq!(
        (&report["clients"]["client2"]["held"], &report["runs"][0]["verdict"]),
        (&json!(1), &json!("held"))
    );
    std::fs::remove_dir_all(root.path().join("held/client2")).expect("remove what is held");
    let found = reconcile(&root, 65, &[]);
    assert!(found.contains("as held, but it is in neither held/ nor staging/"), "{found}");
}

/// The state of a stream as its app leaves it: `stored` and `rejected` numbers of a source in coredms, `marked` as received.
struct Stream {
    store: Arc<dyn Coredms>,
    client: ClientId,
    source: Source,
}

impl Stream {
    async fn open(root: &Root, source: &str) -> Self {
        let url = format!("sqlite:{}", root.path().join("state/coredms").display());
        let store = mysimbdp_store::open(&url, "mysimbdp_client3").await.expect("open the store");
        let source = Source { name: source.parse().expect("a source"), epoch: u64::MAX };
        Self { store, client: "client3".parse().expect("a client"), source }
    }

    async fn insert(&self, collection: &str, numbers: RangeInclusive<u64>, content: &[u8]) {
        let document = |number| {
            let bytes = [self.source.id(&self.client, number).0.as_slice(), content].concat();
            let id = Binary { subtype: bson::spec::BinarySubtype::Generic, bytes };
            bson::RawDocumentBuf::try_from(&doc! {"_id": id}).expect("a document")
        };
        let documents: Vec<_> = numbers.map(document).collect();
        let count = documents.len() as u64;
        let written = self.store.insert_many(collection, documents).await.expect("insert");
        assert_eq!(written.stored, count);
    }

    fn sequences(&self) -> Sequences {
        Sequences::new(Arc::clone(&self.store), self.client.clone(), "readings")
    }

    async fn mark(&self, first: u64, last: u64) {
        let numbers = BTreeMap::from([(self.source.clone(), [(first, last)].into_iter().collect())]);
        self.sequences().mark(&numbers).await.expect("mark");
        self.sequences().progress(&self.source, 0).await.expect("progress");
    }

    async fn record_lost(&self, first: u64, last: u64) {
        let lost = Lost { source: self.source.clone(), first, last };
        self.sequences().record_lost(&lost).await.expect("record a loss");
        self.sequences().progress(&self.source, 0).await.expect("progress");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_number_of_a_source_is_stored_rejected_or_named_as_lost_or_missing() {
    let root = Root::new(&json!({"clients": [stream("client3", json!({}))]}));
    let good = Stream::open(&root, "good").await;
    good.insert("readings", 1..=49, b"").await;
    good.insert("rejected", 50..=50, b"content1").await;
    good.insert("rejected", 50..=50, b"content2").await;
    good.insert("readings", 51..=100, b"").await;
    // Known with other content: stored once, and rejected.
    good.insert("rejected", 7..=7, b"content3").await;
    good.mark(1, 100).await;
    // After a gap whose numbers are requested again.
    good.insert("readings", 110..=119, b"").await;
    good.mark(110, 119).await;
    let largest = Stream::open(&root, "largest").await;
    largest.insert("rejected", u64::MAX..=u64::MAX, b"content1").await;
    largest.insert("readings", u64::MAX - 1..=u64::MAX - 1, b"").await;
    largest.mark(u64::MAX - 1, u64::MAX).await;
    let found = reconcile(&root, 0, &["--json"]);
    let report: Value = serde_json::from_str(&found).expect("JSON alone");
    let row = &report["sources"][0];
    let of = |name: &str| row[name].as_u64().expect("a number");
    assert_eq!(["through", "beyond", "gaps", "accounted", "lost"].map(of), [100, 10, 9, 110, 0], "{row}");

    // Unnumbered messages are counted, as far as they can be told apart.
    let unnumbered = ["a", "b", "c"].map(|id| bson::rawdoc! { "_id": id });
    good.store.insert_many("readings", unnumbered.into()).await.expect("insert");
    let found = reconcile(&root, 0, &["--json"]);
    let report: Value = serde_json::from_str(&found).expect("JSON alone");
    let row = &report["messages"][0];
    let of = |name: &str| row[name].as_u64().expect("a number");
    assert_eq!(["documents", "numbered", "unnumbered"].map(of), [113, 110, 3], "{row}");
    assert!(reconcile(&root, 0, &[]).contains("unnumbered messages are counted but not compared"));

    let lossy = Stream::open(&root, "lossy").await;
    lossy.insert("readings", 1..=10, b"").await;
    lossy.mark(1, 10).await;
    lossy.record_lost(9, 13).await;
    // One of the lost numbers arrived after all.
    lossy.insert("readings", 12..=12, b"").await;
    let found = reconcile(&root, 65, &[]);
    assert!(found.contains("source lossy") && found.contains("2 numbers are lost"), "{found}");
    assert!(!found.contains("source good"), "{found}");

    let broken = Stream::open(&root, "broken").await;
    broken.insert("readings", 1..=8, b"").await;
    broken.mark(1, 10).await;
    let found = reconcile(&root, 65, &["--client", "client3"]);
    assert!(
        found.contains("source broken") && found.contains("2 numbers were received but are neither stored"),
        "{found}"
    );
    for stream in [good, largest, lossy, broken] {
        stream.store.close().await;
    }
}
