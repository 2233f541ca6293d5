//! The batch protocols, in this process, on the embedded store.

use std::io::Read;
use std::sync::{Arc, Mutex};

use mysimbdp_model::app::{Ids, Line, Phase};
use mysimbdp_model::manifest::Format;
use tempfile::TempDir;

use super::*;
use crate::record::Fields;

const DIRECTORY: &str = "temporary directory";

fn settings(directory: &TempDir, protocol: Protocol) -> BatchAppSettings {
    BatchAppSettings {
        protocol,
        coredms: format!("sqlite:{}", directory.path().display()),
        database: "db".to_owned(),
        collection: "records".to_owned(),
        ids: Ids::Platform,
        record_key: Vec::new(),
    }
}

fn header(length: u64, records: u64) -> UnitHeader {
    UnitHeader {
        client_id: "client1".to_owned(),
        ingestion: "0".repeat(32),
        file: "a".to_owned(),
        format: Format::Binary,
        encoding: "utf-8".to_owned(),
        batch_index: 0,
        batch_count: 1,
        first_record: 0,
        records,
        offset: 0,
        length,
        file_bytes: length,
        received_at: "2026-11-21T03:22:11Z".parse().expect("a time"),
        attempt: 1,
        phase: Phase::Ingest,
        columns: Vec::new(),
        replace: None,
    }
}

/// A stdout that keeps what is written, for the test to read.
#[derive(Clone, Default)]
struct Stdout(Arc<Mutex<Vec<u8>>>);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Serves these units as a worker; returns the lines that it has written and its result.
fn run_worker(units: &[(UnitHeader, &[u8])], app: &mut App<'_>) -> (Vec<Line>, Result<(), Failure>) {
    let directory = TempDir::new().expect(DIRECTORY);
    run_worker_with(&settings(&directory, Protocol::Worker), units, app)
}

fn run_worker_with(
    settings: &BatchAppSettings,
    units: &[(UnitHeader, &[u8])],
    app: &mut App<'_>,
) -> (Vec<Line>, Result<(), Failure>) {
    let mut stdin = Vec::new();
    for (header, bytes) in units {
        stdin.extend(serde_json::to_vec(header).expect("JSON"));
        stdin.push(b'\n');
        stdin.extend_from_slice(bytes);
    }
    let stdout = Stdout::default();
    let ended = serve(settings, &mut stdin.as_slice(), Box::new(stdout.clone()), app);
    let written = stdout.0.lock().expect("not poisoned");
    let lines =
        written.lines().map(|line| serde_json::from_str(&line.expect("text")).expect("a line")).collect();
    (lines, ended)
}

/// Stores each byte as a record.
fn bytes_as_records(unit: &mut Unit<'_>) -> Result<Counts, Failure> {
    let mut fields = Fields::new();
    for byte in unit.input.by_ref().bytes() {
        fields.clear();
        fields.int("byte", i64::from(byte?));
        unit.sink.record(&fields)?;
    }
    unit.sink.finish()
}

fn done(stored: u64, duplicates: u64) -> Line {
    Line::Done { stored, duplicates, rejected: 0 }
}

#[test]
fn more_than_a_batch_is_stored_and_a_repeat_counts_as_duplicates() {
    let bytes = [7; 2_500];
    let unit = (header(2_500, 2_500), bytes.as_slice());
    let (lines, ended) = run_worker(&[unit.clone(), unit], &mut bytes_as_records);
    assert_eq!((lines, ended.is_ok()), (vec![done(2_500, 0), done(0, 2_500)], true));
}

#[test]
fn a_unit_that_was_not_read_or_counted_as_announced_is_not_reported_as_done() {
    let mut lazy = |unit: &mut Unit<'_>| {
        unit.sink.reject("unread")?;
        unit.sink.finish()
    };
    let mut liar = |unit: &mut Unit<'_>| {
        std::io::copy(&mut unit.input, &mut std::io::sink())?;
        Ok(Counts { received: 1, stored: 2, ..Counts::default() })
    };
    let apps: [&mut App<'_>; 2] = [&mut lazy, &mut liar];
    for app in apps {
        let (lines, ended) = run_worker(&[(header(3, 1), b"abc"), (header(3, 1), b"abc")], app);
        assert!(ended.is_ok());
        let failed = lines.iter().filter(|line| matches!(line, Line::Failed { retry: false, .. })).count();
        assert_eq!(failed, 2, "{lines:?}");
        assert!(!lines.iter().any(|line| matches!(line, Line::Done { .. })));
    }
}

#[test]
fn the_unit_after_a_failed_one_starts_at_its_own_header() {
    let mut first = true;
    let mut app = |unit: &mut Unit<'_>| {
        if std::mem::take(&mut first) {
            unit.input.by_ref().take(2).read_to_end(&mut Vec::new())?;
            return Err(Failure::Temporary("later".to_owned()));
        }
        bytes_as_records(unit)
    };
    let (lines, ended) = run_worker(&[(header(5, 5), b"first"), (header(6, 6), b"second")], &mut app);
    assert_eq!(lines, [Line::Failed { retry: true, reason: "later".to_owned() }, done(6, 0)]);
    assert!(ended.is_ok());
}

#[test]
fn a_worker_whose_stdin_breaks_off_ends_with_a_failure() {
    let (lines, ended) = run_worker(&[(header(5, 5), b"fir")], &mut bytes_as_records);
    assert!(lines.is_empty(), "{lines:?}");
    assert!(matches!(ended, Err(Failure::Temporary(_))), "{ended:?}");
    let (_, ended) =
        run_worker(&[(header(1, 1), b"x"), (header(0, 0), b"no header\n")], &mut bytes_as_records);
    assert!(matches!(ended, Err(Failure::Internal(_))), "{ended:?}");
}

#[test]
fn a_long_reason_fits_into_a_line() {
    let mut app = |unit: &mut Unit<'_>| {
        unit.sink.reject("x".repeat(1_000_000))?;
        unit.sink.finish()
    };
    let (lines, _) = run_worker(&[(header(0, 1), b"")], &mut app);
    match lines.as_slice() {
        [Line::Reject { record: 0, reason }, Line::Done { rejected: 1, .. }] => assert!(reason.len() < 2_000),
        other => panic!("{other:?}"),
    }
}

#[test]
fn with_key_ids_only_the_keys_of_stored_and_duplicate_records_are_listed() {
    let directory = TempDir::new().expect(DIRECTORY);
    let keyed = BatchAppSettings {
        ids: Ids::Key,
        record_key: vec!["name".to_owned(), "byte".to_owned()],
        ..settings(&directory, Protocol::Worker)
    };
    // 3,000 long keys need several lines; every hundredth record has none.
    let mut app = |unit: &mut Unit<'_>| {
        let mut fields = Fields::new();
        for (number, byte) in unit.input.by_ref().bytes().enumerate() {
            fields.clear();
            fields.int("byte", i64::from(byte?));
            if number % 100 != 0 {
                fields.string("name", &format!("{number} {}", "\u{0}".repeat(50)));
            }
            unit.sink.record(&fields)?;
        }
        unit.sink.finish()
    };
    let bytes = [7; 3_000];
    let (lines, ended) = run_worker_with(&keyed, &[(header(3_000, 3_000), bytes.as_slice())], &mut app);
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(lines.last(), Some(&Line::Done { stored: 2_970, duplicates: 0, rejected: 30 }));
    let keys: Vec<_> = lines
        .iter()
        .filter_map(|line| if let Line::Keys { keys } = line { Some(keys) } else { None })
        .inspect(|keys| assert!(serde_json::to_vec(keys).expect("JSON").len() < 64_000))
        .flatten()
        .collect();
    assert_eq!(keys.len(), 2_970);
    let first = keys[0].as_object().expect("an object of the key fields");
    assert_eq!(first.keys().collect::<Vec<_>>(), ["name", "byte"]);
    assert_eq!(first["byte"], 7);
}
