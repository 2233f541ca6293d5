//! One line per stage, found by `grep TIMING logs/*.log`.
//!
//! A line is logfmt after the word `TIMING`: `TIMING stage=split client=client1 … seconds=0.021 mb_s=512.3`.

mod parse;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use parse::TimingLine;

/// The target of these events, by which a subscriber recognises them.
pub const TARGET: &str = "mysimbdp::timing";

/// The stages that are timed, in flow order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Settle,
    Validate,
    Split,
    Stage,
    Notify,
    Queue,
    Spawn,
    Ingest,
    Finish,
    Whole,
    /// Stream: the time from a message's arrival to its acknowledgement, as the mean of one interval of an instance.
    Batch,
    /// Stream: one interval of an instance.
    Report,
}

impl Stage {
    /// In flow order.
    pub const ALL: [Self; 12] = [
        Self::Settle,
        Self::Validate,
        Self::Split,
        Self::Stage,
        Self::Notify,
        Self::Queue,
        Self::Spawn,
        Self::Ingest,
        Self::Finish,
        Self::Whole,
        Self::Batch,
        Self::Report,
    ];
}

/// No stage has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownStage;

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(name: &str) -> Result<Self, UnknownStage> {
        Self::ALL.into_iter().find(|stage| stage.to_string() == name).ok_or(UnknownStage)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settle => "settle",
            Self::Validate => "validate",
            Self::Split => "split",
            Self::Stage => "stage",
            Self::Notify => "notify",
            Self::Queue => "queue",
            Self::Spawn => "spawn",
            Self::Ingest => "ingest",
            Self::Finish => "finish",
            Self::Whole => "whole",
            Self::Batch => "batch",
            Self::Report => "report",
        })
    }
}

/// One measured stage.
#[derive(Clone, Copy, Debug)]
pub struct Timing<'a> {
    pub stage: Stage,
    pub client: &'a str,
    /// The ingestion, or the stream instance.
    pub ingestion: &'a str,
    /// The file, or the topic filter.
    pub file: &'a str,
    pub bytes: u64,
    pub records: u64,
    pub took: Duration,
}

impl Timing<'_> {
    /// Logs the line at INFO, with the rates calculated from it, and adds it to the metrics.
    pub fn log(&self) {
        #[cfg(feature = "metrics")]
        crate::metrics::metrics().stage_took(self.stage, self.client, self.took);
        let seconds = self.took.as_secs_f64();
        // A stage faster than the clock's microsecond has no meaningful rate.
        let per_second = |amount: f64| if seconds >= 1e-6 { amount / seconds } else { 0.0 };
        tracing::info!(
            target: TARGET,
            stage = %self.stage,
            client = self.client,
            ingestion = self.ingestion,
            file = self.file,
            bytes = self.bytes,
            records = self.records,
            seconds = %format_args!("{seconds:.6}"),
            mb_s = %format_args!("{:.3}", per_second(self.bytes as f64 / 1e6)),
            records_s = %format_args!("{:.1}", per_second(self.records as f64)),
            "TIMING"
        );
    }
}
