//! Tests the document app as the platform runs it, on both stores.

#![allow(clippy::disallowed_methods, reason = "tests read files themselves")]

mod support;

use std::path::Path;
use std::time::Duration;

use bson::{Bson, Document, doc};
use mysimbdp_model::app::{Line, UnitHeader};
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_testbed as testbed;
use support::{App, INGESTION, TestStore, typed, whole};

const PROGRAM: &str = env!("CARGO_BIN_EXE_document-app");
const WEATHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/weather.csv");

fn app<'a>(arguments: &'a [&'a str]) -> App<'a> {
    App { program: Path::new(PROGRAM), arguments, env: Vec::new() }
}

async fn both() -> [TestStore; 2] {
    [TestStore::embedded().await, TestStore::mongodb().await]
}

async fn documents(store: &TestStore) -> Vec<Document> {
    store.coredms.find("records", doc! {}, 100_000).await.expect("documents")
}

async fn count(store: &TestStore) -> u64 {
    store.coredms.count("records").await.expect("a count")
}

/// Returns the second half of a file as a micro-batch: its records with the header line in front.
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
async fn every_row_of_the_weather_file_is_stored_once_and_typed() {
    let bytes = std::fs::read(WEATHER).expect("the sample");
    let arguments = ["--null", "NA", "--type", "time_hour=date", "--type", "temp=double"];
    for store in both().await {
        // The types that fetchdata finds, for all columns but the last.
        let double = ("double", &["NA"][..]);
        let mut columns = vec![("string", &[][..])];
        columns.extend([("int", &[][..]); 4]);
        columns.extend([
            double,
            double,
            double,
            ("int", &["NA"][..]),
            double,
            double,
            double,
            double,
            double,
        ]);
        let unit = typed(whole("weather.csv", &bytes, 26_115), &columns);
        assert_eq!(app(&arguments).stdin(&store, &unit, &bytes).done(), (26_115, 0, 0));
        assert_eq!(app(&arguments).stdin(&store, &unit, &bytes).done(), (0, 26_115, 0));
        assert_eq!(count(&store).await, 26_115);
        let first = store.coredms.find("records", doc! {}, 1).await.expect("documents").remove(0);
        let id: IngestionId = INGESTION.parse().expect("32 digits");
        let expected = doc! {
            "_id": bson::Binary::from(id.record_id(0)), "origin": "EWR", "year": 2013, "month": 1, "day": 1, "hour": 1,
            "temp": 39.02, "dewp": 26.06, "humid": 59.37, "wind_dir": 270, "wind_speed": 10.357019999999999,
            "wind_gust": null, "precip": 0.0, "pressure": 1012.0, "visib": 10.0,
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
            (4, "column \"n\": \"x\" is not a 32-bit integer"),
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
async fn ndjson_and_json_become_the_same_documents() {
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
async fn a_wrong_number_of_bytes_or_records_is_refused_and_no_other_id_is_written() {
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
async fn a_worker_processes_unit_after_unit_and_a_bad_one_does_not_end_it() {
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
        // One record is announced; the three that are sent must not be read as the next header.
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
async fn with_key_ids_newer_replaces_older_and_never_the_reverse() {
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
async fn bad_headers_and_wrong_formats_are_reported() {
    let store = TestStore::embedded().await;
    for (file, bytes, arguments, code, text) in [
        ("a.csv", "a,b,a\n", vec![], 65, "column 3 has the name \"a\""),
        ("a.csv", "a,,c\n", vec![], 65, "column 2 has no name"),
        ("a.csv", "a,b.c\n", vec![], 65, "column 2 is refused: field name \"b.c\""),
        ("a.csv", "", vec![], 65, "no header"),
        ("a.csv", "a\n", vec!["--type", "a=number"], 64, "expected string, int, long, double, bool or date"),
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
    assert_eq!(documents(&store).await[0].get_str("bc").ok(), Some("2"));
}

#[tokio::test]
async fn a_type_for_a_missing_column_rejects_nothing_and_is_logged_once_per_file() {
    let store = TestStore::embedded().await;
    let unit = whole("a.csv", b"a\n1\n", 1);
    let answer = app(&["--type", "b=int"]).stdin(&store, &unit, b"a\n1\n");
    assert_eq!(answer.done(), (1, 0, 0));
    assert!(answer.stderr.contains("no column \"b\", which has a --type"), "{answer:?}");
    let later = UnitHeader { batch_index: 1, ..unit };
    assert_eq!(app(&["--type", "b=int"]).stdin(&store, &later, b"a\n1\n").stderr, "");
}

/// Each column has one type, the same in every unit of the file, whatever the unit itself holds.
#[tokio::test]
async fn each_column_has_the_type_that_the_platform_found_unless_an_argument_overrides_it() {
    let columns = [("int", &[][..]), ("double", &["NA"]), ("string", &[]), ("bool", &[]), ("long", &["-"])];
    let bytes = b"a,b,c,d,e,f\n1,2,3,true,4,5\n,NA,,,,\n";
    let unit = typed(whole("a.csv", bytes, 2), &columns);
    let inferred = doc! { "a": 1, "b": "2", "c": "3", "d": true, "e": "4", "f": "5" };
    let with_null = doc! { "a": 1, "b": 2.0, "c": "3", "d": true, "e": "4", "f": "5" };
    let text = doc! { "a": "1", "b": "2", "c": "3", "d": "true", "e": "4", "f": "5" };
    let declared = doc! { "a": 1.0, "b": "2", "c": 3_i64, "d": "true", "e": "4", "f": 5 };
    for (arguments, expected) in [
        (&[][..], inferred),
        (&["--null", "NA"], with_null),
        (&["--types", "text"], text),
        (&["--type", "a=double", "--type", "c=long", "--type", "f=int", "--types", "text"], declared),
    ] {
        let store = TestStore::mongodb().await;
        assert_eq!(app(arguments).stdin(&store, &unit, bytes).done(), (2, 0, 0), "{arguments:?}");
        let mut document = documents(&store).await.remove(0);
        document.remove("_id");
        assert_eq!(document, expected, "{arguments:?}");
    }
    // With --empty string, an empty value of a numeric column stays text.
    let store = TestStore::mongodb().await;
    assert_eq!(app(&["--empty", "string"]).stdin(&store, &unit, bytes).done(), (2, 0, 0));
    assert_eq!(documents(&store).await[1].get_str("a").ok(), Some(""));
}

/// A column may hold numbers in one file and, because of a single code, text in the next one: the key must still be the same.
#[tokio::test]
async fn a_key_is_the_same_in_each_file_whatever_else_its_column_holds_there() {
    let unit = |received_at: &str, ingestion: &str, bytes: &[u8], records: u64, kind: &str| UnitHeader {
        received_at: received_at.parse().expect("a time"),
        ingestion: ingestion.repeat(32),
        ..typed(whole("a.csv", bytes, records), &[(kind, &[]), (kind, &[])])
    };
    for store in both().await {
        let mut app = app(&[]);
        app.env = vec![("MYSIMBDP_IDS", "key".to_owned()), ("MYSIMBDP_RECORD_KEY", "k".to_owned())];
        let first = b"k,v\n7,1\n8,2\n";
        assert_eq!(
            app.stdin(&store, &unit("2026-11-20T12:00:00Z", "a", first, 2, "int"), first).done(),
            (2, 0, 0)
        );
        let second = b"k,v\n7,3\nA8,4\n07,5\n";
        let answer = app.stdin(&store, &unit("2026-11-21T12:00:00Z", "b", second, 3, "string"), second);
        assert_eq!(answer.done(), (3, 0, 0));
        let mut found: Vec<(Bson, Bson)> =
            documents(&store).await.into_iter().map(|d| (d["_id"].clone(), d["v"].clone())).collect();
        found.sort_by_key(|(key, _)| key.to_string());
        let text = |text: &str| Bson::from(text);
        let mut expected = vec![
            (Bson::Int32(7), text("3")),
            (Bson::Int32(8), Bson::Int32(2)),
            (text("A8"), text("4")),
            (text("07"), text("5")),
        ];
        expected.sort_by_key(|(key, _)| key.to_string());
        assert_eq!(found, expected);
    }
}

/// Accepted dates are the RFC 3339 times that every reader of BSON can read, each stored as the second that is written.
#[tokio::test]
async fn dates_are_exact_from_year_1_to_9999_or_rejected() {
    let bytes = b"t,v\n9999-12-31T23:59:59Z,1\n9999-12-30T21:59:59Z,2\n0000-01-01T00:00:00Z,3\n\
                  -000001-01-01T00:00:00Z,4\n2026-01-01T00:00:00Z,5\n2016-12-31T23:59:60Z,6\n0001-01-01T00:00:00Z,7\n";
    for store in both().await {
        let answer = app(&["--type", "t=date"]).stdin(&store, &whole("dates.csv", bytes, 7), bytes);
        assert_eq!(answer.done(), (4, 0, 3), "{answer:?}");
        let expected = [
            (2, "column \"t\": \"0000-01-01T00:00:00Z\" is not within the years 1 to 9999 in UTC"),
            (3, "column \"t\": \"-000001-01-01T00:00:00Z\" is not an RFC 3339 time"),
            (5, "column \"t\": \"2016-12-31T23:59:60Z\" is a leap second, which a date cannot hold"),
        ];
        assert_eq!(answer.rejects(), expected);
        let stored: Vec<i64> = documents(&store)
            .await
            .iter()
            .map(|document| document.get_datetime("t").expect("a date").timestamp_millis())
            .collect();
        assert_eq!(
            stored,
            [253_402_300_799_000, 253_402_207_199_000, 1_767_225_600_000, -62_135_596_800_000]
        );
    }
}

#[tokio::test]
async fn iso_8859_1_is_read_as_such() {
    let store = TestStore::embedded().await;
    for (file, bytes) in
        [("a.csv", b"t\ngr\xfc\xdfe\n".as_slice()), ("a.ndjson", b"{\"t\":\"gr\xfc\xdfe\"}".as_slice())]
    {
        let unit = UnitHeader { encoding: "iso-8859-1".to_owned(), ..whole(file, bytes, 1) };
        app(&[]).stdin(&store, &unit, bytes).done();
        assert_eq!(documents(&store).await[0].get_str("t").ok(), Some("grüße"));
    }
}

#[tokio::test]
async fn windows_1252_is_read_as_such_and_its_bytes_are_refused_as_iso_8859_1() {
    for (file, bytes) in [
        ("a.csv", b"t,n\n5 \x80,\x931\x94\n".as_slice()),
        ("a.ndjson", b"{\"t\":\"5 \x80\",\"n\":\"\x931\x94\"}".as_slice()),
    ] {
        let store = TestStore::embedded().await;
        let unit = |encoding: &str| UnitHeader { encoding: encoding.to_owned(), ..whole(file, bytes, 1) };
        assert_eq!(app(&[]).stdin(&store, &unit("iso-8859-1"), bytes).done(), (0, 0, 1));
        assert_eq!(app(&[]).stdin(&store, &unit("windows-1252"), bytes).done(), (1, 0, 0));
        let mut document = documents(&store).await.remove(0);
        document.remove("_id");
        assert_eq!(document, doc! { "t": "5 €", "n": "“1”" });
        assert_eq!(app(&[]).stdin(&store, &unit("latin1"), bytes).code, Some(78));
    }
}

#[tokio::test]
async fn an_unavailable_store_means_try_again() {
    let mut store = TestStore::embedded().await;
    store.url = format!("mongodb://127.0.0.1:{}/?serverSelectionTimeoutMS=300", testbed::free_port());
    let answer = app(&[]).stdin(&store, &whole("a.csv", b"n\n1\n", 1), b"n\n1\n");
    assert_eq!(answer.code, Some(75), "{answer:?}");
    assert!(answer.stderr.contains("not available"), "{answer:?}");
    assert!(!answer.lines.iter().any(|line| matches!(line, Line::Done { .. })));
}

#[tokio::test]
async fn sigterm_ends_an_app_that_waits_for_its_input() {
    let store = TestStore::embedded().await;
    let mut command = app(&[]).command(&store);
    command.envs(whole("a.csv", b"n\n1\n", 1).to_env());
    let mut process = testbed::Process::spawn(command);
    let status = process.terminate(Duration::from_secs(10));
    assert!(!status.success());
}
