//! Logs the lines of this crate for `grep TIMING`.

use std::time::Duration;

use jiff::Timestamp;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_platform::clock;
use mysimbdp_telemetry::timing::{Stage, Timing};

use crate::observe::Work;
use crate::unit::WorkUnit;

/// Returns the time that has passed by the clock; zero if the clock was set back.
pub(crate) fn since(then: Timestamp) -> Duration {
    clock::now().duration_since(then).try_into().unwrap_or_default()
}

pub(crate) fn of_unit(stage: Stage, work: &Work, unit: &WorkUnit, took: Duration) {
    log(stage, &work.manifest, unit.bytes(&work.manifest), unit.records, took);
}

pub(crate) fn of_file(stage: Stage, manifest: &Manifest, took: Duration) {
    log(stage, manifest, manifest.bytes, manifest.records, took);
}

fn log(stage: Stage, manifest: &Manifest, bytes: u64, records: u64, took: Duration) {
    let ingestion = manifest.ingestion.to_string();
    let client = manifest.client.as_str();
    Timing { stage, client, ingestion: &ingestion, file: &manifest.file, bytes, records, took }.log();
}
