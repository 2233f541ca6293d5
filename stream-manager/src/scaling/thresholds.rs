//! Recommends one instance more or less if the reports cross a threshold.
//!
//! The rule as it was given (see `docs/decisions/0031-status-and-health.md`) contradicts itself when there is little to
//! do: few messages say up, and a short processing time says down, so a stream that has once grown would never shrink.
//! Few messages mean too few instances only if each message takes long. So if messages are processed quickly, few of
//! them mean idleness, and say down.

use mysimbdp_config::settings::Thresholds;

use super::ScalingReason;
use crate::load::StreamLoad;

/// Recommends one more if processing is slow or little was ingested, and one less if it is quick or much was ingested. Quick
/// and little is idle: one less. Slow and much is contradictory, so the number stays.
pub(super) fn recommend(load: &StreamLoad, rule: &Thresholds, desired: u32) -> (u32, ScalingReason) {
    let (seconds, messages) = (load.processing_seconds, load.messages_per_report);
    let is_slow = seconds > rule.up_processing_time.duration().as_secs_f64();
    let is_quick = seconds < rule.down_processing_time.duration().as_secs_f64();
    let (is_little, is_much) = (messages < rule.up_messages as f64, messages > rule.down_messages as f64);
    let (up, down) = (desired.saturating_add(1), desired.saturating_sub(1));
    match () {
        () if is_slow && (is_much || is_quick) || is_little && is_much => (desired, ScalingReason::UpAndDown),
        () if is_slow => (up, ScalingReason::Slow),
        () if is_quick && is_little => (down, ScalingReason::QuickAndLittle),
        () if is_little => (up, ScalingReason::Little),
        () if is_quick => (down, ScalingReason::Quick),
        () if is_much => (down, ScalingReason::Much),
        () => (desired, ScalingReason::Steady),
    }
}
