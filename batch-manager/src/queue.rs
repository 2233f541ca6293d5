//! Selects the ingestions that a plan has to consider.
//!
//! These are the ones that have been begun, and of the others the oldest of each line, as many as there are slots: a
//! plan cannot start more of a line, so a long line costs no more than a short one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::Lane;

use crate::job::{IngestionKey, Job, Stage};

/// Identifies a line: the waiting ingestions of one app of a client in one lane.
type Line = (ClientId, String, Lane);

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Those of which this process has started something, or that have no unit left to run.
    begun: BTreeSet<IngestionKey>,
    /// By age. No back-off delays their units, so each is work for at least one slot.
    lines: BTreeMap<Line, BTreeMap<(Timestamp, IngestionId), IngestionKey>>,
}

impl Queue {
    /// Adds a new job.
    pub(crate) fn add(&mut self, key: &IngestionKey, job: &Job) {
        if matches!(job.stage, Stage::Units(_)) {
            self.lines.entry(line(key, job)).or_default().insert(position(job), key.clone());
        } else {
            self.begun.insert(key.clone());
        }
    }

    /// A unit or the end of the job is started.
    pub(crate) fn begin(&mut self, key: &IngestionKey, job: &Job) {
        if self.leave_line(key, job) {
            self.begun.insert(key.clone());
        }
    }

    /// The manager forgets the job.
    pub(crate) fn remove(&mut self, key: &IngestionKey, job: &Job) {
        if !self.begun.remove(key) {
            self.leave_line(key, job);
        }
    }

    /// Returns all that a plan for `slots` slots has to consider.
    pub(crate) fn plannable(&self, slots: usize) -> impl Iterator<Item = &IngestionKey> {
        self.begun.iter().chain(self.lines.values().flat_map(move |line| line.values().take(slots)))
    }

    fn leave_line(&mut self, key: &IngestionKey, job: &Job) -> bool {
        let name = line(key, job);
        let Some(waiting) = self.lines.get_mut(&name) else { return false };
        let was_waiting = waiting.remove(&position(job)).is_some();
        if waiting.is_empty() {
            self.lines.remove(&name);
        }
        was_waiting
    }
}

fn line((client, _): &IngestionKey, job: &Job) -> Line {
    (client.clone(), job.app.clone(), job.lane)
}

fn position(job: &Job) -> (Timestamp, IngestionId) {
    (job.staged_at, job.ingestion)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::plan::{Action, Policy, Served, plan};

    const SLOTS: usize = 3;

    /// Jobs of two clients, two apps and all lanes; some in order, some with two units at a time at most.
    fn jobs() -> BTreeMap<IngestionKey, Job> {
        let job = |number: u64| {
            let pick = |of: u64, every: u64| number / every % of;
            let client: ClientId = ["a", "b"][pick(2, 1) as usize].parse().expect("client id");
            let ingestion: IngestionId =
                format!("{:032x}", number * 7919 % 1009).parse().expect("ingestion id");
            let job = Job {
                ingestion,
                lane: [Lane::Live, Lane::Retry, Lane::Backfill][pick(3, 2) as usize],
                staged_at: Timestamp::from_second((number % 17) as i64).expect("in range"),
                app: ["wide", "narrow"][pick(2, 6) as usize].to_owned(),
                concurrency: if pick(2, 6) == 0 { 64 } else { 2 },
                ordered: pick(5, 1) == 0,
                joins: pick(4, 1) == 0,
                stage: Job::stage_of(pick(4, 5) as usize, &BTreeSet::new()),
            };
            ((client, ingestion), job)
        };
        (0..120).map(job).collect()
    }

    #[test]
    fn a_plan_of_the_first_of_each_line_is_the_plan_of_all() {
        let (mut jobs, mut queue) = (jobs(), Queue::default());
        jobs.iter().for_each(|(key, job)| queue.add(key, job));
        let (policy, now) = (Policy { units_in_parallel: SLOTS }, Instant::now());
        let (mut served, mut served_plannable) = (Served::default(), Served::default());
        let mut running: Vec<(IngestionKey, usize)> = Vec::new();
        let mut turn = 0;
        while !jobs.is_empty() {
            let all = jobs.iter().map(|((client, _), job)| (client, job));
            let actions = plan(all, policy, &mut served, now);
            let plannable: Vec<(&ClientId, &Job)> =
                queue.plannable(SLOTS).map(|key| (&key.0, &jobs[key])).collect();
            assert!(plannable.len() <= queue.begun.len() + 2 * 2 * 3 * SLOTS);
            assert_eq!(plan(plannable.into_iter(), policy, &mut served_plannable, now), actions);
            for action in &actions {
                match action {
                    Action::Start { client, ingestion, unit } => {
                        let key = (client.clone(), *ingestion);
                        let job = jobs.get_mut(&key).expect("planned for a known job");
                        queue.begin(&key, job);
                        job.start(*unit);
                        running.push((key, *unit));
                    }
                    Action::Finish { client, ingestion } | Action::Hold { client, ingestion } => {
                        let key = (client.clone(), *ingestion);
                        let job = jobs.remove(&key).expect("planned for a known job");
                        queue.remove(&key, &job);
                    }
                }
            }
            if actions.is_empty() {
                turn += 1;
                let (key, unit) = running.remove(turn % running.len());
                let job = jobs.get_mut(&key).expect("a known job");
                if turn % 4 == 0 { job.retry_unit(unit, |_| now) } else { job.mark_done(unit) }
            }
        }
        assert_eq!(queue.plannable(SLOTS).count(), 0);
    }
}
