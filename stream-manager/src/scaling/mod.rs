//! Decides how many instances a stream should have.
//!
//! Pure: load, policy and memory in, decision out. The manager calls it on every pass, so equal inputs must give equal
//! decisions.
//!
//! 1. [`crate::load`] sums up what the instances report;
//! 2. the policy, [`target`] or [`thresholds`], recommends a number;
//! 3. [`decide`] keeps it within bounds, and keeps it from changing too often.

mod target;
#[cfg(test)]
mod tests;
mod thresholds;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use mysimbdp_config::settings::{self, Target, Thresholds};

use crate::load::StreamLoad;

/// How a stream is scaled.
#[derive(Clone, Copy, Debug)]
pub struct ScalingPolicy {
    pub rule: Rule,
    pub bounds: Bounds,
}

#[derive(Clone, Copy, Debug)]
pub enum Rule {
    Target(Target),
    Thresholds(Thresholds),
}

/// The allowed numbers of instances: both inclusive, `min <= max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub min: u32,
    pub max: u32,
}

/// The decisions so far.
#[derive(Clone, Debug)]
pub struct Memory {
    pub desired: u32,
    /// When `desired` last changed; reports about the time before it do not describe the present load.
    pub changed_at: Option<Instant>,
    recommended: Recommendations,
}

/// How many instances there should be, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub desired: u32,
    /// What the policy alone recommends, or the bound that `desired` was outside of; `None` if there is no basis for a
    /// recommendation.
    pub recommended: Option<u32>,
    pub reason: ScalingReason,
}

/// The reason of a decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScalingReason {
    /// Silence is not idleness.
    NoFreshReports,
    OutOfBounds,
    Busy,
    Idle,
    /// Close enough to the target, or already at a bound.
    Steady,
    /// The last change is too recent.
    Cooldown,
    /// More was recommended a short time ago.
    Stabilizing,
    /// Above `up_processing_time`.
    Slow,
    /// Below `up_messages`.
    Little,
    /// Below `down_processing_time`.
    Quick,
    /// Above `down_messages`.
    Much,
    /// Below `down_processing_time` and below `up_messages`.
    QuickAndLittle,
    /// Above `up_processing_time` and above `down_messages`, or thresholds that overlap: they contradict each other.
    UpAndDown,
    /// As many instances as all clients together may have exist already.
    LacksCapacity,
}

impl Rule {
    pub fn of(scaling: &settings::Scaling) -> Self {
        match scaling.policy {
            settings::Policy::Target => Self::Target(scaling.target),
            settings::Policy::Thresholds => Self::Thresholds(scaling.thresholds),
        }
    }

    fn cooldown(&self) -> Duration {
        match self {
            Self::Target(target) => target.cooldown.duration(),
            Self::Thresholds(thresholds) => thresholds.cooldown.duration(),
        }
    }

    fn stabilization(&self) -> Duration {
        match self {
            Self::Target(target) => target.stabilization.duration(),
            // One step per cooldown, with a gap between the thresholds, is steady enough by itself.
            Self::Thresholds(_) => Duration::ZERO,
        }
    }
}

impl Bounds {
    pub fn clamp(self, number: u32) -> u32 {
        number.clamp(self.min, self.max)
    }

    /// The bounds for a policy, which never removes the last instance: without one, nothing would report that messages have
    /// arrived, so nothing would ever start one again. Only a person can set zero.
    fn for_policy(self, desired: u32) -> Self {
        let min = if desired == 0 { self.min } else { self.min.max(1) };
        Self { min: min.min(self.max), max: self.max }
    }
}

impl Memory {
    /// Counts `desired` as recommended now: a manager that has just started scales up at once, but removes no instance before
    /// it has observed the load for the stabilization window.
    pub fn new(desired: u32, now: Instant) -> Self {
        Self { desired, changed_at: None, recommended: Recommendations::from([(now, desired)]) }
    }

    /// Sets the number of a manual override, or the number with which the policy continues after one: no instance is
    /// removed before another stabilization window.
    pub fn set(&mut self, desired: u32, now: Instant) {
        let changed_at = if desired == self.desired { self.changed_at } else { Some(now) };
        *self = Self { changed_at, ..Self::new(desired, now) };
    }

    /// Records a recommendation and, if the number changes, when.
    pub fn note(&mut self, decision: &Decision, policy: &ScalingPolicy, now: Instant) {
        if let Some(recommended) = decision.recommended {
            self.recommended.push(now, recommended, policy.rule.stabilization());
        }
        if decision.desired != self.desired {
            self.desired = decision.desired;
            self.changed_at = Some(now);
        }
    }
}

/// Returns the number of instances that the stream of `load` should have, within the policy's bounds.
///
/// It scales up on what is reported now, and down only to the most that was recommended within the stabilization window: a
/// spike is answered at once, and a short pause removes no instance.
pub fn decide(load: &StreamLoad, policy: &ScalingPolicy, memory: &Memory, now: Instant) -> Decision {
    let bounds = policy.bounds.for_policy(memory.desired);
    let hold = |reason, recommended| Decision { desired: memory.desired, recommended, reason };
    if bounds.clamp(memory.desired) != memory.desired {
        let desired = bounds.clamp(memory.desired);
        return Decision { desired, recommended: Some(desired), reason: ScalingReason::OutOfBounds };
    }
    if load.running == 0 || load.reporting == 0 {
        return hold(ScalingReason::NoFreshReports, None);
    }
    let (recommended, reason) = match &policy.rule {
        Rule::Target(rule) => target::recommend(load, rule, memory.desired),
        Rule::Thresholds(rule) => thresholds::recommend(load, rule, memory.desired),
    };
    let recommended = bounds.clamp(recommended);
    if recommended == memory.desired {
        let reason = if reason == ScalingReason::UpAndDown { reason } else { ScalingReason::Steady };
        return hold(reason, Some(recommended));
    }
    let cooling =
        memory.changed_at.is_some_and(|at| now.saturating_duration_since(at) < policy.rule.cooldown());
    if cooling {
        return hold(ScalingReason::Cooldown, Some(recommended));
    }
    if recommended > memory.desired {
        return Decision { desired: recommended, recommended: Some(recommended), reason };
    }
    let most = memory.recommended.most_since(now, policy.rule.stabilization());
    let desired = bounds.clamp(most.map_or(recommended, |most| most.max(recommended))).min(memory.desired);
    let reason = if desired == memory.desired { ScalingReason::Stabilizing } else { reason };
    Decision { desired, recommended: Some(recommended), reason }
}

/// The recommendations within the stabilization window, as a falling sequence: one that is followed by a greater one can no
/// longer be the maximum, so it is dropped. This bounds the length by the greatest number of instances.
#[derive(Clone, Debug)]
struct Recommendations(VecDeque<(Instant, u32)>);

impl<const N: usize> From<[(Instant, u32); N]> for Recommendations {
    fn from(recommendations: [(Instant, u32); N]) -> Self {
        Self(recommendations.into())
    }
}

impl Recommendations {
    fn push(&mut self, now: Instant, number: u32, window: Duration) {
        while self.0.back().is_some_and(|(_, earlier)| *earlier <= number) {
            self.0.pop_back();
        }
        self.0.push_back((now, number));
        while self.0.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > window) {
            self.0.pop_front();
        }
    }

    fn most_since(&self, now: Instant, window: Duration) -> Option<u32> {
        let recent = self.0.iter().filter(|(at, _)| now.saturating_duration_since(*at) < window);
        recent.map(|(_, number)| *number).max()
    }
}

impl fmt::Display for ScalingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFreshReports => "no fresh reports",
            Self::OutOfBounds => "out of bounds",
            Self::Busy => "busier than the target",
            Self::Idle => "less busy than the target",
            Self::Steady => "steady",
            Self::Cooldown => "changed a short time ago",
            Self::Stabilizing => "more was needed a short time ago",
            Self::Slow => "processing takes longer than up_processing_time",
            Self::Little => "fewer messages than up_messages",
            Self::Quick => "processing takes less than down_processing_time",
            Self::Much => "more messages than down_messages",
            Self::QuickAndLittle => "idle: few messages, and processing takes less than down_processing_time",
            Self::UpAndDown => "one threshold says up, another down",
            Self::LacksCapacity => {
                "more are needed, but all clients together have stream_manager.instances_max"
            }
        })
    }
}
