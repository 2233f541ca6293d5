//! One more or one less when the reports cross a threshold.

use mysimbdp_core::config::settings::Thresholds;

use super::Reason;
use crate::load::StreamLoad;

/// Up when slow or when little was ingested, down when quick or when much was; both at once holds.
pub(super) fn recommend(load: &StreamLoad, rule: &Thresholds, wanted: u32) -> (u32, Reason) {
    let (seconds, messages) = (load.processing_seconds, load.messages_per_report);
    let up = seconds > rule.up_processing_time.duration().as_secs_f64() || messages < rule.up_messages as f64;
    let down =
        seconds < rule.down_processing_time.duration().as_secs_f64() || messages > rule.down_messages as f64;
    match (up, down) {
        (true, true) => (wanted, Reason::UpAndDown),
        (true, false) => (wanted.saturating_add(1), Reason::Busy),
        (false, true) => (wanted.saturating_sub(1), Reason::Idle),
        (false, false) => (wanted, Reason::Steady),
    }
}
