//! Tests that events arrive in the file as lines.

use std::time::Duration;

use mysimbdp_platform::files;
use tracing::subscriber::with_default;
use tracing_subscriber::Registry;

use super::*;
use crate::timing::{Stage, Timing};

/// The lines that `work` logs, without their times.
fn logged(variable: &str, work: impl FnOnce()) -> Vec<String> {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("role.log");
    let file = RotatingFile::open(&path, (&Logs::default()).into(), clock::now()).expect("a log");
    let (filter, refused) = filter(LogLevel::Info, Some(variable));
    assert_eq!(refused, None);
    with_default(Registry::default().with(filter).with(FileLayer::new("role", file)), work);
    let text = files::read_to_string(&path).expect("the log");
    text.lines()
        .map(|line| {
            let (time, remainder) = line.split_once(' ').expect("a time");
            assert_eq!(time.len(), "2026-11-21T03:22:11.123456Z".len(), "{line}");
            time.parse::<jiff::Timestamp>().expect("a time");
            remainder.to_owned()
        })
        .collect()
}

#[test]
fn an_event_is_a_line_of_logfmt() {
    let lines = logged("", || {
        tracing::info!(
            client = "client1",
            file = "we ather.csv",
            bytes = 12,
            ratio = 0.5,
            fine = true,
            "staged"
        );
        tracing::warn!(size = ?Some(1), error = %"a: b", "file discarded");
        tracing::debug!("not wanted");
    });
    assert_eq!(
        lines,
        [
            "INFO role: staged client=client1 file=\"we ather.csv\" bytes=12 ratio=0.5 fine=true",
            "WARN role: file discarded size=Some(1) error=\"a: b\"",
        ]
    );
}

#[test]
fn a_file_name_cannot_forge_a_line() {
    let lines =
        logged("", || tracing::info!(file = "a\n2026-11-21T00:00:00Z INFO role: TIMING\u{1b}[2J", "staged"));
    assert_eq!(lines, ["INFO role: staged file=\"a\\n2026-11-21T00:00:00Z INFO role: TIMING\\u{1b}[2J\""]);
}

#[test]
fn a_message_of_megabytes_does_not_become_a_line_of_megabytes() {
    let payload = "ä\n".repeat(1 << 20);
    let lines = logged("", || tracing::warn!(reason = payload, topic = %payload, "refused {payload}"));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].len() < 20 * 1024 && lines[0].ends_with("…\""), "{} bytes", lines[0].len());
}

#[test]
fn a_timing_line_is_found_by_its_first_word() {
    let timing = Timing {
        stage: Stage::Split,
        client: "client1",
        ingestion: "ab",
        file: "x.csv",
        bytes: 2_000_000,
        records: 10,
        took: Duration::from_secs(2),
    };
    let lines = logged("", || timing.log());
    assert_eq!(
        lines,
        ["INFO role: TIMING stage=split client=client1 ingestion=ab file=x.csv bytes=2000000 records=10 \
          seconds=2.000000 mb_s=1.000 records_s=5.0"]
    );
}

#[test]
fn libraries_are_quiet_unless_a_filter_names_them() {
    let work = || {
        tracing::info!(target: "mongodb::cmap", "checked out");
        tracing::warn!(target: "rumqttc", "odd");
        tracing::debug!("our own");
    };
    assert_eq!(logged("", work), ["WARN role: odd target=rumqttc"]);
    assert_eq!(logged("debug", work), ["WARN role: odd target=rumqttc", "DEBUG role: our own"]);
    assert_eq!(
        logged("info,mongodb=info", work),
        ["INFO role: checked out target=mongodb::cmap", "WARN role: odd target=rumqttc"]
    );
}

#[test]
fn an_invalid_filter_is_reported_and_ignored() {
    let (filter, refused) = filter(LogLevel::Warn, Some("mysimbdp=loud"));
    assert_eq!(filter.to_string(), "warn");
    assert!(refused.is_some());
    assert_eq!(super::filter(LogLevel::Info, Some(" debug , mysimbdp=trace ")).1, None);
    for word in ["loud", "warning", "info,debgu"] {
        let (filter, refused) = super::filter(LogLevel::Info, Some(word));
        assert!(refused.is_some_and(|text| text.contains("is not a level")), "{word}");
        assert!(filter.to_string().contains("info"), "{word}: {filter}");
    }
}
