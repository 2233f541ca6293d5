//! Every parser of external input, on arbitrary bytes: it refuses them, or returns a value that keeps its guarantees.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p mysimbdp-spool --test parsers` is the long run; the same variable lengthens
//! the tests of the splitter, of records and of requests.

#![allow(clippy::disallowed_methods, reason = "tests write files themselves")]

use mysimbdp_config::Config;
use mysimbdp_config::address::ServerState;
use mysimbdp_model::app::{Line, UnitHeader};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_model::message::{Finished, Receipt, Report, Staged};
use mysimbdp_model::outcome::Outcome;
use mysimbdp_model::reason::ReasonFile;
use mysimbdp_model::source::{Number, SourceName};
use mysimbdp_model::topic::{Topics, is_filter};
use mysimbdp_model::units::{ByteSize, Period};
use mysimbdp_spool::staging::Attempt;
use proptest::prelude::*;
use proptest::sample::Index;

const MANIFEST: &str = r#"{"version":1,"ingestion":"000102030405060708090a0b0c0d0e0f","client":"client1","lane":"live",
    "file":"a.csv","bytes":14,"records":3,"blake3":"00","format":"csv","prefix":{"offset":0,"length":4},"app":"documents",
    "received_at":"2026-11-21T03:22:11Z","staged_at":"2026-11-21T03:22:12Z","micro_batches":[
    {"index":0,"path":"a.csv","offset":4,"length":8,"first_record":0,"records":2,"xxh3":"00"},
    {"index":1,"path":"parts/00001","offset":12,"length":2,"first_record":2,"records":1,"xxh3":"00"}]}"#;
const OUTCOME: &str = r#"{"version":1,"index":0,"attempt":1,"received":4,"stored":2,"duplicates":1,"rejected":1,"bytes":9,
    "seconds":0.5,"finished_at":"2026-11-21T03:22:11Z","audited":true}"#;
const STAGED: &str = r#"{"version":1,"client_id":"client1","ingestion":"000102030405060708090a0b0c0d0e0f",
    "manifest":"staging/client1/x/manifest.json","micro_batches":2,"bytes":14,"lane":"live"}"#;
const REPORT: &str = r#"{"client_name":"client1","average_processing_time":0.01,"total_number_of_messages_ingested":10,
    "total_size_of_messages_ingested":2000,"instance":"i","interval":60.0,"utilization":0.5,"rejected":0,"backlog":3}"#;
const ARRAY: &str = r#"["client1",0.01,10,2000]"#;
const RECEIPT: &str = r#"{"version":1,"client_id":"a","source":"s","epoch":"18446744073709551615","stored_through":7,
    "stored":[[9,9],[12,20]],"missing":[[8,8],[10,11]]}"#;
const ATTEMPT: &str = r#"{"attempt":2,"failures":1,"baseline":3}"#;
const LINE: &str = r#"{"type":"done","stored":3,"duplicates":0,"rejected":1}"#;
const BROKER: &str = r#"{"url":"mqtt://127.0.0.1:1883","pid":4711,"started_at":"2026-11-21T03:22:11Z"}"#;
const CONFIG: &str = r#"{"broker":{"keep_alive":"2s"},"rules":{"file_name_pattern":"[a-z]*"},"fetchdata":{"settle":"100ms"},
    "clients":[{"id":"a","files":{"globs":["*.csv"]},"micro_batching":{"block_size":"10MB"},
    "apps":[{"name":"d","command":["document-app"]}],"streams":[{"name":"s","command":["stream-app"]}]}]}"#;

/// Fragments that parsers have failed on.
const PIECES: [&str; 24] = [
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1e400",
    "-0",
    "0.5",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[[[[",
    "\"../../etc/passwd\"",
    "\"/etc/passwd\"",
    "\"a/b\"",
    "\"#\"",
    "\\u0000",
    "\\ud800",
    "\u{202e}",
    "\u{1b}[2J",
    ",",
    "\"",
    "}",
    ":",
];

/// Arbitrary bytes, or one of `samples` with a few faults.
fn hostile(samples: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let fault = (any::<Index>(), any::<Index>(), prop::sample::select(&PIECES[..]), 0..5_u8);
    let corrupted =
        (prop::sample::select(samples), prop::collection::vec(fault, 1..4)).prop_map(|(sample, faults)| {
            let mut bytes = sample.as_bytes().to_vec();
            for (from, to, piece, kind) in faults {
                let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
                let (from, to) = (from.min(to), from.max(to));
                match kind {
                    0 => drop(bytes.splice(from..from, piece.bytes())),
                    1 => drop(bytes.drain(from..to.min(from + 12))),
                    2 => drop(bytes.splice(from..to, piece.bytes())),
                    3 => drop(bytes.splice(value_at(&bytes, from), piece.bytes())),
                    _ => bytes.splice(from..from, bytes[from..to].to_vec()).for_each(drop),
                }
            }
            bytes
        });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200), 1 => ".{0,100}".prop_map(String::into_bytes), 8 => corrupted]
}

/// The range of the value after the next colon: if it is replaced, the text stays well-formed as a whole.
fn value_at(bytes: &[u8], from: usize) -> std::ops::Range<usize> {
    let Some(colon) = bytes[from..].iter().position(|byte| *byte == b':') else { return from..from };
    let begin = from + colon + 1;
    let length =
        bytes[begin..].iter().position(|byte| matches!(byte, b',' | b'}')).unwrap_or(bytes.len() - begin);
    begin..begin + length
}

proptest! {
    #[test]
    fn a_valid_manifest_covers_its_file_and_leads_nowhere_else(json in hostile(&[MANIFEST])) {
        let Ok(manifest) = Manifest::from_json(&json) else { return Ok(()) };
        let (mut offset, mut record) = (manifest.prefix.length, 0_u64);
        for batch in &manifest.micro_batches {
            prop_assert_eq!((batch.offset, batch.first_record), (offset, record));
            prop_assert!(!batch.path.starts_with('/') && !batch.path.split('/').any(|part| part == ".."));
            offset = offset.checked_add(batch.length).expect("in range");
            record = record.checked_add(batch.records).expect("in range");
        }
        prop_assert_eq!((offset, record), (manifest.bytes, manifest.records));
        prop_assert_eq!(Manifest::from_json(&manifest.to_json()).ok(), Some(manifest));
    }

    #[test]
    fn files_beside_a_manifest_and_lines_of_an_app_are_read_or_refused(json in hostile(&[OUTCOME, LINE, ATTEMPT])) {
        if let Ok(outcome) = serde_json::from_slice::<Outcome>(&json) {
            let _ = outcome.counts.balances();
        }
        let _ = serde_json::from_slice::<Line>(&json);
        let _ = serde_json::from_slice::<UnitHeader>(&json);
        let _ = serde_json::from_slice::<ReasonFile>(&json);
        let _ = serde_json::from_slice::<Attempt>(&json);
    }

    #[test]
    fn a_staged_notification_names_a_client_or_nobody(payload in hostile(&[STAGED, "client1", "\"client1\""])) {
        if let Ok((client, _)) = Staged::parse(&payload) {
            prop_assert!(client.as_str().parse::<ClientId>().is_ok());
        }
        let _ = serde_json::from_slice::<Finished>(&payload);
    }

    #[test]
    fn a_valid_report_is_within_what_is_possible(payload in hostile(&[REPORT, ARRAY])) {
        if let Ok(report) = Report::parse(&payload) {
            prop_assert!((0.0..=86_400.0).contains(&report.average_processing_time));
            prop_assert!(report.interval.is_none_or(|seconds| (0.0..=86_400.0).contains(&seconds)));
            prop_assert!(report.utilization.is_none_or(|share| (0.0..=1.0).contains(&share)));
        }
    }

    #[test]
    fn a_valid_receipt_has_ascending_ranges(payload in hostile(&[RECEIPT])) {
        let Ok(receipt) = Receipt::parse(&payload) else { return Ok(()) };
        for ranges in [&receipt.stored, &receipt.missing] {
            let mut before = receipt.stored_through;
            for (first, last) in ranges {
                prop_assert!(before < *first && first <= last);
                before = *last;
            }
        }
        let written = serde_json::to_vec(&receipt).expect("JSON");
        prop_assert_eq!(Receipt::parse(&written).ok(), Some(receipt));
    }

    #[test]
    fn a_valid_name_is_one_level_of_a_topic_and_of_a_path(text in prop_oneof![".{0,40}", "[a-zA-Z0-9_./#+$ -]{0,70}"]) {
        let level = |name: &str| !name.is_empty() && name.len() <= 255 && name != "." && name != ".."
            && !name.contains(|letter: char| letter.is_control() || "/#+\\ ".contains(letter));
        prop_assert!(text.parse::<ClientId>().is_err() || level(&text));
        prop_assert!(text.parse::<SourceName>().is_err() || level(&text));
        if let Ok(id) = text.parse::<IngestionId>() {
            prop_assert_eq!(id.to_string(), text.to_lowercase());
        }
        let topics = Topics::new("mysimbdp");
        let topic = format!("mysimbdp/batch/staged/{text}");
        prop_assert!(topics.client_of(&topics.all_staged(), &topic).is_none_or(|client| client.as_str() == text));
        prop_assert!(!is_filter(&text) || !text.contains('\0'));
    }

    #[test]
    fn the_number_of_a_message_is_read_whole_or_refused(
        texts in prop::array::uniform3(prop::option::of(prop_oneof!["[0-9+-]{0,22}", "[a-z]{0,8}", ".{0,12}"])),
    ) {
        if let Ok(Some(number)) = Number::read(texts.clone()) {
            prop_assert_eq!(Some(number.source.name.to_string()), texts[0].clone());
            let written = texts.map(|text| text.and_then(|text| text.parse::<u64>().ok()));
            prop_assert_eq!((Some(number.source.epoch), Some(number.sequence)), (written[1], written[2]));
        }
    }

    #[test]
    fn sizes_periods_and_addresses_are_read_or_refused(text in prop_oneof![".{0,24}", "[0-9.]{0,22}[kKMGTiBmshd]{0,3}", "mqtts?://[a-z0-9:@/.%-]{0,30}"]) {
        let json = serde_json::Value::from(text.clone());
        if let Ok(size) = serde_json::from_value::<ByteSize>(json.clone()) {
            let written = serde_json::to_value(size).expect("JSON");
            prop_assert_eq!(serde_json::from_value::<ByteSize>(written).expect("its own serialization").as_u64(), size.as_u64());
        }
        if let Ok(period) = serde_json::from_value::<Period>(json) {
            let _ = period.duration();
        }
        let _ = text.parse::<mysimbdp_broker::Address>();
    }

    #[test]
    fn the_state_of_a_broker_is_read_or_refused(json in hostile(&[BROKER])) {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(directory.path().join("state")).expect("directory");
        std::fs::write(directory.path().join("state/broker.json"), &json).expect("write broker.json");
        let _ = ServerState::read(&Layout::new(directory.path()).broker_state());
    }

    #[test]
    fn a_config_is_accepted_or_its_faults_are_listed(json in hostile(&[CONFIG])) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("config.json");
        std::fs::write(&file, &json).expect("write config.json");
        match Config::load(&file, |_| None) {
            Ok(config) => prop_assert!(!config.clients.is_empty()),
            Err(faults) => prop_assert!(!faults.to_string().is_empty()),
        }
    }
}
