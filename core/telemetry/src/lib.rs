//! Everything that the operator reads: the logs ([`logging`]), the [`timing`] line of each step in them, and with the feature
//! `metrics` what a process counts.

pub mod logging;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod timing;
