//! The latest decisions about the number of a stream's instances, for those who ask why it is what it is.

use std::collections::VecDeque;

use mysimbdp_platform::clock;

use crate::control::DecisionStatus;
use crate::load::StreamLoad;
use crate::scaling::Decision;

/// Changes that are remembered; those from before are in the log.
const CHANGES_KEPT: usize = 10;

/// The last decision if it kept the number, and the latest ones that changed it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentDecisions {
    kept: Option<DecisionStatus>,
    /// The latest first.
    changes: VecDeque<DecisionStatus>,
}

impl RecentDecisions {
    /// Remembers what the policy has decided, with `before` instances at this load.
    pub(crate) fn note(&mut self, decision: &Decision, load: &StreamLoad, before: u32) {
        self.add(DecisionStatus {
            recommended: decision.recommended,
            ..status(before, decision.desired, &decision.reason.to_string(), load)
        });
    }

    /// Remembers a number that a person has set.
    pub(crate) fn note_manual(&mut self, before: u32, desired: u32) {
        self.add(status(before, desired, "set by hand", &StreamLoad::default()));
    }

    fn add(&mut self, status: DecisionStatus) {
        if status.desired == status.before {
            self.kept = Some(status);
            return;
        }
        self.kept = None;
        self.changes.push_front(status);
        self.changes.truncate(CHANGES_KEPT);
    }

    pub(crate) fn latest_first(&self) -> Vec<DecisionStatus> {
        self.kept.iter().chain(&self.changes).cloned().collect()
    }
}

fn status(before: u32, desired: u32, reason: &str, load: &StreamLoad) -> DecisionStatus {
    DecisionStatus {
        at: clock::now(),
        before,
        desired,
        recommended: None,
        reason: reason.to_owned(),
        running: load.running,
        reporting: load.reporting,
        busy: load.busy,
        processing_seconds: load.processing_seconds,
        messages_per_report: load.messages_per_report,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::ScalingReason;

    #[test]
    fn the_last_decision_and_the_latest_changes_are_remembered() {
        let mut recent = RecentDecisions::default();
        let load = StreamLoad { running: 2, ..StreamLoad::default() };
        let mut note = |before, desired, reason| {
            recent.note(&Decision { desired, recommended: Some(desired), reason }, &load, before);
            recent
                .latest_first()
                .into_iter()
                .map(|decision| (decision.before, decision.desired))
                .collect::<Vec<_>>()
        };
        assert_eq!(note(1, 1, ScalingReason::Steady), [(1, 1)]);
        assert_eq!(note(1, 2, ScalingReason::Busy), [(1, 2)]);
        assert_eq!(note(2, 2, ScalingReason::Cooldown), [(2, 2), (1, 2)]);
        assert_eq!(note(2, 2, ScalingReason::Steady), [(2, 2), (1, 2)]);
        for _ in 0..CHANGES_KEPT {
            note(3, 4, ScalingReason::Busy);
        }
        assert_eq!(note(4, 4, ScalingReason::Steady).len(), CHANGES_KEPT + 1);
        recent.note_manual(4, 1);
        assert_eq!((recent.latest_first()[0].desired, recent.latest_first().len()), (1, CHANGES_KEPT));
    }
}
