use mysimbdp_model::reason::ReasonCode;
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::job::Stage;

fn client(name: &str) -> ClientId {
    name.parse().expect("client id")
}

fn ingestion(number: u64) -> IngestionId {
    format!("{number:032x}").parse().expect("ingestion id")
}

/// Returns a job of `units` units, staged in the second `number`.
fn job(number: u64, units: usize) -> Job {
    Job {
        ingestion: ingestion(number),
        lane: Lane::Live,
        staged_at: Timestamp::from_second(number as i64).expect("in range"),
        app: "app".to_owned(),
        concurrency: 64,
        ordered: false,
        joins: false,
        stage: Job::stage_of(units, &BTreeSet::new()),
    }
}

/// Carries actions out as soon as they are planned, and ends units when the test says so.
#[derive(Debug)]
struct Fixture {
    jobs: Vec<(ClientId, Job)>,
    policy: Policy,
    served: Served,
    now: Instant,
}

impl Fixture {
    fn new(units_in_parallel: usize, jobs: Vec<(&str, Job)>) -> Self {
        let jobs = jobs.into_iter().map(|(name, job)| (client(name), job)).collect();
        Self { jobs, policy: Policy { units_in_parallel }, served: Served::default(), now: Instant::now() }
    }

    /// Plans and carries out until there is nothing to start; returns what was started, as client, job and unit.
    fn step(&mut self) -> Vec<(String, u64, usize)> {
        let mut started = Vec::new();
        loop {
            let jobs = self.jobs.iter().map(|(client, job)| (client, job));
            let actions = plan(jobs, self.policy, &mut self.served, self.now);
            if actions.is_empty() {
                return started;
            }
            for action in actions {
                match action {
                    Action::Start { client, ingestion, unit } => {
                        self.job(ingestion).start(unit);
                        let number = u64::from_str_radix(&ingestion.to_string()[16..], 16).expect("a number");
                        started.push((client.to_string(), number, unit));
                    }
                    Action::Finish { ingestion, .. } => self.job(ingestion).begin_finish(),
                    Action::Hold { ingestion, .. } => {
                        self.job(ingestion).begin_hold();
                    }
                }
            }
        }
    }

    fn job(&mut self, ingestion: IngestionId) -> &mut Job {
        &mut self
            .jobs
            .iter_mut()
            .find(|(_, job)| job.ingestion == ingestion)
            .expect("planned for a known job")
            .1
    }

    fn done(&mut self, number: u64, unit: usize) {
        self.job(ingestion(number)).mark_done(unit);
    }

    fn running(&self) -> usize {
        self.jobs.iter().map(|(_, job)| job.running()).sum()
    }
}

#[test]
fn a_late_client_gets_the_next_free_slot() {
    let mut fixture = Fixture::new(2, vec![("flood", job(1, 10)), ("flood", job(2, 10))]);
    assert_eq!(fixture.step(), [("flood".to_owned(), 1, 0), ("flood".to_owned(), 1, 1)]);
    fixture.jobs.push((client("late"), job(9, 1)));
    assert_eq!(fixture.step(), []);
    fixture.done(1, 0);
    assert_eq!(fixture.step(), [("late".to_owned(), 9, 0)]);
}

#[test]
fn clients_take_turns() {
    let mut fixture = Fixture::new(1, vec![("a", job(1, 3)), ("b", job(2, 3)), ("c", job(3, 3))]);
    let mut order = String::new();
    loop {
        let started = fixture.step();
        let [(name, number, unit)] = started.as_slice() else { break };
        order.push_str(name);
        fixture.done(*number, *unit);
    }
    assert_eq!(order, "abcabcabc");
}

#[test]
fn a_file_goes_before_a_younger_one_of_its_lane() {
    let mut fixture = Fixture::new(2, vec![("a", job(5, 1)), ("a", job(3, 2))]);
    assert_eq!(fixture.step(), [("a".to_owned(), 3, 0), ("a".to_owned(), 3, 1)]);
}

#[test]
fn an_app_runs_no_more_units_than_its_concurrency_and_blocks_no_other() {
    let narrow = |number| Job { concurrency: 1, ..job(number, 9) };
    let other = Job { app: "other".to_owned(), ..job(9, 1) };
    let mut fixture = Fixture::new(4, vec![("a", narrow(1)), ("a", narrow(2)), ("a", other)]);
    assert_eq!(fixture.step(), [("a".to_owned(), 1, 0), ("a".to_owned(), 9, 0)]);
}

#[test]
fn one_slot_is_never_given_to_backfill() {
    let backfill = Job { lane: Lane::Backfill, ..job(1, 10) };
    let mut fixture = Fixture::new(3, vec![("a", backfill)]);
    assert_eq!(fixture.step().len(), 2);
    fixture.jobs.push((client("b"), job(2, 1)));
    assert_eq!(fixture.step(), [("b".to_owned(), 2, 0)]);
    let mut single = Fixture::new(1, vec![("a", Job { lane: Lane::Backfill, ..job(1, 1) })]);
    assert_eq!(single.step().len(), 1, "a single slot is for all lanes");
}

#[test]
fn no_lane_starves_another() {
    let backfill = Job { lane: Lane::Backfill, ..job(1, 2) };
    let retry = Job { lane: Lane::Retry, ..job(2, 2) };
    let mut fixture = Fixture::new(1, vec![("a", backfill), ("a", retry), ("a", job(3, 10))]);
    let mut order = Vec::new();
    loop {
        let started = fixture.step();
        let [(_, number, unit)] = started.as_slice() else { break };
        order.push(*number);
        fixture.done(*number, *unit);
    }
    assert_eq!(order, [3, 3, 3, 1, 3, 3, 3, 1, 3, 3, 3, 2, 3, 2]);
}

#[test]
fn an_ordered_job_runs_one_unit_after_the_other() {
    let mut fixture = Fixture::new(4, vec![("a", Job { ordered: true, ..job(1, 3) })]);
    for unit in 0..3 {
        assert_eq!(fixture.step(), [("a".to_owned(), 1, unit)]);
        fixture.done(1, unit);
    }
    fixture.step();
    assert!(fixture.jobs[0].1.is_ending());
}

#[test]
fn the_joining_unit_waits_for_all_others() {
    let mut fixture = Fixture::new(4, vec![("a", Job { joins: true, ..job(1, 3) })]);
    assert_eq!(fixture.step(), [("a".to_owned(), 1, 0), ("a".to_owned(), 1, 1)]);
    fixture.done(1, 1);
    assert_eq!(fixture.step(), []);
    fixture.done(1, 0);
    assert_eq!(fixture.step(), [("a".to_owned(), 1, 2)]);
}

#[test]
fn a_failed_unit_waits_for_its_back_off_and_others_continue() {
    let mut fixture = Fixture::new(1, vec![("a", job(1, 2))]);
    fixture.step();
    let until = fixture.now + Duration::from_secs(5);
    fixture.job(ingestion(1)).retry_unit(0, |tries| {
        assert_eq!(tries, 1);
        until
    });
    assert_eq!(fixture.step(), [("a".to_owned(), 1, 1)]);
    fixture.done(1, 1);
    assert_eq!(fixture.step(), []);
    assert_eq!(fixture.jobs[0].1.wakes_at(fixture.now), Some(until));
    fixture.now = until;
    assert_eq!(fixture.step(), [("a".to_owned(), 1, 0)]);
    fixture.job(ingestion(1)).retry_unit(0, |tries| {
        assert_eq!(tries, 2);
        until
    });
}

#[test]
fn a_job_that_is_given_up_is_held_when_its_last_unit_has_ended() {
    let mut fixture = Fixture::new(2, vec![("a", job(1, 5))]);
    fixture.step();
    fixture.job(ingestion(1)).give_up(Some(0), ReasonCode::DataRefused.because("bad"));
    assert_eq!(fixture.step(), [], "nothing more of it is started");
    fixture.done(1, 1);
    fixture.step();
    assert!(
        matches!(&fixture.jobs[0].1.stage, Stage::Holding { reasons, .. } if reasons == &[ReasonCode::DataRefused.because("bad")])
    );
    let now = fixture.now;
    fixture.job(ingestion(1)).retry_end(|_| now + Duration::from_secs(1));
    assert_eq!(
        fixture.jobs[0].1.wakes_at(now),
        Some(now + Duration::from_secs(1)),
        "a failed hold is tried again"
    );
}

#[test]
fn a_job_without_units_is_finished_at_once() {
    let mut fixture = Fixture::new(1, vec![("a", job(1, 0))]);
    fixture.step();
    assert!(matches!(fixture.jobs[0].1.stage, Stage::Finishing { .. }));
}

fn any_job(number: u64) -> impl Strategy<Value = (usize, Job)> {
    let lanes = prop::sample::select(vec![Lane::Live, Lane::Retry, Lane::Backfill]);
    (0..3usize, lanes, 0..6usize, 1..4usize, any::<bool>(), any::<bool>(), 0..2usize).prop_map(
        move |(tenant, lane, units, concurrency, ordered, joins, app)| {
            // All jobs of an app have the same concurrency.
            let (app, concurrency) = (format!("app{app}"), 1 + (concurrency + app) % 3);
            (tenant, Job { lane, app, concurrency, ordered, joins, ..job(number, units) })
        },
    )
}

proptest! {
    /// In whatever order units end and however often they fail: bounds hold after every step, and all jobs are
    /// finished.
    #[test]
    fn bounds_hold_and_every_unit_starts(
        jobs in (1..8u64).prop_flat_map(|count| (0..count).map(any_job).collect::<Vec<_>>()),
        slots in 1..5usize,
        mut chance in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let names = ["a", "b", "c"];
        let mut fixture = Fixture::new(slots, jobs.into_iter().map(|(tenant, job)| (names[tenant], job)).collect());
        let mut running: Vec<(u64, usize)> = Vec::new();
        let units: usize = fixture.jobs.iter().map(|(_, job)| job.unit_count()).sum();
        let mut done = 0;
        for _ in 0..(units * 3 + chance.len() + 10) {
            running.extend(fixture.step().into_iter().map(|(_, number, unit)| (number, unit)));
            prop_assert!(fixture.running() == running.len() && running.len() <= slots);
            for (client, job) in &fixture.jobs {
                let same_app = fixture.jobs.iter().filter(|(other, of)| other == client && of.app == job.app);
                let (most, sum) = same_app.fold((0, 0), |(most, sum), (_, of)| {
                    (of.concurrency.max(most), sum + of.running())
                });
                prop_assert!(sum <= most);
                prop_assert!(!job.ordered || job.running() <= 1);
            }
            let draw = chance.pop();
            if running.is_empty() { break }
            let (number, unit) = running.remove(usize::from(draw.unwrap_or(0)) % running.len());
            if draw.is_some_and(|draw| draw % 3 == 0) {
                let now = fixture.now;
                fixture.job(ingestion(number)).retry_unit(unit, |_| now);
            } else {
                fixture.done(number, unit);
                done += 1;
            }
        }
        prop_assert_eq!(done, units);
        prop_assert!(fixture.jobs.iter().all(|(_, job)| !matches!(job.stage, Stage::Units(_))));
    }
}

impl Job {
    fn unit_count(&self) -> usize {
        if let Stage::Units(units) = &self.stage { units.len() } else { 0 }
    }
}
