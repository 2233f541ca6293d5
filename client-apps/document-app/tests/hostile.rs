//! Hostile input: it could be changed silently, affect other records, or fill the memory.

#![allow(clippy::disallowed_methods, reason = "tests read files themselves")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use bson::{Bson, Document, doc};
use mysimbdp_model::app::{Line, UnitHeader};
use mysimbdp_model::manifest::Format;
use mysimbdp_testbed::{Expected, HostileRecord, MEMORY_KIB_MAX, canonical, hostile_records};
use support::{App, TestStore, whole};

const PROGRAM: &str = env!("CARGO_BIN_EXE_document-app");

fn app<'a>(arguments: &'a [&'a str]) -> App<'a> {
    App { program: Path::new(PROGRAM), arguments, env: Vec::new() }
}

async fn both() -> [TestStore; 2] {
    [TestStore::embedded().await, TestStore::mongodb().await]
}

/// Returns the documents by record number, without their ids.
async fn documents(store: &TestStore) -> BTreeMap<u64, Document> {
    let all = store.coredms.find("records", doc! {}, 100_000).await.expect("documents");
    all.into_iter()
        .map(|mut document| match document.remove("_id") {
            Some(Bson::Binary(id)) => {
                (u64::from_be_bytes(id.bytes[8..].try_into().expect("16 bytes")), document)
            }
            other => panic!("the _id is {other:?}"),
        })
        .collect()
}

/// Checks that nothing of the corpus is lost and that the stored records are unchanged.
async fn check(store: &TestStore, file: &str, bytes: &[u8], records: &[&HostileRecord]) {
    let unit = whole(file, bytes, records.len() as u64);
    let answer = app(&[]).stdin(store, &unit, bytes);
    let rejected =
        records.iter().filter(|record| matches!(record.expected, Expected::Rejected(_))).count() as u64;
    assert_eq!(answer.done(), (unit.records - rejected, 0, rejected), "{file}");
    let (rejects, mut documents) = (BTreeMap::from_iter(answer.rejects()), documents(store).await);
    for (number, record) in (0..).zip(records) {
        match &record.expected {
            Expected::Rejected(expected) => {
                let reason =
                    rejects.get(&number).unwrap_or_else(|| panic!("{} is not rejected", record.name));
                assert!(reason.contains(expected), "{}: {reason:?} does not say {expected:?}", record.name);
                assert!(reason.len() < 2_000, "{}: a reason of {} bytes", record.name, reason.len());
            }
            Expected::Stored(fields) => {
                let stored =
                    documents.remove(&number).unwrap_or_else(|| panic!("{} is not stored", record.name));
                let expected = Bson::try_from(fields.clone()).expect("the table has plain JSON");
                let expected = expected.as_document().expect("an object").clone();
                assert!(canonical(stored) == canonical(expected), "{} was changed in {file}", record.name);
            }
        }
    }
    assert!(documents.is_empty(), "{documents:?}");
}

#[tokio::test]
async fn hostile_lines_and_elements_are_stored_exactly_or_rejected_by_number() {
    let corpus = hostile_records();
    let lines: Vec<&HostileRecord> = corpus.iter().collect();
    let elements: Vec<&HostileRecord> = corpus.iter().filter(|record| record.fits_array).collect();
    let texts = |records: &[&HostileRecord]| records.iter().map(|r| r.text.clone()).collect::<Vec<_>>();
    let file = texts(&lines).join(b"\n".as_slice());
    let array = [b"[".as_slice(), &texts(&elements).join(b", ".as_slice()), b"]"].concat();
    for store in both().await {
        check(&store, "hostile.ndjson", &file, &lines).await;
    }
    for store in both().await {
        check(&store, "hostile.json", &array, &elements).await;
    }
}

#[tokio::test]
async fn csv_values_that_look_like_something_else_are_text_to_the_last_character() {
    let values = [
        "9223372036854775807",
        "-0",
        "5e-324",
        "0.30000000000000004",
        "18446744073709551617",
        "1e400",
        "9007199254740993.0",
        "1.10",
        "0E0",
        "NaN",
        "inf",
        "0x10",
        "007",
        "1_000",
        "٣",
        "=1+1",
        "$where",
        "{\"$gt\":0}",
        "\u{1b}[2J",
        "\u{feff}1",
        "true",
        "2013-01-01T06:00:00Z",
    ];
    let field = |text: &str| format!("\"{}\"\n", text.replace('"', "\"\""));
    let file: String =
        std::iter::once("v\n".to_owned()).chain(values.iter().map(|text| field(text))).collect();
    for store in both().await {
        let unit = whole("values.csv", file.as_bytes(), values.len() as u64);
        assert_eq!(app(&[]).stdin(&store, &unit, file.as_bytes()).done(), (values.len() as u64, 0, 0));
        let documents = documents(&store).await;
        for (number, text) in (0..).zip(values) {
            assert_eq!(documents[&number], doc! {"v": text}, "{text}");
        }
    }
}

/// In a file that starts with two byte order marks, only the first one is a mark.
#[tokio::test]
async fn the_second_of_two_byte_order_marks_does_not_open_a_quoted_header() {
    let store = TestStore::embedded().await;
    let file = "\u{feff}\u{feff}\"a\nb\",c\n1,2\n".as_bytes();
    // Like the splitter: a header of one line, then rows of text.
    let answer = app(&[]).stdin(&store, &whole("marks.csv", file, 2), file);
    assert_eq!(answer.done(), (0, 0, 2), "{answer:?}");
}

/// Generates input that is far larger than a test should hold in memory.
struct Flood {
    file: &'static str,
    records: u64,
    /// The prefix, the repeated piece, the number of repetitions, the suffix.
    parts: (&'static [u8], &'static [u8], usize, &'static [u8]),
    rejected: u64,
}

impl Flood {
    fn length(&self) -> u64 {
        let (front, piece, times, behind) = self.parts;
        (front.len() + piece.len() * times + behind.len()) as u64
    }

    fn header(&self) -> UnitHeader {
        let length = self.length();
        UnitHeader { length, file_bytes: length, ..whole(self.file, b"", self.records) }
    }

    fn pieces(&self) -> impl Iterator<Item = Vec<u8>> {
        let (front, piece, times, behind) = self.parts;
        let at_once = (1 << 20) / piece.len();
        let (full, remainder) = (times / at_once, times % at_once);
        let block = piece.repeat(at_once);
        let blocks = std::iter::repeat_n(block, full);
        std::iter::once(front.to_vec()).chain(blocks).chain([piece.repeat(remainder), behind.to_vec()])
    }
}

/// Each input is larger than the memory that the process may use.
const FLOOD_BYTES: usize = 160 << 20;
const FLOOD_KIB_MAX: u64 = 128 * 1024;

#[tokio::test]
async fn heavy_records_without_end_are_rejected_in_bounded_memory_and_the_others_are_stored() {
    let store = TestStore::embedded().await;
    for (number, flood) in (0..).zip([
        Flood {
            file: "line.ndjson",
            records: 3,
            parts: (b"{\"a\":1}\n{\"a\":\"", b"x", FLOOD_BYTES, b"\"}\n{\"a\":2}\n"),
            rejected: 1,
        },
        Flood {
            file: "element.json",
            records: 3,
            parts: (b"[{\"a\":1},[", b"{},", FLOOD_BYTES / 3, b"{}],{\"a\":2}]"),
            rejected: 1,
        },
        Flood {
            file: "columns.csv",
            records: 3,
            parts: (b"a\n1\n", b"1,", FLOOD_BYTES / 2, b"1\n2\n"),
            rejected: 1,
        },
        Flood {
            file: "field.csv",
            records: 3,
            parts: (b"a\n1\n\"", b"x\n", FLOOD_BYTES / 2, b"\"\n2\n"),
            rejected: 1,
        },
        // A quote that is never closed includes everything after it.
        Flood {
            file: "quote.csv",
            records: 2,
            parts: (b"a\n1\n\"", b"2\n", FLOOD_BYTES / 2, b""),
            rejected: 1,
        },
        // Within the limit of what is parsed: the most values, and the most levels, that fit in it.
        Flood {
            file: "values.ndjson",
            records: 2,
            parts: (b"{\"a\":[[]", b",[]", 10_000_000, b"]}\n{\"a\":2}\n"),
            rejected: 1,
        },
        Flood {
            file: "levels.ndjson",
            records: 2,
            parts: (b"{\"a\":", b"[", 30_000_000, b"\n{\"a\":2}\n"),
            rejected: 1,
        },
    ]) {
        let app = app(&[]);
        let mut worker = app.worker(&store);
        let header = UnitHeader { ingestion: format!("{number:016x}{number:016x}"), ..flood.header() };
        let lines = worker.unit_in_pieces(&header, flood.pieces());
        let done =
            Line::Done { stored: flood.records - flood.rejected, duplicates: 0, rejected: flood.rejected };
        assert_eq!(lines.last(), Some(&done), "{}: {lines:?}", flood.file);
        let used = worker.memory_peak_kib();
        assert!(used < FLOOD_KIB_MAX, "{} took {used} KiB", flood.file);
        assert_eq!(worker.end(), Some(0));
    }
}

/// Documents of the maximum size, and with the most fields that they may have.
#[tokio::test]
async fn heavy_the_largest_documents_are_stored_in_bounded_memory() {
    let large = format!("{{\"a\":\"{}\"}}\n", "x".repeat(16_700_000));
    let small: String = (0..1_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let fields: String = (0..1_000_000).map(|n| format!("\"{n:x}\":null,")).collect();
    let fields = format!("{{{fields}\"z\":null}}\n");
    let values = format!("{{\"a\":[0{}]}}\n", ",0".repeat(1_200_000));
    for store in both().await {
        for (number, (file, records, expected)) in (0..).zip([
            ([large.as_str(), &small].concat().repeat(6), 6_006, 6_006),
            (fields.clone(), 1, 1),
            (values.clone(), 1, 1),
        ]) {
            let app = app(&[]);
            let mut worker = app.worker(&store);
            let unit = UnitHeader {
                ingestion: format!("{number:016x}{number:016x}"),
                format: Format::Ndjson,
                ..whole("large.ndjson", file.as_bytes(), records)
            };
            let lines = worker.unit(&unit, file.as_bytes());
            let stored = Line::Done { stored: expected, duplicates: 0, rejected: records - expected };
            assert_eq!(lines.last(), Some(&stored), "case {number}: {lines:?}");
            let used = worker.memory_peak_kib();
            assert!(used < MEMORY_KIB_MAX, "case {number} took {used} KiB on {}", store.url);
            assert_eq!(worker.end(), Some(0));
        }
    }
}
