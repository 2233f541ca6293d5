//! The state of one ingestion's work, as the plan sees it.
//!
//! A [`Job`] holds no file and no process. Only its own methods change its state, and each of them is a legal move.

use std::collections::BTreeSet;
use std::time::Instant;

use jiff::Timestamp;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::reason::Objection;

/// Identifies an ingestion of a client.
pub(crate) type IngestionKey = (ClientId, IngestionId);

/// One staged ingestion: its work units, and the steps that follow them.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) ingestion: IngestionId,
    pub(crate) lane: Lane,
    pub(crate) staged_at: Timestamp,
    /// Name of the app in the client's `apps`.
    pub(crate) app: String,
    /// Units of this app, over all jobs, that may run at the same time.
    pub(crate) concurrency: usize,
    /// Units run one after the other.
    pub(crate) ordered: bool,
    /// The last unit waits for all others.
    pub(crate) joins: bool,
    pub(crate) stage: Stage,
}

#[derive(Clone, Debug)]
pub(crate) enum Stage {
    Units(Vec<UnitState>),
    /// Every unit is done.
    ToFinish(Wait),
    Finishing {
        tries: u32,
    },
    /// Given up for these reasons; the hold waits for the units that still run.
    ToHold {
        reasons: Vec<Objection>,
        running: BTreeSet<usize>,
        wait: Wait,
    },
    Holding {
        reasons: Vec<Objection>,
        tries: u32,
    },
    /// Only while a stage is replaced by the next one.
    Taken,
}

/// Something to do, now or after a back-off.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wait {
    pub(crate) not_before: Option<Instant>,
    /// Tries without success in a row.
    pub(crate) tries: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum UnitState {
    Waiting(Wait),
    Running { tries: u32 },
    Done,
}

impl Wait {
    fn is_over(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|until| until <= now)
    }
}

impl Job {
    /// Returns the stage of a job with `units` units; those in `done` have an outcome already.
    pub(crate) fn stage_of(units: usize, done: &BTreeSet<usize>) -> Stage {
        let state =
            |index| if done.contains(&index) { UnitState::Done } else { UnitState::Waiting(Wait::default()) };
        to_finish_if_done(Stage::Units((0..units).map(state).collect()))
    }

    /// Returns the units that may be started now, in order.
    pub(crate) fn startable(&self, now: Instant) -> impl Iterator<Item = usize> {
        let units: &[UnitState] = if let Stage::Units(units) = &self.stage { units } else { &[] };
        let first_open = units.iter().position(|unit| !matches!(unit, UnitState::Done));
        units.iter().enumerate().filter_map(move |(index, unit)| {
            let UnitState::Waiting(wait) = unit else { return None };
            let alone = self.ordered || (self.joins && index + 1 == units.len());
            (wait.is_over(now) && (!alone || first_open == Some(index))).then_some(index)
        })
    }

    pub(crate) fn running(&self) -> usize {
        match &self.stage {
            Stage::Units(units) => {
                units.iter().filter(|unit| matches!(unit, UnitState::Running { .. })).count()
            }
            Stage::ToHold { running, .. } => running.len(),
            Stage::ToFinish(_) | Stage::Finishing { .. } | Stage::Holding { .. } | Stage::Taken => 0,
        }
    }

    pub(crate) fn may_finish(&self, now: Instant) -> bool {
        matches!(&self.stage, Stage::ToFinish(wait) if wait.is_over(now))
    }

    pub(crate) fn may_hold(&self, now: Instant) -> bool {
        matches!(&self.stage, Stage::ToHold { running, wait, .. } if running.is_empty() && wait.is_over(now))
    }

    /// Whether another config may apply to it from now on. Work that has begun continues under its config, unless one
    /// of its units has been tried without success and none is running: the new config may have repaired that.
    pub(crate) fn may_take_config(&self) -> bool {
        match &self.stage {
            Stage::Units(units) => {
                let has_failed =
                    |unit: &UnitState| matches!(unit, UnitState::Waiting(wait) if wait.tries > 0);
                self.running() == 0
                    && (units.iter().any(has_failed)
                        || units.iter().all(|unit| matches!(unit, UnitState::Waiting(_))))
            }
            Stage::ToFinish(_) | Stage::Finishing { .. } | Stage::ToHold { .. } | Stage::Holding { .. } => {
                false
            }
            Stage::Taken => true,
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Finishing { .. } | Stage::Holding { .. })
    }

    /// Returns the earliest end of a back-off that still lasts.
    pub(crate) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        let next = match &self.stage {
            Stage::Units(units) => units.iter().filter_map(|unit| unit.wakes_at(now)).min(),
            Stage::ToFinish(wait) | Stage::ToHold { wait, .. } => wait.not_before,
            Stage::Finishing { .. } | Stage::Holding { .. } | Stage::Taken => None,
        };
        next.filter(|until| *until > now)
    }

    pub(crate) fn start(&mut self, index: usize) {
        if let Some(unit) = self.unit(index)
            && let UnitState::Waiting(Wait { tries, .. }) = *unit
        {
            *unit = UnitState::Running { tries };
        }
    }

    pub(crate) fn mark_done(&mut self, index: usize) {
        match &mut self.stage {
            Stage::Units(units) => {
                if let Some(unit) = units.get_mut(index) {
                    *unit = UnitState::Done;
                }
            }
            Stage::ToHold { running, .. } => {
                running.remove(&index);
            }
            Stage::ToFinish(_) | Stage::Finishing { .. } | Stage::Holding { .. } | Stage::Taken => {}
        }
        self.stage = to_finish_if_done(std::mem::replace(&mut self.stage, Stage::Taken));
    }

    /// The unit did not succeed; `until` returns the end of the back-off after this many tries in a row.
    pub(crate) fn retry_unit(&mut self, index: usize, until: impl Fn(u32) -> Instant) {
        if let Stage::ToHold { running, .. } = &mut self.stage {
            running.remove(&index);
        } else if let Some(unit) = self.unit(index)
            && let UnitState::Running { tries } = *unit
        {
            *unit = UnitState::Waiting(wait_after(tries, until));
        }
    }

    /// Gives the job up because of this unit, or as a whole.
    pub(crate) fn give_up(&mut self, index: Option<usize>, reason: Objection) {
        match &mut self.stage {
            Stage::ToHold { reasons, running, .. } => {
                reasons.push(reason);
                if let Some(index) = index {
                    running.remove(&index);
                }
            }
            Stage::Units(units) => {
                let is_running = |(at, unit): (usize, &UnitState)| {
                    (matches!(unit, UnitState::Running { .. }) && Some(at) != index).then_some(at)
                };
                let running = units.iter().enumerate().filter_map(is_running).collect();
                self.stage = Stage::ToHold { reasons: vec![reason], running, wait: Wait::default() };
            }
            Stage::ToFinish(_) | Stage::Finishing { .. } => {
                self.stage =
                    Stage::ToHold { reasons: vec![reason], running: BTreeSet::new(), wait: Wait::default() };
            }
            Stage::Holding { .. } | Stage::Taken => {}
        }
    }

    pub(crate) fn begin_finish(&mut self) {
        if let Stage::ToFinish(wait) = self.stage {
            self.stage = Stage::Finishing { tries: wait.tries };
        }
    }

    /// Begins the hold and returns the reasons for it.
    pub(crate) fn begin_hold(&mut self) -> Vec<Objection> {
        let Stage::ToHold { reasons, wait, .. } = &self.stage else { return Vec::new() };
        let (reasons, tries) = (reasons.clone(), wait.tries);
        self.stage = Stage::Holding { reasons: reasons.clone(), tries };
        reasons
    }

    /// Finishing or holding did not succeed; it is tried again.
    pub(crate) fn retry_end(&mut self, until: impl FnOnce(u32) -> Instant) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Taken) {
            Stage::Finishing { tries } => Stage::ToFinish(wait_after(tries, until)),
            Stage::Holding { reasons, tries } => {
                Stage::ToHold { reasons, running: BTreeSet::new(), wait: wait_after(tries, until) }
            }
            other => other,
        };
    }

    fn unit(&mut self, index: usize) -> Option<&mut UnitState> {
        if let Stage::Units(units) = &mut self.stage { units.get_mut(index) } else { None }
    }
}

impl UnitState {
    fn wakes_at(&self, now: Instant) -> Option<Instant> {
        if let Self::Waiting(wait) = self { wait.not_before.filter(|until| *until > now) } else { None }
    }
}

fn wait_after(tries: u32, until: impl FnOnce(u32) -> Instant) -> Wait {
    let tries = tries.saturating_add(1);
    Wait { not_before: Some(until(tries)), tries }
}

fn to_finish_if_done(stage: Stage) -> Stage {
    match stage {
        Stage::Units(units) if units.iter().all(|unit| matches!(unit, UnitState::Done)) => {
            Stage::ToFinish(Wait::default())
        }
        other => other,
    }
}
