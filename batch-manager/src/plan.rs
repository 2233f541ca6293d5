//! Decides what to start next.
//!
//! Pure: jobs, policy, earlier turns and now in, actions out; it depends on nothing else. It is called after every
//! change. An answer may be small: the caller carries it out and calls again until there are no more actions.
//!
//! - A free slot goes to the client that has the fewest, and of those to the one that was served longest ago: one
//!   client's flood costs another no more than the wait for one slot.
//! - Within a client the lanes go in the order live, retry, backfill; every fourth start goes in reverse order, so
//!   that a lane which is never empty does not starve another.
//! - One of the slots is never given to retries and backfill: a live file need not wait for the end of a long one of
//!   another lane.

use std::collections::BTreeMap;
use std::time::Instant;

use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::Lane;

use crate::job::Job;

/// One in this many starts of a client tries its lanes in reverse order.
const REVERSE_EVERY: u64 = 4;

/// The bounds that hold over all clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Work units that may run at the same time; as many ends (finish or hold) may run beside them.
    pub(crate) units_in_parallel: usize,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start { client: ClientId, ingestion: IngestionId, unit: usize },
    Finish { client: ClientId, ingestion: IngestionId },
    Hold { client: ClientId, ingestion: IngestionId },
}

/// How often each client has been given a slot, and when last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served {
    clients: BTreeMap<ClientId, Turns>,
    turn: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Turns {
    starts: u64,
    last: u64,
}

impl Served {
    fn of(&self, client: &ClientId) -> Turns {
        self.clients.get(client).copied().unwrap_or_default()
    }

    fn start(&mut self, client: &ClientId) {
        self.turn += 1;
        let turns = self.clients.entry(client.clone()).or_default();
        *turns = Turns { starts: turns.starts + 1, last: self.turn };
    }
}

/// Returns the next actions; none if nothing can be started before something ends or a back-off is over.
///
/// The caller passes the same `served` to every call.
pub(crate) fn plan<'a>(
    jobs: impl Iterator<Item = (&'a ClientId, &'a Job)> + Clone,
    policy: Policy,
    served: &mut Served,
    now: Instant,
) -> Vec<Action> {
    let mut actions = ends(jobs.clone(), policy, now);
    let mut load = Load::of(jobs.clone());
    if load.all >= policy.units_in_parallel {
        return actions;
    }
    let mut waiting = waiting(jobs, &load, policy, now);
    while let Some((client, lane)) = next(&waiting, &load, policy, served) {
        let Some(queue) = waiting.get_mut(client) else { break };
        let Some(position) =
            queue[lane].iter().position(|candidate| load.has_capacity_for(client, candidate.job))
        else {
            break;
        };
        let Candidate { job, unit } = queue[lane].remove(position);
        load.add(client, job, 1);
        served.start(client);
        actions.push(Action::Start { client: client.clone(), ingestion: job.ingestion, unit });
    }
    actions
}

fn ends<'a>(
    jobs: impl Iterator<Item = (&'a ClientId, &'a Job)> + Clone,
    policy: Policy,
    now: Instant,
) -> Vec<Action> {
    let ending = jobs.clone().filter(|(_, job)| job.is_ending()).count();
    let action = |(client, job): (&ClientId, &Job)| {
        let (client, ingestion) = (client.clone(), job.ingestion);
        if job.may_finish(now) {
            Some(Action::Finish { client, ingestion })
        } else if job.may_hold(now) {
            Some(Action::Hold { client, ingestion })
        } else {
            None
        }
    };
    jobs.filter_map(action).take(policy.units_in_parallel.saturating_sub(ending)).collect()
}

/// Returns the oldest startable units of each client and lane, at most as many as there are free slots.
///
/// Units of an app that has no capacity are left out, so that they do not take the position of others.
fn waiting<'a>(
    jobs: impl Iterator<Item = (&'a ClientId, &'a Job)>,
    load: &Load<'a>,
    policy: Policy,
    now: Instant,
) -> BTreeMap<&'a ClientId, [Vec<Candidate<'a>>; LANES]> {
    let free = policy.units_in_parallel.saturating_sub(load.all);
    let mut waiting: BTreeMap<&ClientId, [Vec<Candidate>; LANES]> = BTreeMap::new();
    for (client, job) in jobs.filter(|(client, job)| load.has_capacity_for(client, job)) {
        for unit in job.startable(now).take(free) {
            let queue = &mut waiting.entry(client).or_default()[lane_index(job.lane)];
            let candidate = Candidate { job, unit };
            let position = queue.partition_point(|other| other.age() < candidate.age());
            if position < free {
                queue.insert(position, candidate);
                queue.truncate(free);
            }
        }
    }
    waiting
}

/// Returns the client that gets the next slot, and the lane.
fn next<'a>(
    waiting: &BTreeMap<&'a ClientId, [Vec<Candidate<'a>>; LANES]>,
    load: &Load<'a>,
    policy: Policy,
    served: &Served,
) -> Option<(&'a ClientId, usize)> {
    if load.all >= policy.units_in_parallel {
        return None;
    }
    let lane_of = |client: &'a ClientId, queues: &[Vec<Candidate<'a>>; LANES]| {
        let mut lanes: [usize; LANES] = std::array::from_fn(|lane| lane);
        if served.of(client).starts % REVERSE_EVERY == REVERSE_EVERY - 1 {
            lanes.reverse();
        }
        lanes.into_iter().find(|lane| {
            (*lane == LIVE || load.may_start_not_live(policy))
                && queues[*lane].iter().any(|candidate| load.has_capacity_for(client, candidate.job))
        })
    };
    let startable = waiting.iter().filter_map(|(client, queues)| Some((*client, lane_of(client, queues)?)));
    startable.min_by_key(|(client, _)| (load.clients.get(client).copied(), served.of(client).last))
}

const LANES: usize = 3;
const LIVE: usize = 0;

fn lane_index(lane: Lane) -> usize {
    match lane {
        Lane::Live => LIVE,
        Lane::Retry => 1,
        Lane::Backfill => 2,
    }
}

/// A unit that may be started.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    job: &'a Job,
    unit: usize,
}

impl Candidate<'_> {
    fn age(&self) -> (jiff::Timestamp, IngestionId, usize) {
        (self.job.staged_at, self.job.ingestion, self.unit)
    }
}

/// How many units run.
#[derive(Debug, Default)]
struct Load<'a> {
    all: usize,
    /// Those of them that are in the lanes retry and backfill.
    not_live: usize,
    clients: BTreeMap<&'a ClientId, usize>,
    apps: BTreeMap<(&'a ClientId, &'a str), usize>,
}

impl<'a> Load<'a> {
    fn of(jobs: impl Iterator<Item = (&'a ClientId, &'a Job)>) -> Self {
        let mut load = Self::default();
        for (client, job) in jobs {
            let running = job.running();
            if running > 0 {
                load.add(client, job, running);
            }
        }
        load
    }

    fn add(&mut self, client: &'a ClientId, job: &'a Job, count: usize) {
        self.all += count;
        if job.lane != Lane::Live {
            self.not_live += count;
        }
        *self.clients.entry(client).or_default() += count;
        *self.apps.entry((client, &job.app)).or_default() += count;
    }

    fn has_capacity_for(&self, client: &ClientId, job: &Job) -> bool {
        self.apps.get(&(client, job.app.as_str())).copied().unwrap_or_default() < job.concurrency
    }

    /// A single slot is for all lanes.
    fn may_start_not_live(&self, policy: Policy) -> bool {
        self.not_live + 1 < policy.units_in_parallel || policy.units_in_parallel == 1
    }
}

#[cfg(test)]
mod tests;
