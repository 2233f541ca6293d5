//! Recommends as many instances as make each one busy for the target share of its time.

use mysimbdp_config::settings::Target;

use super::ScalingReason;
use crate::load::StreamLoad;

/// `2.1 / 0.7` is 3.0000000000000004, which must not become 4.
const ROUNDING: f64 = 1e-9;

/// Recommends `ceil(busy / target)`.
///
/// Silent instances count as idle when deciding to add, and as busy when deciding to remove.
pub(super) fn recommend(load: &StreamLoad, rule: &Target, desired: u32) -> (u32, ScalingReason) {
    let target = f64::from(rule.utilization_percent.max(1)) / 100.0;
    let tolerance = f64::from(rule.tolerance_percent) / 100.0;
    let busy_least = load.busy;
    let busy_most = load.busy + f64::from(load.running.saturating_sub(load.reporting));
    let aim = f64::from(load.running) * target;
    if busy_least > aim * (1.0 + tolerance) {
        (needed(busy_least, target).max(desired), ScalingReason::Busy)
    } else if busy_most < aim * (1.0 - tolerance) {
        (needed(busy_most, target).min(desired), ScalingReason::Idle)
    } else {
        (desired, ScalingReason::Steady)
    }
}

fn needed(busy: f64, target: f64) -> u32 {
    // `as` saturates, and converts NaN to 0.
    (busy / target - ROUNDING).ceil().max(0.0) as u32
}
