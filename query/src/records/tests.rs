//! Views on both stores, compared with a plain computation in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{DateTime, Document, RawDocumentBuf, doc};
use mysimbdp_config::settings::{SourceType, TimeType};
use mysimbdp_config::{ViewLayer, ViewWindows};
use mysimbdp_model::app::Ids;
use mysimbdp_model::ingestion::{Hasher, IngestionId};
use mysimbdp_model::ranges::Ranges;
use mysimbdp_model::source::{Source, SourceName};
use mysimbdp_store::Position;
use mysimbdp_store::sequences::Sequences;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::*;

/// Cases on each store: they find a wrong comparison or position within a few.
const CASES: u32 = 40;

struct TestStore {
    store: Arc<dyn Coredms>,
    _directory: Option<tempfile::TempDir>,
}

impl TestStore {
    async fn mongodb() -> Self {
        let url = mysimbdp_testbed::mongodb().url().to_owned();
        let store = mysimbdp_store::open(&url, &mysimbdp_testbed::unique("records")).await.expect("MongoDB");
        Self { store, _directory: None }
    }

    async fn embedded() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let url = format!("sqlite:{}", directory.path().display());
        let store = mysimbdp_store::open(&url, "records").await.expect("the embedded store");
        Self { store, _directory: Some(directory) }
    }

    async fn insert(&self, collection: &str, documents: &[Document]) {
        let raw = documents.iter().map(|document| RawDocumentBuf::try_from(document).expect("encodable"));
        let written = self.store.insert_many(collection, raw.collect()).await.expect("insert");
        assert_eq!(written.stored, documents.len() as u64);
    }
}

fn layer(collection: &str, ids: Ids) -> ViewLayer {
    ViewLayer {
        collection: collection.to_owned(),
        ids: Some(ids),
        is_shared: false,
        keeps_times: ids != Ids::Key,
    }
}

fn view(key: &[&str]) -> View {
    View {
        name: "view".to_owned(),
        batch: Some(layer("batch", Ids::None)),
        stream: Some(layer("stream", Ids::None)),
        time: "at.t".to_owned(),
        time_type: TimeType::Date,
        source: Some("s".to_owned()),
        source_type: SourceType::Text,
        key: key.iter().map(|&name| name.to_owned()).collect(),
        windows: ViewWindows { lateness: Duration::ZERO, idle: Duration::ZERO, publish: BTreeMap::new() },
    }
}

fn query(view: View) -> RecordsQuery {
    RecordsQuery {
        client: "client1".parse().expect("a client id"),
        view,
        from: None,
        until: None,
        source: None,
        order: Order::Ascending,
        fields: RecordFields::parse("_id,_origin,_cursor").expect("fields"),
        after: None,
        expected: 3,
    }
}

/// Reads a page, and returns its records and the position after it.
async fn page(test: &TestStore, query: &RecordsQuery, limit: usize) -> (Vec<Value>, Option<RecordsPosition>) {
    let opened = Records::open(Arc::clone(&test.store), query.clone(), Arc::default()).await;
    let (mut records, mut items) = (opened.expect("open"), Vec::new());
    let mut buffer = Vec::new();
    while items.len() < limit {
        buffer.clear();
        if !records.append_next(&mut buffer, RecordForm::Object).await.expect("read") {
            break;
        }
        items.push(serde_json::from_slice(&buffer).expect("JSON"));
    }
    let next = records.has_next().await.expect("read").then(|| records.position());
    (items, next)
}

fn identity(item: &Value) -> (String, i64) {
    let layer = item["_origin"]["layer"].as_str().expect("a layer").to_owned();
    (layer, item["_id"].as_i64().expect("an _id"))
}

/// What is generated of a document: time, source and key.
type Generated = (Option<i64>, bool, i64);

fn documents(generated: &[Generated], time_type: TimeType, first: i64) -> Vec<Document> {
    let document = |(index, (time, source, key)): (usize, &Generated)| {
        let mut document = doc! { "_id": first + index as i64, "s": if *source { "a" } else { "b" } };
        if *key > 0 {
            document.insert("k", key);
        }
        if let Some(seconds) = time {
            document.insert("at", doc! { "t": stored(*seconds, time_type) });
        }
        document
    };
    generated.iter().enumerate().map(document).collect()
}

fn stored(seconds: i64, time_type: TimeType) -> Bson {
    match time_type {
        TimeType::Date => DateTime::from_millis(seconds * 1_000).into(),
        TimeType::Text => Timestamp::from_second(seconds).expect("a time").to_string().into(),
        // Numbers of different types.
        TimeType::Seconds if seconds % 2 == 0 => (seconds as f64).into(),
        TimeType::Seconds => seconds.into(),
        TimeType::Milliseconds => (seconds * 1_000).into(),
    }
}

#[derive(Clone, Debug)]
struct Case {
    batch: Vec<Generated>,
    stream: Vec<Generated>,
    key: Vec<&'static str>,
    time_type: TimeType,
    order: Order,
    has_source: bool,
    from: Option<i64>,
    until: Option<i64>,
    page: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let generated =
        || prop::collection::vec((prop::option::weighted(0.9, 0..6_i64), any::<bool>(), 0..5_i64), 0..16);
    let keys = prop::sample::select(vec![vec![], vec!["_id"], vec!["k"], vec!["k", "s"]]);
    let types =
        prop::sample::select(vec![TimeType::Date, TimeType::Text, TimeType::Seconds, TimeType::Milliseconds]);
    let bound = || prop::option::of(0..7_i64);
    let orders = prop::sample::select(vec![Order::Ascending, Order::Descending]);
    (generated(), generated(), keys, types, orders, any::<bool>(), bound(), bound(), 1..20_usize).prop_map(
        |(batch, stream, key, time_type, order, has_source, from, until, page)| Case {
            batch,
            stream,
            key,
            time_type,
            order,
            has_source,
            from,
            until,
            page,
        },
    )
}

/// What the view has, computed without a store.
fn expected(case: &Case, batch: &[Document], stream: &[Document]) -> Vec<(String, i64)> {
    let key = |document: &Document| -> Option<Vec<Bson>> {
        case.key.iter().map(|name| document.get(name).cloned()).collect()
    };
    let is_overridden = |document: &Document| {
        let own = key(document).filter(|own| !own.is_empty());
        own.is_some() && batch.iter().any(|other| key(other) == own)
    };
    let stream: Vec<&Document> = stream.iter().filter(|document| !is_overridden(document)).collect();
    let all = batch
        .iter()
        .map(|document| ("batch", document))
        .chain(stream.into_iter().map(|document| ("stream", document)));
    let mut found: Vec<(i64, String, i64)> = all
        .filter(|(_, document)| !case.has_source || document.get_str("s").is_ok_and(|source| source == "a"))
        .filter_map(|(layer, document)| {
            let time = match document.get_document("at").ok()?.get("t")? {
                Bson::DateTime(date) => date.timestamp_millis() / 1_000,
                Bson::String(text) => text.parse::<Timestamp>().ok()?.as_second(),
                Bson::Double(number) => *number as i64,
                Bson::Int64(number) if case.time_type == TimeType::Milliseconds => number / 1_000,
                Bson::Int64(number) => *number,
                _ => return None,
            };
            Some((time, layer.to_owned(), document.get_i64("_id").ok()?))
        })
        .filter(|(time, ..)| {
            case.from.is_none_or(|from| *time >= from) && case.until.is_none_or(|until| *time < until)
        })
        .collect();
    found.sort();
    if case.order == Order::Descending {
        found.reverse();
    }
    found.into_iter().map(|(_, layer, id)| (layer, id)).collect()
}

async fn check(test: &TestStore, number: u32, case: &Case) {
    // Keys that are ids meet only if the ranges of the ids overlap.
    let (batch, stream) =
        (documents(&case.batch, case.time_type, 0), documents(&case.stream, case.time_type, 4));
    let mut view = view(&case.key);
    view.time_type = case.time_type;
    for (layer, name, documents) in
        [(&mut view.batch, "batch", &batch), (&mut view.stream, "stream", &stream)]
    {
        let collection = format!("{name}-{number}");
        test.insert(&collection, documents).await;
        layer.as_mut().expect("a layer").collection = collection;
    }
    for (collection, fields) in indexes(&view, case.has_source) {
        // With an index and without.
        if number.is_multiple_of(2) {
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            test.store.ensure_index(&collection, &fields).await.expect("an index");
        }
    }
    let second = |seconds: i64| Timestamp::from_second(seconds).expect("a time");
    let mut query = RecordsQuery {
        from: case.from.map(second),
        until: case.until.map(second),
        source: case.has_source.then(|| "a".into()),
        order: case.order,
        ..query(view)
    };
    let expected = expected(case, &batch, &stream);
    let (all, next) = page(test, &query, usize::MAX).await;
    assert_eq!(all.iter().map(identity).collect::<Vec<_>>(), expected, "{case:?}");
    assert_eq!(next, None);
    // Each record's cursor is where the rest begins.
    for (index, item) in all.iter().enumerate() {
        query.after =
            Some(RecordsPosition::parse(item["_cursor"].as_str().expect("a cursor")).expect("a cursor"));
        let (rest, _) = page(test, &query, usize::MAX).await;
        assert_eq!(rest.iter().map(identity).collect::<Vec<_>>(), expected[index + 1..], "{case:?}");
    }
    query.after = None;
    let mut paged = Vec::new();
    loop {
        let (items, next) = page(test, &query, case.page).await;
        assert!(items.len() == case.page || next.is_none());
        paged.extend(items.iter().map(identity));
        let Some(next) = next else { break };
        query.after = Some(RecordsPosition::parse(&next.to_text()).expect("a position"));
    }
    assert_eq!(paged, expected, "{case:?}");
}

fn pages_have_every_record_once_in_order(store: impl Future<Output = TestStore>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let test = runtime.block_on(store);
    let number = std::cell::Cell::new(0);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() });
    let result = runner.run(&cases(), |case| {
        number.set(number.get() + 1);
        runtime.block_on(check(&test, number.get(), &case));
        Ok(())
    });
    runtime.block_on(async { test.store.drop_database().await }).expect("drop the database");
    result.expect("every case");
}

#[test]
fn pages_have_every_record_once_in_order_on_mongodb() {
    pages_have_every_record_once_in_order(TestStore::mongodb());
}

#[test]
fn pages_have_every_record_once_in_order_on_the_embedded_store() {
    pages_have_every_record_once_in_order(TestStore::embedded());
}

async fn blocks_may_be_overridden_as_a_whole(test: TestStore) {
    let count = 3 * BLOCK_DOCUMENTS as i64;
    let at = |id: i64| doc! { "t": DateTime::from_millis(id) };
    let stream: Vec<Document> = (0..count).map(|id| doc! { "_id": id, "at": at(id) }).collect();
    // The batch layer has moved all but the last record out of the range, and two to another time.
    let batch = (0..count - 1).map(|id| doc! { "_id": id, "at": at(if id < 2 { 10 - id } else { -id }) });
    test.insert("stream", &stream).await;
    test.insert("batch", &batch.collect::<Vec<_>>()).await;
    let query = RecordsQuery { from: Some(Timestamp::UNIX_EPOCH), ..query(view(&["_id"])) };
    let (items, next) = page(&test, &query, 10).await;
    let expected = [("batch".to_owned(), 1), ("batch".to_owned(), 0), ("stream".to_owned(), count - 1)];
    assert_eq!(items.iter().map(identity).collect::<Vec<_>>(), expected);
    assert_eq!(next, None);
    test.store.drop_database().await.expect("drop the database");
}

#[tokio::test]
async fn blocks_may_be_overridden_as_a_whole_on_mongodb() {
    blocks_may_be_overridden_as_a_whole(TestStore::mongodb().await).await;
}

#[tokio::test]
async fn blocks_may_be_overridden_as_a_whole_on_the_embedded_store() {
    blocks_may_be_overridden_as_a_whole(TestStore::embedded().await).await;
}

#[tokio::test]
async fn a_cursor_of_another_query_is_refused() {
    let test = TestStore::embedded().await;
    test.insert("batch", &[doc! { "_id": 1, "at": { "t": DateTime::from_millis(5) } }]).await;
    let first = query(view(&["_id"]));
    let (items, _) = page(&test, &first, 1).await;
    let cursor = RecordsPosition::parse(items[0]["_cursor"].as_str().expect("a cursor")).expect("a cursor");
    let invalid = Position { value: Bson::Null, id: 1.into() };
    let invalid = RecordsPosition { batch: Some(invalid), ..cursor.clone() };
    for query in [
        RecordsQuery { order: Order::Descending, after: Some(cursor.clone()), ..first.clone() },
        RecordsQuery { source: Some("a".into()), after: Some(cursor.clone()), ..first.clone() },
        RecordsQuery { until: Some(Timestamp::UNIX_EPOCH), after: Some(cursor), ..first.clone() },
        RecordsQuery { after: Some(invalid), ..first.clone() },
    ] {
        let error = Records::open(Arc::clone(&test.store), query, Arc::default()).await.expect_err("refused");
        assert!(
            matches!(&error, QueryError::InvalidRequest(text) if text.contains("invalid cursor")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_origin_is_what_the_document_tells_and_no_more() {
    let test = TestStore::embedded().await;
    let client: ClientId = "client1".parse().expect("a client id");
    let ingestion = IngestionId::new(&client, &Hasher::new().finalize());
    let source = Source { name: "s1".parse::<SourceName>().expect("a name"), epoch: u64::MAX };
    let mut received = Ranges::default();
    received.insert(1, 7);
    let sequences = Sequences::new(Arc::clone(&test.store), client.clone(), "numbered");
    sequences.mark(&[(source.clone(), received)].into()).await.expect("mark");
    sequences.progress(&source, 0).await.expect("a watermark");
    let unknown = Source { epoch: 3, ..source.clone() };
    let at = doc! { "t": DateTime::from_millis(5) };
    let provenance = |layer: &str, ingestion: &str, record: i64| {
        doc! {
            "layer": layer, "received_at": DateTime::from_millis(7), "ingestion": ingestion, "record": record,
        }
    };
    let id = |id: mysimbdp_model::ingestion::RecordId| bson::Binary::from(id);
    let prefix = &ingestion.to_string()[..16];
    let own = doc! { "layer": "batch", "ingestion": "mine" };
    for (name, layer_of, ids, document, expected) in [
        (
            "platform",
            Layer::Batch,
            Ids::Platform,
            doc! { "_id": id(ingestion.record_id(258)), "at": &at },
            json!({"layer": "batch", "ingestion_prefix": prefix, "record": 258}),
        ),
        (
            "keyed",
            Layer::Batch,
            Ids::Key,
            doc! { "_id": 1, "at": &at, "_ingest": provenance("batch", &ingestion.to_string(), 4) },
            json!({"layer": "batch", "ingestion": ingestion.to_string(), "record": 4, "received_at": "1970-01-01T00:00:00.007Z"}),
        ),
        // Both layers write to it, and the last writer of this document was the other one.
        (
            "shared",
            Layer::Batch,
            Ids::Key,
            doc! { "_id": 1, "at": &at, "_ingest": provenance("stream", "", 0) },
            json!({"layer": "stream", "received_at": "1970-01-01T00:00:00.007Z"}),
        ),
        (
            "own",
            Layer::Batch,
            Ids::None,
            doc! { "_id": 1, "at": &at, "_ingest": &own },
            json!({"layer": "batch"}),
        ),
        (
            "numbered",
            Layer::Stream,
            Ids::Platform,
            doc! { "_id": id(source.id(&client, 7)), "at": &at },
            json!({"layer": "stream", "source": "s1", "epoch": "18446744073709551615", "seq": 7}),
        ),
        (
            "unknown",
            Layer::Stream,
            Ids::Platform,
            doc! { "_id": id(unknown.id(&client, 9)), "at": &at },
            json!({"layer": "stream", "seq": 9}),
        ),
        (
            "unnumbered",
            Layer::Stream,
            Ids::Platform,
            doc! { "_id": bson::oid::ObjectId::new(), "at": &at },
            json!({"layer": "stream"}),
        ),
    ] {
        test.insert(name, &[document]).await;
        let read = layer(name, ids);
        let view = match layer_of {
            Layer::Batch => View { batch: Some(read), stream: None, ..view(&[]) },
            Layer::Stream => View { batch: None, stream: Some(read), ..view(&[]) },
        };
        let query = RecordsQuery { fields: RecordFields::Stored, ..query(view) };
        let (items, _) = page(&test, &query, 1).await;
        assert_eq!(items[0]["_origin"], expected, "{name}");
        // It is the platform's field only with keys.
        let is_own = ids == Ids::None;
        assert_eq!(items[0].get("_ingest").is_some(), is_own, "{name}");
        assert_eq!(items[0]["at"]["t"], "1970-01-01T00:00:00.005Z");
    }
}

#[tokio::test]
async fn fields_are_selected_as_objects_and_as_columns() {
    let test = TestStore::embedded().await;
    let document = doc! { "_id": 1, "at": { "t": DateTime::from_millis(5) }, "a": { "b": "x,y", "c": 2 }, "_origin": "own" };
    test.insert("batch", &[document]).await;
    let of = async |fields: &str| {
        let fields = RecordFields::parse(fields).expect("fields");
        let query = RecordsQuery { fields: fields.clone(), ..query(view(&[])) };
        let (items, _) = page(&test, &query, 1).await;
        let opened = Records::open(Arc::clone(&test.store), query, Arc::default()).await;
        let (mut records, mut table) = (opened.expect("open"), Vec::new());
        append_header(&mut table, fields.columns().unwrap_or_default());
        records.append_next(&mut table, RecordForm::Row).await.expect("read");
        (items[0].clone(), String::from_utf8(table).expect("UTF-8"))
    };
    let (object, table) = of("a.b,none,_id,_origin").await;
    assert_eq!(object, json!({"a.b": "x,y", "_id": 1, "_origin": {"layer": "batch"}}));
    assert_eq!(table, "a.b,none,_id,_origin\n\"x,y\",,1,\"{\"\"layer\"\":\"\"batch\"\"}\"\n");
    let (object, _) = of("*,_cursor").await;
    assert_eq!(object["a"], json!({"b": "x,y", "c": 2}));
    assert!(object["_cursor"].is_string() && object.get("_origin").is_none(), "{object}");
    let (_, table) = of("none").await;
    assert_eq!(table, "none\n\"\"\n");
    for wrong in ["", "a,", "a,,b", "a,a", "$where", "a..b"] {
        let error = RecordFields::parse(wrong).expect_err("refused").to_string();
        assert!(error.starts_with("invalid fields: "), "{error}");
    }
}
