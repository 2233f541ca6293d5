//! Windows on both stores, compared with a plain computation in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{DateTime, Decimal128, Document, RawDocumentBuf, doc};
use mysimbdp_config::settings::SourceType;
use mysimbdp_config::{ViewLayer, ViewWindows};
use mysimbdp_model::app::Ids;
use mysimbdp_store::Coredms;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::sync::Semaphore;

use super::kept::Found;
use super::segment::Segment;
use super::*;

/// Cases on each store.
const CASES: u32 = 30;

fn layer(collection: &str) -> ViewLayer {
    ViewLayer { collection: collection.to_owned(), ids: Some(Ids::None), is_shared: false, keeps_times: true }
}

pub(super) fn query(size_millis: u64) -> WindowsQuery {
    let view = View {
        name: "view".to_owned(),
        batch: Some(layer("batch")),
        stream: Some(layer("stream")),
        time: "at".to_owned(),
        time_type: TimeType::Date,
        source: Some("s".to_owned()),
        source_type: SourceType::Text,
        key: Vec::new(),
        windows: ViewWindows { lateness: Duration::ZERO, idle: Duration::ZERO, publish: BTreeMap::new() },
    };
    WindowsQuery {
        client: "client1".parse().expect("a client id"),
        view,
        size: WindowSize::try_from(Period::millis(size_millis)).expect("a size"),
        fields: vec!["v".to_owned(), "m.w".to_owned()],
        source: None,
        from: None,
        until: None,
    }
}

/// A window, source and field, with its count, and the bits of its least, greatest, mean and deviation.
type Row = (i64, String, usize, u64, [u64; 4]);

fn row(item: &WindowItem) -> Row {
    let stats = item.stats();
    let bits = [stats.min, stats.max, stats.mean, stats.stddev()].map(f64::to_bits);
    (item.window.start, item.source().to_json().to_string(), item.field, stats.count, bits)
}

async fn open(
    store: &Arc<dyn Coredms>,
    query: &WindowsQuery,
    kept: Option<&Arc<KeptWindows>>,
    after: Option<WindowsPosition>,
) -> WindowItems {
    let query = Arc::new(query.clone());
    let kept = kept.map(|kept| kept.series(&query));
    let turns = Arc::new(Semaphore::new(2));
    let reader =
        WindowsReader::open(Arc::clone(store), query, kept, turns, ReadAhead::List, after.as_ref()).await;
    WindowItems::new(reader.expect("open"), after)
}

/// Reads everything; returns also how many windows were kept.
async fn read(
    store: &Arc<dyn Coredms>,
    query: &WindowsQuery,
    kept: Option<&Arc<KeptWindows>>,
) -> (Vec<Row>, u64) {
    let mut items = open(store, query, kept, None).await;
    let mut rows = Vec::new();
    while let Some(item) = items.next().await.expect("read") {
        rows.push(row(&item));
    }
    (rows, items.reader().from_kept)
}

async fn insert(store: &Arc<dyn Coredms>, collection: &str, documents: &[Document]) {
    let raw = documents.iter().map(|document| RawDocumentBuf::try_from(document).expect("encodable"));
    let written = store.insert_many(collection, raw.collect()).await.expect("insert");
    assert_eq!(written.stored, documents.len() as u64);
}

/// What is generated of a document: its time in milliseconds, source, key and numbers.
type Generated = (i64, usize, i64, [usize; 2]);

#[derive(Clone, Debug)]
struct Case {
    batch: Vec<Generated>,
    stream: Vec<Generated>,
    has_key: bool,
    has_source: bool,
    only: bool,
    time_type: TimeType,
    size: u64,
    from: Option<i64>,
    until: Option<i64>,
    page: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    // Close to each other, and far away.
    let time = || prop_oneof![0..20_000_i64, -3_000_000..3_000_000_i64];
    let generated =
        move || prop::collection::vec((time(), 0..4_usize, 0..6_i64, [0..9_usize, 0..9_usize]), 0..40);
    let types =
        prop::sample::select(vec![TimeType::Date, TimeType::Text, TimeType::Seconds, TimeType::Milliseconds]);
    let sizes = prop::sample::select(vec![1_000_u64, 1_001, 7_000, 60_000]);
    let bound = move || prop::option::of(time());
    (generated(), generated(), any::<[bool; 3]>(), types, sizes, bound(), bound(), 1..20_usize).prop_map(
        |(batch, stream, [has_key, has_source, only], time_type, size, from, until, page)| Case {
            batch,
            stream,
            has_key,
            has_source,
            only: only && has_source,
            time_type,
            size: if time_type == TimeType::Text { size - size % 1_000 } else { size },
            from,
            until,
            page,
        },
    )
}

fn stored_time(millis: i64, time_type: TimeType) -> Bson {
    match time_type {
        TimeType::Date => DateTime::from_millis(millis).into(),
        TimeType::Text => format!("{:.3}", Timestamp::from_millisecond(millis).expect("a time")).into(),
        TimeType::Seconds if millis % 1_000 == 0 => (millis / 1_000).into(),
        TimeType::Seconds => (millis as f64 / 1_000.0).into(),
        TimeType::Milliseconds => millis.into(),
    }
}

/// A value, and what it counts as.
fn value(choice: usize) -> (Bson, Option<f64>) {
    let decimal: Decimal128 = "1.10".parse().expect("a decimal");
    match choice {
        0 => (Bson::Null, None),
        1 => (f64::NAN.into(), None),
        2 => ("7".into(), None),
        3 => (f64::INFINITY.into(), None),
        4 => (decimal.into(), Some(1.1)),
        5 => (7_i32.into(), Some(7.0)),
        6 => ((1_i64 << 40).into(), Some((1_i64 << 40) as f64)),
        7 => (0.1.into(), Some(0.1)),
        _ => ((-273.15).into(), Some(-273.15)),
    }
}

fn documents(generated: &[Generated], time_type: TimeType) -> Vec<Document> {
    let document = |(id, (millis, source, key, [v, w])): (usize, &Generated)| {
        let mut document = doc! { "_id": id as i64, "at": stored_time(*millis, time_type), "k": key };
        match source {
            0 => {}
            1 => drop(document.insert("s", 5)),
            2 => drop(document.insert("s", "a")),
            _ => drop(document.insert("s", "b")),
        }
        document.insert("v", value(*v).0);
        document.insert("m", doc! { "w": value(*w).0 });
        document
    };
    generated.iter().enumerate().map(document).collect()
}

/// What the answer is, computed without a store.
fn expected(case: &Case) -> Vec<Row> {
    let is_overridden =
        |record: &&Generated| case.has_key && case.batch.iter().any(|other| other.2 == record.2);
    let stream = case.stream.iter().enumerate().filter(|(_, record)| !is_overridden(record));
    let mut records: Vec<(i64, usize, usize, Generated)> =
        case.batch.iter().enumerate().map(|(id, record)| (record.0, 0, id, *record)).collect();
    records.extend(stream.map(|(id, record)| (record.0, 1, id, *record)));
    records.sort();
    let size = case.size as i64;
    let mut windows: BTreeMap<(i64, String, usize), Vec<f64>> = BTreeMap::new();
    for (millis, _, _, (_, source, _, values)) in records {
        let start = millis.div_euclid(size) * size;
        let is_in =
            case.from.is_none_or(|from| start >= from) && case.until.is_none_or(|until| start < until);
        let source = match source {
            2 if case.has_source => "\"a\"",
            3 if case.has_source => "\"b\"",
            _ => "null",
        };
        if !is_in || (case.only && source != "\"a\"") {
            continue;
        }
        for (field, choice) in values.into_iter().enumerate() {
            if let Some(number) = value(choice).1 {
                // It comes before texts.
                let source = source.replace("null", " null");
                windows.entry((start, source, field)).or_default().push(number);
            }
        }
    }
    let row = |((start, source, field), numbers): ((i64, String, usize), Vec<f64>)| {
        let (mut mean, mut squares, mut count) = (0.0, 0.0, 0.0);
        for &number in &numbers {
            count += 1.0;
            let distance: f64 = number - mean;
            mean += distance / count;
            squares += distance * (number - mean);
        }
        let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let bits = [least, greatest, mean, (squares / count).sqrt()].map(f64::to_bits);
        (start, source.trim().to_owned(), field, numbers.len() as u64, bits)
    };
    windows.into_iter().map(row).collect()
}

async fn check(store: &Arc<dyn Coredms>, number: u32, case: &Case) {
    let time = |millis: i64| Timestamp::from_millisecond(millis).expect("a time");
    let mut query = WindowsQuery {
        from: case.from.map(time),
        until: case.until.map(time),
        source: case.only.then(|| "a".into()),
        ..query(case.size)
    };
    query.view.time_type = case.time_type;
    if case.has_key {
        query.view.key = vec!["k".to_owned()];
    }
    if !case.has_source {
        query.view.source = None;
    }
    for (layer, name, generated) in
        [(&mut query.view.batch, "batch", &case.batch), (&mut query.view.stream, "stream", &case.stream)]
    {
        let collection = format!("{name}-{number}");
        insert(store, &collection, &documents(generated, case.time_type)).await;
        layer.as_mut().expect("a layer").collection = collection;
    }
    let expected = expected(case);
    assert_eq!(read(store, &query, None).await.0, expected, "{case:?}");

    let kept = Arc::new(KeptWindows::new(1 << 20));
    // A part of it first, so that what is kept has gaps.
    let part = WindowsQuery { from: Some(time(5_000)), until: Some(time(9_000)), ..query.clone() };
    read(store, &part, Some(&kept)).await;
    assert_eq!(read(store, &query, Some(&kept)).await.0, expected, "{case:?}");
    let (rows, from_kept) = read(store, &query, Some(&kept)).await;
    assert_eq!(rows, expected, "{case:?}");
    let windows: BTreeSet<i64> = expected.iter().map(|row| row.0).collect();
    assert_eq!(from_kept, windows.len() as u64, "{case:?}");

    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let mut items = open(store, &query, Some(&kept).filter(|_| case.page.is_multiple_of(2)), after).await;
        let mut page = Vec::new();
        while page.len() < case.page
            && let Some(item) = items.next().await.expect("read")
        {
            page.push(item);
        }
        paged.extend(page.iter().map(row));
        let Some(last) = page.last().filter(|_| page.len() == case.page) else { break };
        let position = items.position_after(last).to_text();
        after = Some(WindowsPosition::parse(&query, &position).expect("a position"));
    }
    assert_eq!(paged, expected, "{case:?}");
}

fn windows_are_those_of_a_plain_computation(store: impl Future<Output = Arc<dyn Coredms>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let store = runtime.block_on(store);
    let number = std::cell::Cell::new(0);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() });
    let result = runner.run(&cases(), |case| {
        number.set(number.get() + 1);
        runtime.block_on(check(&store, number.get(), &case));
        Ok(())
    });
    runtime.block_on(store.drop_database()).expect("drop the database");
    result.expect("every case");
}

#[test]
fn windows_are_those_of_a_plain_computation_on_mongodb() {
    windows_are_those_of_a_plain_computation(async {
        let url = mysimbdp_testbed::mongodb().url().to_owned();
        mysimbdp_store::open(&url, &mysimbdp_testbed::unique("windows")).await.expect("MongoDB")
    });
}

#[test]
fn windows_are_those_of_a_plain_computation_on_the_embedded_store() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let url = format!("sqlite:{}", directory.path().display());
    windows_are_those_of_a_plain_computation(async move {
        mysimbdp_store::open(&url, "windows").await.expect("the embedded store")
    });
}

async fn embedded() -> (Arc<dyn Coredms>, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let url = format!("sqlite:{}", directory.path().display());
    (mysimbdp_store::open(&url, "windows").await.expect("the embedded store"), directory)
}

fn reading(id: i64, seconds: i64) -> Document {
    doc! { "_id": id, "at": DateTime::from_millis(seconds * 1_000), "s": "a", "v": id as f64 }
}

#[tokio::test]
async fn what_is_kept_is_dropped_where_something_was_stored() {
    let (store, _directory) = embedded().await;
    let readings: Vec<Document> = (0..300).map(|id| reading(id, id)).collect();
    insert(&store, "stream", &readings).await;
    let (kept, query) = (Arc::new(KeptWindows::new(1 << 20)), query(1_000));
    let rows = async || {
        let (with, from_kept) = read(&store, &query, Some(&kept)).await;
        assert_eq!(with, read(&store, &query, None).await.0);
        (with.len(), from_kept)
    };
    assert_eq!((rows().await, rows().await), ((300, 0), (300, 300)));

    // Nobody has said so: it is not noticed.
    insert(&store, "stream", &[reading(1_000, 150)]).await;
    assert_eq!(read(&store, &query, Some(&kept)).await.1, 300);
    let stored = |seconds| RawDocumentBuf::try_from(&reading(0, seconds)).expect("encodable");
    let client = query.client.clone();
    kept.stored(&"other".parse().expect("a client id"), "stream", &[stored(150)]);
    kept.stored(&client, "other", &[stored(150)]);
    assert_eq!(read(&store, &query, Some(&kept)).await.1, 300);
    kept.stored(&client, "stream", &[stored(150)]);
    let (count, from_kept) = rows().await;
    assert!(count == 300 && (1..300).contains(&from_kept), "{from_kept}");
    assert_eq!(rows().await.1, 300);
    // Newer than everything.
    insert(&store, "stream", &[reading(1_001, 400)]).await;
    kept.stored(&client, "stream", &[stored(400)]);
    assert_eq!(rows().await, (301, 300));
    kept.forget(&client, "other");
    assert_eq!(rows().await.1, 301);
    kept.forget(&client, "batch");
    assert_eq!((rows().await.1, rows().await.1), (0, 301));
    kept.forget_all();
    assert_eq!((rows().await.1, rows().await.1), (0, 301));
}

#[tokio::test]
async fn what_changes_while_it_is_computed_is_not_kept() {
    let kept = Arc::new(KeptWindows::new(1 << 20));
    let query = Arc::new(query(1_000));
    let (series, client, now) = (kept.series(&query), query.client.clone(), Instant::now());
    let segment = |range| Arc::new(Segment::empty(range, now));
    let is_kept = |at: i64| matches!(series.find(at, now), Found::Segment(_));
    let stored = |seconds| RawDocumentBuf::try_from(&reading(0, seconds)).expect("encodable");

    let computation = series.begin(0..10_000);
    kept.stored(&client, "stream", &[stored(4), stored(20)]);
    computation.keep(&segment(0..4_000));
    computation.keep(&segment(4_000..5_000));
    computation.keep(&segment(5_000..10_000));
    assert_eq!([0, 3_999, 4_000, 5_000, 10_000].map(is_kept), [true, true, false, true, false]);
    assert!(matches!(series.find(4_000, now), Found::Nothing(5_000)));
    kept.forget(&client, "stream");
    computation.keep(&segment(0..4_000));
    assert!(!is_kept(0) && !is_kept(5_000));

    // The query began before something was missed.
    let late = series.begin(0..10_000);
    late.keep(&segment(0..4_000));
    assert!(!is_kept(0));
    let new = kept.series(&query);
    new.begin(0..10_000).keep(&segment(0..4_000));
    assert!(is_kept(0));
    // Overlaps it.
    new.begin(0..10_000).keep(&segment(3_000..5_000));
    assert!(!is_kept(4_000));
    assert!(matches!(series.find(0, now + KEPT_FOR), Found::Segment(_)));
    assert!(matches!(series.find(0, now + KEPT_FOR + Duration::from_secs(1)), Found::Nothing(4_000)));
    assert!(!is_kept(0));
}

#[tokio::test]
async fn records_that_may_change_others_drop_everything() {
    let stored = [RawDocumentBuf::try_from(&reading(0, 7)).expect("encodable")];
    let mut query = query(1_000);
    assert_eq!(query.affected_by("stream", &stored), Affected::Windows([7_000].into()));
    assert_eq!(query.affected_by("batch", &stored), Affected::Windows([7_000].into()));
    assert_eq!(query.affected_by("other", &stored), Affected::Nothing);
    query.view.key = vec!["k".to_owned()];
    assert_eq!(query.affected_by("stream", &stored), Affected::Windows([7_000].into()));
    assert_eq!(query.affected_by("batch", &stored), Affected::Everything);
    query.view.stream.as_mut().expect("a layer").keeps_times = false;
    assert_eq!(query.affected_by("stream", &stored), Affected::Everything);
}

#[tokio::test]
async fn the_least_recently_used_is_dropped_if_there_is_no_room() {
    let segment = |range| Arc::new(Segment::empty(range, Instant::now()));
    let bytes = segment(0..1).bytes();
    let kept = Arc::new(KeptWindows::new(2 * bytes));
    let series = kept.series(&Arc::new(query(1_000)));
    let is_kept = |at: i64| matches!(series.find(at, Instant::now()), Found::Segment(_));
    let computation = series.begin(0..10_000);
    computation.keep(&segment(0..1_000));
    computation.keep(&segment(1_000..2_000));
    assert!(is_kept(0));
    computation.keep(&segment(2_000..3_000));
    assert_eq!([0, 1_000, 2_000].map(is_kept), [true, false, true]);
    let none = Arc::new(KeptWindows::new(0));
    let series = none.series(&Arc::new(query(1_000)));
    series.begin(0..10_000).keep(&segment(0..1_000));
    assert!(matches!(series.find(0, Instant::now()), Found::Nothing(_)));
}

#[tokio::test]
async fn times_of_another_kind_are_skipped_and_sources_are_bounded() {
    let (store, _directory) = embedded().await;
    let mut query = query(1_000);
    query.view.time_type = TimeType::Text;
    let mut texts: Vec<Document> = ["!", "zzz", "2026-01-01T00:00:01+01:00", "2026-01-01T00:00:01Z"]
        .iter()
        .enumerate()
        .map(|(id, text)| doc! { "_id": id as i64, "at": text, "v": 1 })
        .collect();
    texts.extend((0..20).map(|id| doc! { "_id": 100 + id, "at": format!("~{id}"), "v": 1 }));
    texts.extend((0..20).map(|id| doc! { "_id": 200 + id, "at": format!("#{id}"), "v": 1 }));
    insert(&store, "stream", &texts).await;
    let (rows, _) = read(&store, &query, None).await;
    assert_eq!(rows.iter().map(|row| (row.0, row.3)).collect::<Vec<_>>(), [(1_767_225_601_000, 1)]);

    let many: Vec<Document> = (0..=SERIES_MAX as i64 / 2)
        .map(|id| doc! { "_id": id, "at": DateTime::from_millis(0), "s": id.to_string(), "v": 1 })
        .collect();
    for part in many.chunks(20_000) {
        insert(&store, "batch", part).await;
    }
    let mut items = open(&store, &self::query(1_000), None, None).await;
    let error = items.next().await.expect_err("too many").to_string();
    assert!(error.starts_with("invalid size or fields: a window has more than 100000"), "{error}");
}

#[test]
fn wrong_sizes_fields_and_cursors_are_refused() {
    let mut query = query(60_000);
    for (text, expected) in [
        ("", "expected a whole number and ms, s, m, h or d"),
        ("10ms", "expected 1s to 366d"),
        ("367d", "expected 1s to 366d"),
    ] {
        let error = WindowsQuery::parse_size(&query.view, text).expect_err("refused").to_string();
        assert!(error.starts_with("invalid size ") && error.contains(expected), "{error}");
    }
    assert!(WindowsQuery::parse_size(&query.view, "1500ms").is_ok());
    query.view.time_type = TimeType::Text;
    assert!(WindowsQuery::parse_size(&query.view, "1500ms").is_err());
    for text in ["", "a,,b", "a,a", "*", "a,*", &vec!["a"; 21].join(",")] {
        let error = WindowsQuery::parse_fields(text).expect_err("refused").to_string();
        assert!(error.starts_with("invalid fields: "), "{error}");
    }
    let cursor = WindowsPosition::new(&query, 0, WindowSource::None, 1).to_text();
    assert!(WindowsPosition::parse(&query, &cursor).is_ok());
    for (other, cursor) in [
        (WindowsQuery { fields: vec!["v".to_owned()], ..query.clone() }, cursor.as_str()),
        (WindowsQuery { until: Some(Timestamp::UNIX_EPOCH), ..query.clone() }, &cursor),
        (query.clone(), "x"),
    ] {
        let error = WindowsPosition::parse(&other, cursor).expect_err("refused").to_string();
        assert!(error.starts_with("invalid cursor: "), "{error}");
    }
}
