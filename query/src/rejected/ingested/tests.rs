use bson::{Bson, RawDocumentBuf};
use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_model::ingestion::Hasher;
use mysimbdp_platform::files;
use mysimbdp_store::history::History;
use mysimbdp_store::{CHUNK_BYTES, Object};

use super::*;
use crate::rejected;

const STAGED_AT: i64 = 1_000_000;

struct Fixture {
    config: Config,
    ingestion: IngestionId,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary directory");
        let file = folder.path().join("config.json");
        let text = r#"{"clients": [{"id": "a", "apps": [{"name": "app", "command": ["x"]}]}]}"#;
        files::write_atomic(&file, text.as_bytes()).expect("config can be written");
        let config = Config::load(&file, |_| None).expect("a valid config");
        let ingestion = IngestionId::new(&"a".parse().expect("client id"), &Hasher::new().finalize());
        Self { config, ingestion, _folder: folder }
    }

    fn run(&self, client: &str, state: FinalState, rejected: i64, staged_at: i64) -> Document {
        let time = bson::DateTime::from_millis(staged_at);
        doc! {
            "_id": format!("{}-{staged_at}", self.ingestion), "ingestion": self.ingestion.to_string(),
            "client": client, "app": "app", "lane": "live", "file": "data.csv", "bytes": 4_i64, "blake3": "",
            "micro_batches": 1, "received": rejected, "stored": 0_i64, "duplicates": 0_i64,
            "rejected": rejected, "audited": true, "state": state.as_str(), "received_at": time,
            "staged_at": time, "finished_at": time, "seconds": 0.1,
        }
    }

    async fn add_run(&self, run: Document) {
        let database = &self.config.settings.coredms.database;
        let store = mysimbdp_store::open(&self.config.coredms_url, database).await.expect("open the store");
        store.put(History::COLLECTION, run).await.expect("write a run");
        store.close().await;
    }

    async fn client_store(&self) -> Arc<dyn Coredms> {
        let client = self.config.clients.values().next().expect("a client");
        mysimbdp_store::open(&self.config.coredms_url, &client.database).await.expect("open the store")
    }

    /// Adds what the records with these numbers were rejected for.
    async fn add_rejects(&self, records: impl Iterator<Item = u64>, content: impl Fn(u64) -> RejectedBytes) {
        let documents = records.map(|record| {
            let mut reject = doc! {
                "_id": bson::Binary::from(self.ingestion.record_id(record)),
                "record": Bson::Int64(i64::try_from(record).expect("a number")), "reason": format!("reason {record}"),
            };
            content(record).describe(&mut reject, "content", 1);
            RawDocumentBuf::try_from(&reject).expect("a document")
        });
        let store = self.client_store().await;
        store.insert_many(REJECTED, documents.collect()).await.expect("add rejects");
        store.close().await;
    }

    async fn open(&self) -> Result<RejectedRecords, QueryError> {
        rejected::open(&self.config, self.ingestion).await
    }
}

async fn all(records: &mut RejectedRecords) -> Vec<RejectedRecord> {
    let mut found = Vec::new();
    while let Some(record) = records.next().await.expect("the next record") {
        found.push(record);
    }
    found
}

/// An axum handler may be moved to another thread between two records.
#[test]
fn the_records_can_be_read_on_any_thread() {
    fn require_send<T: Send>(value: T) -> T {
        value
    }
    fn require_static<T: Send + 'static>(_: &T) {}
    let fixture = Fixture::new();
    let _read = require_send(async {
        let mut records = require_send(rejected::open(&fixture.config, fixture.ingestion)).await?;
        require_static(&records);
        require_send(records.next()).await?;
        require_send(records.finish()).await
    });
}

#[tokio::test]
async fn the_records_of_an_ingested_file_are_read_page_by_page() {
    let fixture = Fixture::new();
    let count = 2 * PAGE as u64 + 3;
    fixture.add_run(fixture.run("a", FinalState::Ingested, count as i64, STAGED_AT)).await;
    let large = IngestionId::of_object([7; 16]);
    let content = |number: u64| match number {
        0 => RejectedBytes::Object(large),
        2 => RejectedBytes::NotKept,
        _ => RejectedBytes::Inline(format!("{number},x").into_bytes()),
    };
    fixture.add_rejects((0..count).map(|index| index * 2), content).await;
    let store = fixture.client_store().await;
    let bytes = vec![b'x'; CHUNK_BYTES as usize + 1];
    for (id, bytes, format) in
        [(large, &bytes[..], "binary"), (fixture.ingestion, b"\xef\xbb\xbfa,b", "ndjson")]
    {
        let metadata = doc! { "format": format };
        let object = Object { id, name: "data.csv".to_owned(), bytes: bytes.len() as u64, metadata };
        store.put_chunks(REJECTED, id, 0, bytes.to_vec().into()).await.expect("chunks");
        store.commit_object(REJECTED, &object).await.expect("an object");
    }
    store.close().await;

    let mut records = fixture.open().await.expect("the file");
    assert_eq!((records.client().as_str(), records.file()), ("a", "data.csv"));
    assert_eq!((records.format(), records.prefix()), (Format::Ndjson, &b"\xef\xbb\xbfa,b"[..]));
    assert_eq!((records.expected(), records.warning()), (count, None));
    let found = all(&mut records).await;
    assert!(found.iter().map(|one| one.record).eq((0..count).map(|index| index * 2)), "{found:?}");
    assert_eq!(found[0].content.as_ref(), Some(&bytes));
    assert_eq!(found[1].content, None);
    assert_eq!((found[2].reason.as_str(), found[2].content.as_deref()), ("reason 4", Some(&b"4,x"[..])));
    records.finish().await.expect("all were returned");
}

#[tokio::test]
async fn missing_records_are_reported_before_the_first_one_or_at_the_end() {
    let fixture = Fixture::new();
    fixture.add_run(fixture.run("a", FinalState::Ingested, 3, STAGED_AT)).await;
    let error = fixture.open().await.expect_err("no record is left");
    assert_eq!(
        (error.kind(), error.to_string().contains("has none of them")),
        (ErrorKind::InvalidData, true)
    );
    fixture.add_rejects(1..3, |_| RejectedBytes::Inline(b"x".to_vec())).await;
    let mut records = fixture.open().await.expect("the file");
    assert_eq!(all(&mut records).await.len(), 2);
    let error = records.finish().await.expect_err("one is missing");
    assert_eq!((error.kind(), error.to_string().contains("has 2 of them")), (ErrorKind::InvalidData, true));
}

#[tokio::test]
async fn a_later_run_that_was_held_is_named_in_a_warning() {
    let fixture = Fixture::new();
    fixture.add_run(fixture.run("a", FinalState::Ingested, 0, STAGED_AT)).await;
    fixture.add_run(fixture.run("a", FinalState::Held, 1, STAGED_AT + 1)).await;
    let mut records = fixture.open().await.expect("the file");
    assert!(
        records.warning().is_some_and(|warning| warning.contains("is no longer in held/")),
        "{records:?}"
    );
    assert_eq!(all(&mut records).await, []);
    fixture.add_run(fixture.run("a", FinalState::Purged, 1, STAGED_AT + 2)).await;
    let records = fixture.open().await.expect("the file");
    assert!(records.warning().is_some_and(|warning| warning.contains("has been purged")), "{records:?}");
}

#[tokio::test]
async fn a_file_whose_records_cannot_be_found_is_refused_with_the_reason() {
    let fixture = Fixture::new();
    let refused = async |part: &str, kind| {
        let error = fixture.open().await.expect_err(part);
        assert!(error.to_string().contains(part) && error.kind() == kind, "{part}: {error}");
    };
    refused("no held or ingested file has the id", ErrorKind::NotFound).await;
    fixture.add_run(fixture.run("a", FinalState::Held, 1, STAGED_AT)).await;
    refused("it is not in held/", ErrorKind::NotFound).await;
    fixture.add_run(fixture.run("a", FinalState::Purged, 1, STAGED_AT + 1)).await;
    refused("was purged", ErrorKind::NotFound).await;
    fixture.add_run(fixture.run("b", FinalState::Ingested, 1, STAGED_AT + 2)).await;
    refused("client b of this file is no longer in the config", ErrorKind::NotFound).await;
    let staged = fixture.config.layout.staged(&"a".parse().expect("client id"), fixture.ingestion);
    files::create_dir_all(&staged).expect("directory");
    refused("is being ingested", ErrorKind::Temporary).await;
}
