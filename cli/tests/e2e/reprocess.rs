//! An app was repaired: the documents that it has stored are replaced, on either store, and readers find the old or the
//! new ones.

use std::fs;
use std::sync::Arc;

use bson::{Bson, Document, doc};
use mysimbdp_store::Coredms;
use mysimbdp_testbed::{Daemon, Root, binary, mongodb, mosquitto, unique, until, until_async};
use serde_json::{Value, json};

use crate::support::{SOON, documents, number, objects};

/// Each case becomes two tests.
macro_rules! on_both {
    ($($case:ident,)*) => {
        mod on_mongodb {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(super::Store::MongoDb).await;
            })*
        }

        mod on_embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(super::Store::Embedded).await;
            })*
        }
    };
}

on_both! {
    values_change_rejected_records_vanish_and_accepted_ones_appear,
    documents_under_keys_are_replaced_and_those_of_other_files_are_not,
    a_file_whose_app_cannot_replace_is_held_and_nothing_is_removed,
    a_dropped_copy_replaces_what_the_first_has_stored,
    a_table_that_is_dropped_again_is_the_newest_and_one_that_is_reprocessed_is_not,
    of_tables_that_wait_for_each_other_the_last_dropped_is_the_newest,
}

#[derive(Clone, Copy, Debug)]
pub enum Store {
    MongoDb,
    Embedded,
}

/// A platform with one client, whose app can be repaired.
pub struct TestPlatform {
    pub root: Root,
    store: Store,
    database: String,
    client: String,
}

impl TestPlatform {
    /// `client` is any client whose app takes its arguments from the file `arguments`.
    pub fn new(store: Store, mut client: Value) -> Self {
        let database = unique("reprocess");
        client["archive"] = json!("1d");
        client["receipt"] = json!(true);
        let id = client["id"].as_str().expect("an id").to_owned();
        let mut config = json!({
            "broker": {"url": mosquitto().url(), "topic_prefix": unique("reprocess")},
            "coredms": {"database": database},
            "fetchdata": {"settle": "100ms", "scan_every": "1s"},
            "batch_manager": {
                "scan_every": "1s", "backoff_first": "50ms", "backoff_max": "200ms", "attempts_max": 2,
            },
            "clients": [client],
        });
        if let Store::MongoDb = store {
            config["coredms"]["url"] = json!(mongodb().url());
        }
        Self { root: Root::new(&config), store, database, client: id }
    }

    /// Gives the app these arguments, from its next start on.
    pub fn set_arguments(&self, arguments: &str) {
        fs::write(self.root.path().join("arguments"), arguments).expect("write the arguments");
    }

    pub fn start(&self, kind: &str) -> Daemon {
        Daemon::start(&self.root, &[kind], &[])
    }

    #[track_caller]
    pub fn command(&self, code: i32, words: &[&str]) -> String {
        let output = Daemon::run(&self.root, words, &[]);
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?} printed\n{printed}");
        printed
    }

    /// Drops a file, and waits for its outcome.
    #[track_caller]
    pub fn drop_file(&self, code: i32, name: &str, content: &str) -> String {
        let path = self.root.path().join(name);
        fs::write(&path, content).expect("write a file");
        self.command(code, &["drop", &self.client, path.to_str().expect("UTF-8"), "--wait"])
    }

    async fn open(&self, database: &str) -> Arc<dyn Coredms> {
        let url = match self.store {
            Store::MongoDb => mongodb().url().to_owned(),
            Store::Embedded => format!("sqlite:{}", self.root.path().join("state/coredms").display()),
        };
        mysimbdp_store::open(&url, database).await.expect("open the store")
    }

    /// All documents of a collection of the client, ordered by `_id`.
    pub async fn documents(&self, collection: &str) -> Vec<Document> {
        let store = self.open(&format!("{}_{}", self.database, self.client)).await;
        let found = store.page(collection, doc! {}, None, 10_000).await.expect("read a collection");
        store.close().await;
        found
    }

    /// All runs, the oldest first.
    pub async fn history(&self) -> Vec<Document> {
        let store = self.open(&self.database).await;
        let found = store.page("ingestions", doc! {}, None, 1_000).await.expect("read the history");
        store.close().await;
        found
    }

    /// Waits until there are `runs` runs and nothing is staged.
    pub async fn ended(&self, runs: usize) -> Vec<Document> {
        let staged = format!("staging/{}", self.client);
        let all = async || self.history().await.len() >= runs && self.root.list(&staged).is_empty();
        until_async(SOON, &format!("{runs} runs have ended"), all).await;
        self.history().await
    }

    /// The ingestion of the only file in the archive.
    pub fn archived(&self) -> String {
        let archived = self.root.list(&format!("archive/{}", self.client));
        assert_eq!(archived.len(), 1, "{archived:?}");
        archived[0].clone()
    }

    fn receipt(&self, name: &str) -> Value {
        let path = self.root.drop_directory(&self.client).join(format!("{name}.receipt.json"));
        serde_json::from_slice(&fs::read(path).expect("a receipt")).expect("JSON")
    }
}

/// A client whose app reads its arguments from a file at each start. The shell runs `before` before it starts the app.
pub fn repairable(before: &str) -> Value {
    let mut client = documents("client1");
    client["micro_batching"] = json!({"block_size": "400B"});
    let script = format!("{before} exec {} $(cat arguments)", binary("document-app").display());
    client["apps"][0]["command"] = json!(["sh", "-c", script]);
    client
}

pub const ROWS: usize = 60;

/// Rows of which one has no number, and another no time.
pub fn table() -> String {
    let row = |row: usize| {
        let number = if row == 3 { "x".to_owned() } else { row.to_string() };
        let time = if row == 41 { "never" } else { "2013-01-01T00:00:00Z" };
        format!("n{row},{number},{time}\n")
    };
    format!("name,number,time\n{}", (0..ROWS).map(row).collect::<String>())
}

/// Rejects the row without a number, and stores every time as text.
pub const BROKEN: &str = "--type number=int";
/// Stores every number as text, and rejects the row without a time.
pub const REPAIRED: &str = "--type time=date";

/// Asserts that the documents are those that the repaired app stores, and no more.
pub fn assert_repaired(documents: &[Document]) {
    assert_eq!(documents.len(), ROWS - 1);
    for document in documents {
        assert!(matches!(document.get("number"), Some(Bson::String(_))), "{document}");
        assert!(matches!(document.get("time"), Some(Bson::DateTime(_))), "{document}");
    }
    assert!(documents.iter().any(|document| document.get_str("number").ok() == Some("x")));
}

fn records(rejected: &[Document]) -> Vec<i64> {
    rejected.iter().map(|reject| number(reject, "record")).collect()
}

fn counts(run: &Document) -> [i64; 4] {
    ["received", "stored", "duplicates", "rejected"].map(|field| number(run, field))
}

async fn values_change_rejected_records_vanish_and_accepted_ones_appear(store: Store) {
    let platform = TestPlatform::new(store, repairable(""));
    let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    platform.set_arguments(BROKEN);
    platform.drop_file(65, "table.csv", &table());
    let before = platform.documents("readings").await;
    assert_eq!((before.len(), records(&platform.documents("rejected").await)), (ROWS - 1, vec![3]));
    let ingestion = platform.archived();

    platform.set_arguments(REPAIRED);
    let printed = platform.command(0, &["reprocess", &ingestion, "--dry-run"]);
    assert!(printed.contains(&format!("would reprocess {ingestion} of client1: table.csv")), "{printed}");
    assert_eq!(platform.archived(), ingestion);
    platform.command(0, &["reprocess", &ingestion]);
    let runs = platform.ended(2).await;
    assert_eq!(counts(&runs[0]), [ROWS as i64, ROWS as i64 - 1, 0, 1]);
    assert_eq!(counts(&runs[1]), [ROWS as i64, ROWS as i64 - 1, 0, 1]);
    assert_eq!(runs[1].get_bool("replace").ok(), Some(true));
    assert_repaired(&platform.documents("readings").await);
    let rejected = platform.documents("rejected").await;
    assert_eq!(records(&rejected), [41]);
    assert_eq!(rejected[0].get_str("content").ok(), Some("n41,41,never"));
    assert_eq!(platform.archived(), ingestion);
    assert_eq!(platform.receipt("table.csv")["rejected"], 1);
    assert!(platform.command(0, &["reconcile"]).contains("balances"));

    // The report names a run, whose id stands for its ingestion.
    let run = runs[1].get_str("_id").expect("an id");
    assert!(platform.command(0, &["reconcile"]).contains(run));
    platform.command(0, &["reprocess", run, "--dry-run"]);
    platform.command(0, &["rejected", run]);
    platform.command(64, &["reprocess", &format!("{ingestion}-1")]);

    // All files of a client, once more; those that are not in the archive are named.
    let printed = platform.command(0, &["reprocess", "--client", "client1", "--since", "1h"]);
    assert!(printed.contains("1 file staged again, 0 skipped"), "{printed}");
    platform.ended(3).await;
    assert_repaired(&platform.documents("readings").await);
    let printed = platform.command(0, &["reprocess", "--client", "client1", "--since", "2999-01-01"]);
    assert!(printed.contains("0 files"), "{printed}");
    fs::remove_dir_all(platform.root.path().join("archive/client1").join(&ingestion))
        .expect("empty the archive");
    assert!(platform.command(66, &["reprocess", &ingestion]).contains("is not in the archive"));
    let printed = platform.command(65, &["reprocess", "--client", "client1", "--since", "1h"]);
    assert!(
        printed.contains("is not in the archive") && printed.contains("0 files staged again, 1 skipped"),
        "{printed}"
    );
    assert!(platform.command(66, &["reprocess", &"0".repeat(32)]).contains("unknown ingestion"));
    platform.command(64, &["reprocess"]);
}

async fn documents_under_keys_are_replaced_and_those_of_other_files_are_not(store: Store) {
    let mut client = repairable("");
    client["apps"][0]["ids"] = json!("key");
    client["apps"][0]["record_key"] = json!(["key"]);
    let platform = TestPlatform::new(store, client);
    let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    let rows: String = (0..40).map(|row| format!("a{row},b{row},{}\n", row * 2)).collect();
    // Two records with one key: the later one counts.
    let content = format!("a,b,value\n{rows}a0,b0,x\n");
    platform.set_arguments("--rename a=key");
    platform.drop_file(0, "first.csv", &content);
    let ingestion = platform.archived();
    // Newer documents, under a key that the first file has before its second run, and one that it has after.
    platform.drop_file(0, "second.csv", "a,b,value\na7,x,-7\nb9,x,-9\n");
    assert_eq!(platform.documents("readings").await.len(), 41);

    platform.set_arguments("--rename b=key --type value=long --null x");
    platform.command(0, &["reprocess", &ingestion]);
    let runs = platform.ended(3).await;
    let run =
        runs.iter().find(|run| run.get_bool("replace").ok() == Some(true)).expect("a run that replaces");
    assert_eq!(counts(run)[0], 41);
    let documents = platform.documents("readings").await;
    let keys: Vec<&str> = documents.iter().filter_map(|document| document.get_str("_id").ok()).collect();
    let mut expected: Vec<String> = (0..40).map(|row| format!("b{row}")).collect();
    expected.push("a7".to_owned());
    expected.sort();
    assert_eq!(keys, expected);
    for document in &documents {
        let of_second = ["a7", "b9"].contains(&document.get_str("_id").expect("text"));
        assert_eq!(document.get_document("_ingest").expect("its metadata").contains_key("run"), !of_second);
        if of_second {
            assert!(number(document, "value") < 0, "{document}");
        }
    }
    let newest = documents.iter().find(|document| document.get_str("_id").ok() == Some("b0")).expect("b0");
    assert_eq!(newest.get("value"), Some(&Bson::Null), "{newest}");
    platform.command(0, &["reconcile"]);

    // The later of the two records is rejected: the earlier one is stored instead.
    platform.set_arguments("--rename b=key --type value=long");
    platform.command(0, &["reprocess", &ingestion]);
    platform.ended(4).await;
    let documents = platform.documents("readings").await;
    let first = documents.iter().find(|document| document.get_str("_id").ok() == Some("b0")).expect("b0");
    assert_eq!(number(first, "value"), 0);
    assert_eq!((documents.len(), platform.documents("rejected").await.len()), (41, 1));
    platform.command(0, &["reconcile"]);
}

async fn a_file_whose_app_cannot_replace_is_held_and_nothing_is_removed(store: Store) {
    for ids in ["platform", "key"] {
        let mut client = repairable("test -e knows || unset MYSIMBDP_REPLACE;");
        if ids == "key" {
            client["apps"][0]["ids"] = json!("key");
            client["apps"][0]["record_key"] = json!(["name"]);
        }
        let platform = TestPlatform::new(store, client);
        let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
        platform.set_arguments(BROKEN);
        platform.drop_file(65, "table.csv", &table());
        let ingestion = platform.archived();
        platform.set_arguments(REPAIRED);
        platform.command(0, &["reprocess", &ingestion]);
        until(SOON, "it is held", || !platform.root.list("held/client1").is_empty());
        let reasons = platform.root.reasons("held", "client1")[0]["reasons"].to_string();
        assert!(reasons.contains("MYSIMBDP_REPLACE"), "{reasons}");
        let documents = platform.documents("readings").await;
        assert!((ROWS - 1..=ROWS).contains(&documents.len()), "{ids}: {}", documents.len());
        let has_lost =
            |row: usize| !documents.iter().any(|one| one.get_str("name").ok() == Some(&format!("n{row}")));
        assert!(!(0..ROWS).any(|row| row != 3 && has_lost(row)), "{ids}: {documents:?}");
        until(SOON, "the history says that it is held", || {
            platform.command(0, &["reconcile"]).contains("held")
        });
        assert!(platform.command(65, &["reprocess", &ingestion]).contains("mysimbdp retry"));

        let printed = platform.command(65, &["reprocess", "--client", "client1", "--since", "1h"]);
        assert!(printed.contains(&format!("skipped {ingestion} of client1: it is held; ")), "{printed}");

        // Once the app can replace, a retry completes the run.
        fs::write(platform.root.path().join("knows"), "").expect("repair the app");
        let held = platform.history().await.pop().expect("a run");
        platform.command(0, &["retry", held.get_str("_id").expect("an id")]);
        until(SOON, "it is archived again", || !platform.root.list("archive/client1").is_empty());
        assert_repaired(&platform.documents("readings").await);
        platform.command(0, &["reconcile"]);
    }
}

async fn a_dropped_copy_replaces_what_the_first_has_stored(store: Store) {
    let mut client = repairable("");
    client["on_duplicate"] = json!("replace");
    let platform = TestPlatform::new(store, client);
    let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    platform.set_arguments(BROKEN);
    platform.drop_file(65, "table.csv", &table());
    platform.set_arguments(REPAIRED);
    platform.drop_file(65, "copy.csv", &table());
    let runs = platform.ended(2).await;
    assert_eq!((runs[1].get_str("file").ok(), counts(&runs[1])), (Some("copy.csv"), counts(&runs[0])));
    let received = |run: &Document| run.get_datetime("received_at").expect("a date").timestamp_millis();
    assert!(received(&runs[0]) < received(&runs[1]), "it counts from when it was dropped");
    assert_repaired(&platform.documents("readings").await);
    assert_eq!(records(&platform.documents("rejected").await), [41]);
    platform.command(0, &["reconcile"]);
}

async fn a_table_that_is_dropped_again_is_the_newest_and_one_that_is_reprocessed_is_not(store: Store) {
    // Two units, of which a changed app may refuse only the second.
    let value = |table: &str, row: usize| format!("{}{table}", if row < 50 { "1" } else { "x" });
    let row = |table: &str, row: usize| format!("n{row},{}\n", value(table, row));
    let of = |table: &str| format!("name,value\n{}", (0..ROWS).map(|n| row(table, n)).collect::<String>());
    let (older, newer) = (of("00"), of("11"));
    let mut client = repairable("");
    client["apps"][0]["ids"] = json!("key");
    client["apps"][0]["record_key"] = json!(["name"]);
    client["on_duplicate"] = json!("replace");
    let platform = TestPlatform::new(store, client);
    let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    let holds = async |table: &str| {
        let documents = platform.documents("readings").await;
        assert_eq!(documents.len(), ROWS);
        for document in &documents {
            let number: usize = document.get_str("name").expect("a name")[1..].parse().expect("a number");
            assert_eq!(document.get_str("value").ok(), Some(value(table, number).as_str()), "{document}");
        }
    };
    platform.set_arguments("");
    platform.drop_file(0, "monday.csv", &older);
    platform.drop_file(0, "tuesday.csv", &newer);
    holds("11").await;
    platform.drop_file(0, "wednesday.csv", &older);
    holds("00").await;

    // A table that was dropped earlier stays older if it is run again.
    let tuesday =
        platform.history().await.into_iter().find(|run| run.get_str("file").ok() == Some("tuesday.csv"));
    let tuesday = tuesday.expect("its run").get_str("ingestion").expect("an ingestion").to_owned();
    platform.command(0, &["reprocess", &tuesday]);
    platform.ended(4).await;
    holds("00").await;

    // A held table, too, counts from when it is dropped again, with all that was already stored of it.
    platform.drop_file(0, "thursday.csv", &newer);
    holds("11").await;
    platform.set_arguments("--type value=long");
    platform.drop_file(65, "friday.csv", &older);
    assert_eq!(platform.root.list("held/client1").len(), 1);
    platform.set_arguments("");
    platform.drop_file(0, "saturday.csv", &newer);
    holds("11").await;
    platform.drop_file(0, "sunday.csv", &older);
    assert_eq!(platform.root.list("held/client1"), Vec::<String>::new());
    holds("00").await;
    platform.command(0, &["reconcile"]);
}

async fn of_tables_that_wait_for_each_other_the_last_dropped_is_the_newest(store: Store) {
    let of = |value: &str| {
        format!("name,value\n{}", (0..ROWS).map(|row| format!("n{row},{value}\n")).collect::<String>())
    };
    let mut client = repairable("");
    client["apps"][0]["ids"] = json!("key");
    client["apps"][0]["record_key"] = json!(["name"]);
    client["on_duplicate"] = json!("replace");
    let platform = TestPlatform::new(store, client);
    platform.set_arguments("");
    let _fetchdata = platform.start("fetchdata");
    let staged = async |count: usize| {
        let is_staged = async || platform.root.list("staging/client1").len() == count;
        until_async(SOON, &format!("{count} tables are staged"), is_staged).await;
    };
    platform.root.drop_file("client1", "a.csv", of("older").as_bytes());
    staged(1).await;
    // A copy of the first waits for its end, and so is taken last, although it was not dropped last.
    platform.root.drop_file("client1", "b.csv", of("older").as_bytes());
    let waits =
        async || platform.root.log("fetchdata.log").contains("same content is staged, waiting for its end");
    until_async(SOON, "the copy waits", waits).await;
    platform.root.drop_file("client1", "c.csv", of("newer").as_bytes());
    staged(2).await;
    let _batch_manager = platform.start("batch-manager");
    platform.ended(3).await;
    let documents = platform.documents("readings").await;
    let is_newer = |document: &Document| document.get_str("value").is_ok_and(|value| value == "newer");
    assert!(documents.len() == ROWS && documents.iter().all(is_newer), "{documents:?}");
    platform.command(0, &["reconcile"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repaired_app_that_rejects_too_much_removes_nothing_until_it_is_repaired_again() {
    let platform = TestPlatform::new(Store::MongoDb, repairable(""));
    let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    platform.set_arguments(BROKEN);
    platform.drop_file(65, "table.csv", &table());
    let ingestion = platform.archived();
    platform.set_arguments("--type name=date");
    platform.command(0, &["reprocess", &ingestion]);
    until(SOON, "it is held", || !platform.root.list("held/client1").is_empty());
    let reasons = platform.root.reasons("held", "client1")[0]["reasons"].to_string();
    assert!(reasons.contains("60 of 60 records were rejected"), "{reasons}");
    assert_eq!(platform.documents("readings").await.len(), ROWS - 1, "the records that the first run stored");
    platform.set_arguments(REPAIRED);
    platform.command(0, &["retry", &ingestion]);
    until(SOON, "it is archived again", || !platform.root.list("archive/client1").is_empty());
    assert_repaired(&platform.documents("readings").await);
    assert_eq!(records(&platform.documents("rejected").await), [41]);
    platform.command(0, &["reconcile"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_replacement_that_is_purged_returns_to_the_archive_and_its_rejects_are_reported_as_purged() {
    let platform = TestPlatform::new(Store::Embedded, repairable(""));
    let daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    platform.set_arguments("");
    platform.drop_file(0, "table.csv", &table());
    let ingestion = platform.archived();
    let held = async |runs: usize| {
        platform.set_arguments("--type name=date");
        platform.command(0, &["reprocess", &ingestion]);
        platform.ended(runs).await;
        assert_eq!(platform.root.list("held/client1"), [ingestion.as_str()]);
        assert_eq!(platform.root.list("archive/client1"), Vec::<String>::new());
    };
    held(2).await;
    assert_eq!(platform.command(0, &["rejected", &ingestion]).matches("record ").count(), ROWS);

    let purge = ["purge", "--held", "--older-than", "1ms"];
    let printed = platform.command(0, &[&purge[..], &["--dry-run"]].concat());
    assert!(
        printed.contains(&format!("would return held file {ingestion} of client1 to the archive")),
        "{printed}"
    );
    let printed = platform.command(0, &purge);
    assert!(
        printed.contains(&format!("returned held file {ingestion} of client1 to the archive")),
        "{printed}"
    );
    assert!(printed.contains("0 files removed, 1 returned"), "{printed}");
    assert_eq!((platform.root.list("held/client1"), platform.archived()), (vec![], ingestion.clone()));
    assert_eq!(platform.documents("readings").await.len(), ROWS);
    let printed = platform.command(66, &["rejected", &ingestion]);
    assert!(printed.contains("was held and has been purged"), "{printed}");
    assert!(!printed.contains("no record of it was rejected"), "{printed}");
    platform.command(0, &["reconcile"]);

    // The retention setting of the config does the same.
    held(3).await;
    drop(daemons);
    let text = fs::read_to_string(platform.root.config()).expect("read config.json");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["clients"][0]["retention"] = json!({"held": "1ms"});
    platform.root.configure(&config);
    let batch_manager = platform.start("batch-manager");
    until(SOON, "it is in the archive again", || !platform.root.list("archive/client1").is_empty());
    drop(batch_manager);
    config["clients"][0]["retention"] = json!({});
    platform.root.configure(&config);

    // The returned file is run again, by an app that was repaired better.
    let _batch_manager = platform.start("batch-manager");
    platform.set_arguments(REPAIRED);
    platform.command(0, &["reprocess", &ingestion]);
    platform.ended(4).await;
    assert_eq!(platform.archived(), ingestion);
    assert_repaired(&platform.documents("readings").await);
    assert!(platform.command(0, &["rejected", &ingestion]).contains("record 41"));
    platform.command(0, &["reconcile"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_of_an_object_is_replaced_and_its_bytes_stay() {
    let mut client = objects("client1");
    let script = format!("exec {} $(cat arguments)", binary("object-app").display());
    client["apps"][0]["command"] = json!(["sh", "-c", script]);
    for store in [Store::MongoDb, Store::Embedded] {
        let platform = TestPlatform::new(store, client.clone());
        let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
        let content = format!("a,b\n{}", "1,2\n".repeat(200_000));
        platform.set_arguments("");
        platform.drop_file(0, "image.csv", &content);
        let ingestion = platform.archived();
        platform.set_arguments("--content-type text/x-repaired");
        platform.command(0, &["reprocess", &ingestion]);
        platform.ended(2).await;
        let files = platform.documents("files.files").await;
        assert_eq!(files.len(), 1);
        let metadata = files[0].get_document("metadata").expect("metadata");
        assert_eq!(metadata.get_str("content_type").ok(), Some("text/x-repaired"));
        platform.command(0, &["reconcile"]);
        let store = platform.open(&format!("{}_client1", platform.database)).await;
        let id = ingestion.parse().expect("an ingestion");
        let stored = store.object("files", id).await.expect("read").expect("it exists");
        assert!(stored == content.as_bytes(), "{} bytes", stored.len());
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_in_progress_or_stored_under_other_ids_is_not_reprocessed() {
    let platform = TestPlatform::new(Store::Embedded, repairable(""));
    platform.set_arguments(BROKEN);
    let fetchdata = platform.start("fetchdata");
    let mut batch_manager = platform.start("batch-manager");
    platform.drop_file(65, "table.csv", &table());
    assert!(batch_manager.terminate().success());
    drop(fetchdata);
    let ingestion = platform.archived();
    let configure = |change: &dyn Fn(&mut Value)| {
        let text = fs::read_to_string(platform.root.config()).expect("read config.json");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        change(&mut config["clients"][0]["apps"][0]);
        platform.root.configure(&config);
    };
    configure(&|app| app["collection"] = json!("elsewhere"));
    assert!(platform.command(78, &["reprocess", &ingestion]).contains("the collection elsewhere"));
    configure(&|app| app["ids"] = json!("none"));
    assert!(platform.command(78, &["reprocess", &ingestion]).contains("ids \"none\""));
    configure(&|app| {
        app["collection"] = json!("readings");
        app["ids"] = json!("platform");
    });
    platform.command(0, &["reprocess", &ingestion]);
    assert!(platform.command(75, &["reprocess", &ingestion]).contains("is still being ingested"));
    assert!(platform.command(0, &["reconcile"]).contains("being replaced"));
    // The config changes once more before the file is run: it is held, and nothing is stored elsewhere.
    configure(&|app| app["collection"] = json!("elsewhere"));
    let _batch_manager = platform.start("batch-manager");
    until(SOON, "it is held", || !platform.root.list("held/client1").is_empty());
    let reasons = platform.root.reasons("held", "client1")[0]["reasons"].to_string();
    assert!(reasons.contains("cannot replace what an earlier run has stored"), "{reasons}");
    assert_eq!(platform.documents("elsewhere").await, []);
    assert_eq!(platform.documents("readings").await.len(), ROWS - 1);
}
