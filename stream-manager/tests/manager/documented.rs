//! The examples in `docs/asyncapi.yaml` match what the programs read and write.

use mysimbdp_model::message::{Finished, Receipt, Report, Staged};
use mysimbdp_stream_manager::control::{Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../../docs/asyncapi.yaml");

/// The examples by name; each payload is JSON on a line of its own.
fn examples() -> Vec<(&'static str, &'static str)> {
    let lines: Vec<&str> = DOCUMENT.lines().map(str::trim).collect();
    let example =
        |pair: &[&'static str]| Some((pair[0].strip_prefix("- name: ")?, pair[1].strip_prefix("payload: ")?));
    lines.windows(2).filter_map(example).collect()
}

/// Reads the example, and checks that it is written back unchanged.
fn assert_round_trip<T: DeserializeOwned + Serialize>(payload: &str) {
    let read: T = serde_json::from_str(payload).expect(payload);
    let written = serde_json::to_value(read).expect("serialises");
    assert_eq!(written, serde_json::from_str::<Value>(payload).expect("JSON"));
}

#[test]
fn every_example_is_read_as_the_type_that_it_shows() {
    let mut checked = 0;
    for (name, payload) in examples() {
        match name.split('-').next() {
            Some("staged") => {
                assert_round_trip::<Staged>(payload);
                Staged::parse(payload.as_bytes()).expect(payload);
            }
            Some("finished") => assert_round_trip::<Finished>(payload),
            Some("report") => {
                Report::parse(payload.as_bytes()).expect(payload);
            }
            Some("receipt") => {
                assert_round_trip::<Receipt>(payload);
                Receipt::parse(payload.as_bytes()).expect(payload);
            }
            Some("request") => {
                serde_json::from_str::<Request>(payload).expect(payload);
            }
            Some("response") => assert_round_trip::<Response>(payload),
            // Messages of the client's own format, and messages that only the apps write.
            Some("data" | "status" | "gone") => continue,
            other => panic!("example of unknown kind {other:?}"),
        }
        checked += 1;
    }
    assert!(checked >= 17, "only {checked} examples were found");
}
