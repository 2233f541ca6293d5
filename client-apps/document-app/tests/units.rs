//! The document app as the platform runs it, on both stores.

#![allow(clippy::disallowed_methods, reason = "tests read files themselves")]

mod support;

use std::path::Path;
use std::time::Duration;

use bson::{Bson, Document, doc};
use mysimbdp_core::app::{Line, UnitHeader};
use mysimbdp_core::ingestion::IngestionId;
use mysimbdp_testbed as testbed;
use support::{App, INGESTION, Store, whole};

const PROGRAM: &str = env!("CARGO_BIN_EXE_document-app");
const WEATHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/weather.csv");

fn app<'a>(arguments: &'a [&'a str]) -> App<'a> {
    App { program: Path::new(PROGRAM), arguments, env: Vec::new() }
}

async fn both() -> [Store; 2] {
    [Store::embedded().await, Store::mongodb().await]
}

async fn documents(store: &Store) -> Vec<Document> {
    store.coredms.find("records", doc! {}, 100_000).await.expect("documents")
}

async fn count(store: &Store) -> u64 {
    store.coredms.count("records").await.expect("a count")
}

/// The second half of a file as a micro-batch: its own records, with the header in front.
fn second_half(
    file: &str,
    header: &[u8],
    first: &[u8],
    second: &[u8],
    records: (u64, u64),
) -> (UnitHeader, Vec<u8>) {
    let bytes = [header, second].concat();
    let file_bytes = (header.len() + first.len() + second.len()) as u64;
    let offset = (header.len() + first.len()) as u64;
    let unit = UnitHeader {
        batch_index: 1,
        batch_count: 2,
        first_record: records.0,
        offset,
        file_bytes,
        ..whole(file, &bytes, records.1)
    };
    (unit, bytes)
}

#[tokio::test]
async fn every_row_of_the_weather_file_is_there_once_and_typed() {
    let bytes = std::fs::read(WEATHER).expect("the sample");
    let arguments = ["--null", "NA", "--type", "time_hour=date", "--type", "temp=double"];
    for store in both().await {
        let unit = whole("weather.csv", &bytes, 26_115);
        assert_eq!(app(&arguments).stdin(&store, &unit, &bytes).done(), (26_115, 0, 0));
        assert_eq!(app(&arguments).stdin(&store, &unit, &bytes).done(), (0, 26_115, 0));
        assert_eq!(count(&store).await, 26_115);
        let first = store.coredms.find("records", doc! {}, 1).await.expect("documents").remove(0);
        let id: IngestionId = INGESTION.parse().expect("32 digits");
        let expected = doc! {
            "_id": bson::Binary::from(id.record_id(0)), "origin": "EWR", "year": 2013, "month": 1, "day": 1, "hour": 1,
            "temp": 39.02, "dewp": 26.06, "humid": 59.37, "wind_dir": 270, "wind_speed": 10.357019999999999,
            "wind_gust": null, "precip": 0, "pressure": 1012, "visib": 10,
            "time_hour": bson::DateTime::from_millis(1_357_020_000_000),
        };
        assert_eq!(first, expected);
    }
}

#[tokio::test]
async fn rejects_carry_the_numbers_of_the_whole_file() {
    let first = b"1,a\n2,b\n3,c\n";
    let second = b"4,d\nx,e\n6,f,g\n\n7\n8,\xff\n9,i\n";
    let (unit, bytes) = second_half("a.csv", b"n,t\n", first, second, (3, 6));
    for store in both().await {
        let answer = app(&["--type", "n=int"]).stdin(&store, &unit, &bytes);
        assert_eq!(answer.done(), (2, 0, 4));
        let expected = [
            (4, "column \"n\": \"x\" is no integer of 32 bits"),
            (5, "row has more than the 2 fields of the header"),
            (6, "row has 1 fields, the header has 2"),
            (7, "column \"t\" is not UTF-8"),
        ];
        assert_eq!(answer.rejects(), expected);
        let texts: Vec<Bson> = documents(&store).await.iter().filter_map(|d| d.get("t").cloned()).collect();
        assert_eq!(texts, [Bson::from("d"), Bson::from("i")]);
    }
}

#[tokio::test]
async fn ndjson_and_json_give_the_same_documents() {
    let lines =
        "\u{feff}{\"a\":1}\r\n\n{\"a\":\"ü\",\"b\":[1,2]}\n  \n{\"a\":1e400}\n5\n{\"a\":{\"b\":null}}";
    let array = "[{\"a\":1},\n {\"a\":\"ü\",\"b\":[1,2]}, {\"a\":1e400} ,5,{\"a\":{\"b\":null}}]";
    for store in both().await {
        let (lines, array) = (lines.as_bytes(), array.as_bytes());
        let answer = app(&[]).stdin(&store, &whole("a.ndjson", lines, 5), lines);
        assert_eq!(answer.done(), (3, 0, 2));
        assert_eq!(answer.rejects().iter().map(|reject| reject.0).collect::<Vec<_>>(), [2, 3]);
        let first = documents(&store).await;
        assert_eq!(first[1].get_str("a").ok(), Some("ü"));
        let answer = app(&[]).stdin(&store, &whole("a.json", array, 5), array);
        assert_eq!(answer.done(), (0, 3, 2));
        assert_eq!(documents(&store).await, first);
    }
}

#[tokio::test]
async fn another_number_of_bytes_or_records_than_announced_is_refused_and_no_other_id_is_written() {
    let (header, first, second) = (b"n\n".as_slice(), b"1\n2\n".as_slice(), b"3\n4\n5\n".as_slice());
    let (unit, bytes) = second_half("a.csv", header, first, second, (2, 3));
    let id: IngestionId = INGESTION.parse().expect("32 digits");
    for store in both().await {
        for records in [2, 4] {
            let unit = UnitHeader { records, ..unit.clone() };
            let answer = app(&[]).stdin(&store, &unit, &bytes);
            assert_eq!(answer.code, Some(65), "{answer:?}");
            assert!(answer.stderr.contains("announced"), "{answer:?}");
        }
        let long = [bytes.as_slice(), b"6\n"].concat();
        assert_eq!(app(&[]).stdin(&store, &unit, &long).code, Some(65));
        let answer = app(&[]).stdin(&store, &unit, &bytes[..bytes.len() - 2]);
        assert_eq!(answer.code, Some(75), "{answer:?}");
        assert!(answer.stderr.contains("stdin ended after 6 of 8 bytes"), "{answer:?}");
        let outside = store.coredms.count_ids("records", id.record_id(5), id.record_id(u64::MAX)).await;
        assert_eq!(outside.expect("a count"), 0);
        assert_eq!(
            store.coredms.count_ids("records", id.record_id(0), id.record_id(2)).await.expect("a count"),
            0
        );
    }
}

#[tokio::test]
async fn a_worker_takes_unit_after_unit_and_a_bad_one_does_not_end_it() {
    for store in both().await {
        let app = app(&[]);
        let mut worker = app.worker(&store);
        let second = |bytes: &[u8]| UnitHeader { ingestion: "f".repeat(32), ..whole("b.ndjson", bytes, 1) };
        assert_eq!(worker.unit(&whole("a.csv", b"n\n1\n2\n", 2), b"n\n1\n2\n"), [done(2)]);
        let bad = b"n,n\n1,2\n";
        match worker.unit(&whole("a.csv", bad, 1), bad).as_slice() {
            [Line::Failed { retry: false, reason }] => assert!(reason.contains("\"n\""), "{reason}"),
            other => panic!("{other:?}"),
        }
        // One record announced, and the three that there are not left for the next header.
        let more = b"n\n1\n2\n3\n";
        assert!(matches!(
            worker.unit(&whole("a.csv", more, 1), more).as_slice(),
            [Line::Failed { retry: false, .. }]
        ));
        assert_eq!(worker.unit(&second(b"{\"a\":1}"), b"{\"a\":1}"), [done(1)]);
        assert_eq!(worker.end(), Some(0));
        assert_eq!(count(&store).await, 3);
    }
}

fn done(stored: u64) -> Line {
    Line::Done { stored, duplicates: 0, rejected: 0 }
}

#[tokio::test]
async fn under_key_ids_newer_replaces_older_and_never_the_other_way_round() {
    let unit = |received_at: &str, ingestion: &str, bytes: &[u8]| UnitHeader {
        received_at: received_at.parse().expect("a time"),
        ingestion: ingestion.repeat(32),
        ..whole("a.ndjson", bytes, 2)
    };
    for store in both().await {
        let mut app = app(&[]);
        app.env = vec![("MYSIMBDP_IDS", "key".to_owned()), ("MYSIMBDP_RECORD_KEY", "k,m".to_owned())];
        let new = b"{\"k\":1,\"m\":\"a\",\"v\":\"new\"}\n{\"k\":2,\"v\":0}";
        let answer = app.stdin(&store, &unit("2026-11-21T12:00:00Z", "b", new), new);
        assert_eq!(answer.done(), (1, 0, 1));
        assert_eq!(answer.rejects(), [(1, "key field \"m\" is missing")]);
        let old = b"{\"k\":1,\"m\":\"a\",\"v\":\"old\"}\n{\"k\":3,\"m\":\"a\",\"v\":\"old\"}";
        assert_eq!(app.stdin(&store, &unit("2026-11-20T12:00:00Z", "a", old), old).done(), (1, 1, 0));
        let values: Vec<(Bson, Bson)> =
            documents(&store).await.into_iter().map(|d| (d["_id"].clone(), d["v"].clone())).collect();
        let key = |k: i32| Bson::Document(doc! { "k": k, "m": "a" });
        assert_eq!(values, [(key(1), Bson::from("new")), (key(3), Bson::from("old"))]);
    }
}

#[tokio::test]
async fn bad_headers_and_wrong_formats_are_named() {
    let store = Store::embedded().await;
    for (file, bytes, arguments, code, text) in [
        ("a.csv", "a,b,a\n", vec![], 65, "column 3 has the name \"a\""),
        ("a.csv", "a,,c\n", vec![], 65, "column 2 has no name"),
        ("a.csv", "a,b.c\n", vec![], 65, "column 2 has a field name \"b.c\""),
        ("a.csv", "", vec![], 65, "no header"),
        ("a.csv", "a\n", vec!["--type", "b=int"], 65, "column \"b\", which has a --type, is missing"),
        (
            "a.csv",
            "a\n",
            vec!["--type", "a=number"],
            64,
            "allowed are string, int, long, double, bool and date",
        ),
        ("a.json", "{}", vec![], 65, "not an array"),
        ("a.bin", "x", vec![], 78, "object-app"),
    ] {
        let answer = app(&arguments).stdin(&store, &whole(file, bytes.as_bytes(), 0), bytes.as_bytes());
        assert_eq!(answer.code, Some(code), "{answer:?}");
        assert!(answer.stderr.contains(text), "{:?} does not say {text:?}", answer.stderr);
    }
    let renamed = ["--rename", "b.c=bc", "--rename", "=row"];
    let bytes = b",b.c\n1,2\n";
    assert_eq!(app(&renamed).stdin(&store, &whole("a.csv", bytes, 1), bytes).done(), (1, 0, 0));
    assert_eq!(documents(&store).await[0].get_i32("bc").ok(), Some(2));
}

#[tokio::test]
async fn iso_8859_1_is_read_as_such() {
    let store = Store::embedded().await;
    for (file, bytes) in
        [("a.csv", b"t\ngr\xfc\xdfe\n".as_slice()), ("a.ndjson", b"{\"t\":\"gr\xfc\xdfe\"}".as_slice())]
    {
        let unit = UnitHeader { encoding: "iso-8859-1".to_owned(), ..whole(file, bytes, 1) };
        app(&[]).stdin(&store, &unit, bytes).done();
        assert_eq!(documents(&store).await[0].get_str("t").ok(), Some("grüße"));
    }
}

#[tokio::test]
async fn a_store_that_is_away_means_try_again() {
    let mut store = Store::embedded().await;
    store.url = format!("mongodb://127.0.0.1:{}/?serverSelectionTimeoutMS=300", testbed::free_port());
    let answer = app(&[]).stdin(&store, &whole("a.csv", b"n\n1\n", 1), b"n\n1\n");
    assert_eq!(answer.code, Some(75), "{answer:?}");
    assert!(answer.stderr.contains("not available"), "{answer:?}");
    assert!(!answer.lines.iter().any(|line| matches!(line, Line::Done { .. })));
}

#[tokio::test]
async fn sigterm_ends_an_app_that_waits_for_its_input() {
    let store = Store::embedded().await;
    let mut command = app(&[]).command(&store);
    command.envs(whole("a.csv", b"n\n1\n", 1).to_env());
    let mut process = testbed::Process::spawn(command);
    let status = process.terminate(Duration::from_secs(10));
    assert!(!status.success());
}
