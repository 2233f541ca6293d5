//! The documents name all metrics, and none that do not exist.

#![cfg(feature = "metrics")]

use std::collections::BTreeSet;

use mysimbdp_telemetry::metrics::{Kind, all, reference};
use serde_json::Value;

const METRICS: &str = include_str!("../../../docs/metrics.md");
const ALERTS: &str = include_str!("../../../docs/alerts.yml");
const ALERTS_TEST: &str = include_str!("../../../docs/alerts.test.yml");
const DASHBOARD: &str = include_str!("../../../docs/grafana/mysimbdp.json");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// The names of all samples.
fn samples() -> BTreeSet<String> {
    let names = |name: &str, kind| match kind {
        Kind::Counter | Kind::Gauge => vec![name.to_owned()],
        Kind::Histogram => ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")).into(),
    };
    all().iter().flat_map(|definition| names(definition.name, definition.kind)).collect()
}

/// The words of a text that look like the names of samples.
fn named(text: &str) -> BTreeSet<&str> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_of_name(c));
    words.filter(|word| word.starts_with("mysimbdp_")).collect()
}

#[test]
fn the_table_of_all_metrics_is_that_of_the_code() {
    assert!(METRICS.contains(&reference()), "docs/metrics.md lacks this table:\n\n{}", reference());
}

#[test]
fn alerts_and_dashboard_use_only_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
    let samples = samples();
    for (document, text) in [("alerts", ALERTS), ("test", ALERTS_TEST), ("dashboard", DASHBOARD)] {
        let named = named(text);
        assert!(named.len() > 10, "{document}: {named:?}");
        for name in named {
            assert!(samples.contains(name), "{document} has {name}, which does not exist");
        }
    }
    for name in named(OPERATIONS) {
        assert!(samples.contains(name), "operations.md has {name}, which does not exist");
    }
}
