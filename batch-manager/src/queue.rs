//! Which ingestions a plan has to see.
//!
//! Those that have been begun, and of the others the oldest of each line, as many as there are slots: no plan can start
//! more of a line, so what stands behind them changes nothing, and thousands that wait cost no more than a few.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::Lane;

use crate::job::{Job, Key, Stage};

/// What waits for the same: ingestions of an app of a client, in one lane.
type Line = (ClientId, String, Lane);

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Some of their units run, have failed or are done, or all are.
    begun: BTreeSet<Key>,
    /// By age. Nothing holds up their units, so each is work for one slot at least.
    lines: BTreeMap<Line, BTreeMap<(Timestamp, IngestionId), Key>>,
}

impl Queue {
    /// Takes up a new job.
    pub(crate) fn add(&mut self, key: &Key, job: &Job) {
        if matches!(job.stage, Stage::Units(_)) {
            self.lines.entry(line(key, job)).or_default().insert(place(job), key.clone());
        } else {
            self.begun.insert(key.clone());
        }
    }

    /// Something of the job is started.
    pub(crate) fn begin(&mut self, key: &Key, job: &Job) {
        if self.leave_line(key, job) {
            self.begun.insert(key.clone());
        }
    }

    /// The job is gone.
    pub(crate) fn remove(&mut self, key: &Key, job: &Job) {
        if !self.begun.remove(key) {
            self.leave_line(key, job);
        }
    }

    /// All that a plan for so many slots has to see.
    pub(crate) fn in_sight(&self, slots: usize) -> impl Iterator<Item = &Key> {
        self.begun.iter().chain(self.lines.values().flat_map(move |line| line.values().take(slots)))
    }

    fn leave_line(&mut self, key: &Key, job: &Job) -> bool {
        let name = line(key, job);
        let Some(waiting) = self.lines.get_mut(&name) else { return false };
        let was_there = waiting.remove(&place(job)).is_some();
        if waiting.is_empty() {
            self.lines.remove(&name);
        }
        was_there
    }
}

fn line((client, _): &Key, job: &Job) -> Line {
    (client.clone(), job.app.clone(), job.lane)
}

fn place(job: &Job) -> (Timestamp, IngestionId) {
    (job.staged_at, job.ingestion)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::plan::{Action, Policy, Served, plan};

    const SLOTS: usize = 3;

    /// Jobs of two clients, two apps and all lanes; some in order, some with two units at a time at most.
    fn jobs() -> BTreeMap<Key, Job> {
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
    fn a_plan_that_sees_the_first_of_each_line_is_the_plan_that_sees_all() {
        let (mut jobs, mut queue) = (jobs(), Queue::default());
        jobs.iter().for_each(|(key, job)| queue.add(key, job));
        let (policy, now) = (Policy { units_in_parallel: SLOTS }, Instant::now());
        let (mut served, mut served_in_sight) = (Served::default(), Served::default());
        let mut running: Vec<(Key, usize)> = Vec::new();
        let mut turn = 0;
        while !jobs.is_empty() {
            let all = jobs.iter().map(|((client, _), job)| (client, job));
            let actions = plan(all, policy, &mut served, now);
            let in_sight: Vec<(&ClientId, &Job)> =
                queue.in_sight(SLOTS).map(|key| (&key.0, &jobs[key])).collect();
            assert!(in_sight.len() <= queue.begun.len() + 2 * 2 * 3 * SLOTS);
            assert_eq!(plan(in_sight.into_iter(), policy, &mut served_in_sight, now), actions);
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
                if turn % 4 == 0 { job.again(unit, |_| now) } else { job.done(unit) }
            }
        }
        assert_eq!(queue.in_sight(SLOTS).count(), 0);
    }
}
