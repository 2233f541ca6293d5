//! A model of the whole system: numbered sources, a broker with a queue for each of two instances, and a store that both write
//! to. Time is simulated; what an edge sends and what the platform asks for is decided by the production code.
//!
//! Everything may be slow, lossy and restarted. Once the faults are over, the backlog drains at [`GOODPUT_SHARE`] of the
//! instances' capacity, whatever has happened before; and less than half of the messages that they process are repeats.

use std::collections::VecDeque;

use mysimbdp_model::source::Source;
use mysimbdp_store::gaps::Gaps;
use mysimbdp_store::sequences::Progress;
use proptest::prelude::*;

use super::*;

const TICK: Duration = Duration::from_millis(50);
const SOURCES: usize = 3;
const MESSAGES: u64 = 2_500;
const POLICY: ResendPolicy = ResendPolicy { window: 750, resend_after: Duration::from_secs(10) };
/// How many messages an edge can publish in a tick.
const PUBLISHED_PER_TICK: usize = 64;
const BATCH: usize = 100;
/// The duration of a batch if store and network are fast. Processing the windows of all edges together takes longer than an edge
/// waits for something new: from there on a backlog could sustain itself.
const BATCH_TICKS: u32 = 20;

/// The share of their capacity that the instances use for new messages.
const GOODPUT_SHARE: f64 = 1.0 / 3.0;
/// How long it takes to notice that the faults are over, in addition to twice the gap delay.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The instance does nothing for the given seconds, and then continues.
    Hangs(usize, u64),
    /// The instance ends, and its slot is filled again the given seconds later; unacknowledged messages are delivered again.
    Dies(usize, u64),
    /// The instance stores a batch, and ends before it acknowledges it.
    DiesAfterStoring(usize),
    /// Batches take ten times as long, for the given seconds.
    StoreIsSlow(u64),
    /// The broker is unavailable for the given seconds, and has lost everything.
    BrokerForgets(u64),
    /// The edge is killed, and restarted at once.
    EdgeDies(usize),
}

#[derive(Clone, Debug)]
struct Scenario {
    /// How many seconds the instances start after their sessions exist.
    late: u64,
    /// How much longer a batch takes because of the round trip to the store.
    latency_ticks: u32,
    /// How many messages the broker keeps for a session; the oldest are dropped first.
    queued_max: usize,
    /// How long a number must be missing before it is requested. The edges do not know this time.
    gap_delay: Duration,
    /// The faults and their times in seconds.
    faults: Vec<(u64, Fault)>,
}

#[derive(Debug)]
struct Edge {
    scheduler: ResendScheduler,
    retained: Option<Receipt>,
    inbox: VecDeque<Receipt>,
    is_connected: bool,
}

#[derive(Debug)]
struct Instance {
    unavailable_until: Instant,
    queue: VecDeque<(usize, u64)>,
    batch: Option<(Instant, Vec<(usize, u64)>)>,
    gaps: Vec<Gaps>,
}

struct Simulation {
    scenario: Scenario,
    start: Instant,
    now: Instant,
    edges: Vec<Edge>,
    instances: [Instance; 2],
    next_instance: usize,
    broker_unavailable_until: Instant,
    slow_until: Instant,
    stored: Vec<Ranges>,
    /// How many messages the instances have processed, including repeats.
    processed: u64,
}

impl Simulation {
    fn new(scenario: Scenario) -> Self {
        let start = Instant::now();
        let edge = || {
            let mut scheduler = ResendScheduler::new(POLICY, 1, 0, start);
            scheduler.accept(MESSAGES);
            Edge { scheduler, retained: None, inbox: VecDeque::new(), is_connected: false }
        };
        let instance = || Instance {
            unavailable_until: start + Duration::from_secs(scenario.late),
            queue: VecDeque::new(),
            batch: None,
            gaps: (0..SOURCES).map(|_| Gaps::default()).collect(),
        };
        Self {
            edges: (0..SOURCES).map(|_| edge()).collect(),
            instances: [instance(), instance()],
            scenario,
            start,
            now: start,
            next_instance: 0,
            broker_unavailable_until: start,
            slow_until: start,
            stored: vec![Ranges::default(); SOURCES],
            processed: 0,
        }
    }

    fn stored(&self) -> u64 {
        self.stored.iter().map(Ranges::count).sum()
    }

    fn has_broker(&self) -> bool {
        self.now >= self.broker_unavailable_until
    }

    fn tick(&mut self) {
        self.now += TICK;
        let second = (self.now - self.start).as_secs_f64();
        while let Some((_, fault)) = self.scenario.faults.pop_if(|(at, _)| *at as f64 <= second) {
            self.inject(fault);
        }
        if self.has_broker() {
            (0..SOURCES).for_each(|source| self.publish(source));
        }
        (0..2).for_each(|instance| self.work(instance));
    }

    fn inject(&mut self, fault: Fault) {
        let later = |seconds| self.now + Duration::from_secs(seconds);
        match fault {
            Fault::Hangs(instance, seconds) => {
                let until = later(seconds);
                let instance = &mut self.instances[instance];
                instance.unavailable_until = instance.unavailable_until.max(until);
            }
            Fault::Dies(instance, seconds) => {
                let until = later(seconds);
                self.instances[instance].end(until);
            }
            Fault::DiesAfterStoring(instance) => {
                let until = later(1);
                let batch = self.instances[instance].batch.iter().flat_map(|(_, batch)| batch.clone());
                let batch: Vec<_> = batch.collect();
                self.store(&batch);
                self.instances[instance].end(until);
            }
            Fault::StoreIsSlow(seconds) => self.slow_until = self.slow_until.max(later(seconds)),
            Fault::BrokerForgets(seconds) => {
                self.broker_unavailable_until = self.broker_unavailable_until.max(later(seconds));
                self.instances.iter_mut().for_each(|instance| instance.queue.clear());
                self.edges.iter_mut().for_each(|edge| edge.is_connected = false);
            }
            Fault::EdgeDies(source) => {
                let edge = &mut self.edges[source];
                let oldest = edge.scheduler.received_through() + 1;
                edge.scheduler = ResendScheduler::new(POLICY, oldest, MESSAGES, self.now);
                (edge.is_connected, edge.inbox) = (false, VecDeque::new());
            }
        }
    }

    /// Runs an edge for one tick.
    fn publish(&mut self, source: usize) {
        let (now, queued_max) = (self.now, self.scenario.queued_max);
        let edge = &mut self.edges[source];
        if !std::mem::replace(&mut edge.is_connected, true) {
            edge.scheduler.connected(now);
            edge.inbox.extend(edge.retained.clone());
        }
        for receipt in edge.inbox.drain(..) {
            edge.scheduler.apply_receipt(&receipt, now);
        }
        let mut capacity = PUBLISHED_PER_TICK;
        while let Some((first, last)) = edge.scheduler.take(now, capacity) {
            for number in first..=last {
                edge.scheduler.sent(number, now);
                self.next_instance = (self.next_instance + 1) % 2;
                let queue = &mut self.instances[self.next_instance].queue;
                queue.push_back((source, number));
                if queue.len() > queued_max {
                    queue.pop_front();
                }
            }
            capacity -= (last - first + 1) as usize;
        }
    }

    /// Runs an instance for one tick.
    fn work(&mut self, index: usize) {
        let (now, slow) = (self.now, if self.now < self.slow_until { 10 } else { 1 });
        if now < self.instances[index].unavailable_until {
            return;
        }
        let mut has_news = [false; SOURCES];
        if let Some((_, batch)) = self.instances[index].batch.take_if(|(done_at, _)| *done_at <= now) {
            self.store(&batch);
            batch.iter().for_each(|(source, _)| has_news[*source] = true);
        }
        for (source, has_news) in has_news.into_iter().enumerate() {
            let due_at = self.instances[index].gaps[source].next_check_at(self.scenario.gap_delay);
            if has_news || due_at.is_some_and(|due_at| due_at <= now) {
                self.publish_receipt(index, source);
            }
        }
        let has_broker = self.has_broker();
        let instance = &mut self.instances[index];
        if instance.batch.is_none() && has_broker && !instance.queue.is_empty() {
            let count = instance.queue.len().min(BATCH);
            let done_at = now + TICK * slow * (BATCH_TICKS + self.scenario.latency_ticks);
            instance.batch = Some((done_at, instance.queue.drain(..count).collect()));
        }
    }

    fn store(&mut self, batch: &[(usize, u64)]) {
        self.processed += batch.len() as u64;
        batch.iter().for_each(|(source, number)| self.stored[*source].insert(*number, *number));
    }

    /// Publishes a receipt.
    fn publish_receipt(&mut self, index: usize, source: usize) {
        let progress = Progress::of(0, self.stored[source].clone());
        let missing =
            self.instances[index].gaps[source].overdue(&progress, self.scenario.gap_delay, self.now);
        let numbered_source = Source { name: "s".parse().expect("source name"), epoch: 1 };
        let receipt = progress.receipt("a".parse().expect("client id"), &numbered_source, &missing);
        if self.has_broker() {
            let edge = &mut self.edges[source];
            edge.retained = Some(receipt.clone());
            edge.inbox.extend(edge.is_connected.then_some(receipt));
        }
    }
}

impl Instance {
    /// Ends the instance. Its unacknowledged messages are delivered again first.
    fn end(&mut self, until: Instant) {
        for message in self.batch.take().into_iter().flat_map(|(_, batch)| batch).rev() {
            self.queue.push_front(message);
        }
        self.gaps.iter_mut().for_each(|gaps| *gaps = Gaps::default());
        self.unavailable_until = self.unavailable_until.max(until);
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    let instance = 0usize..2;
    prop_oneof![
        (instance.clone(), 1u64..30).prop_map(|(instance, seconds)| Fault::Hangs(instance, seconds)),
        (instance.clone(), 1u64..30).prop_map(|(instance, seconds)| Fault::Dies(instance, seconds)),
        instance.prop_map(Fault::DiesAfterStoring),
        (1u64..30).prop_map(Fault::StoreIsSlow),
        (0u64..20).prop_map(Fault::BrokerForgets),
        (0..SOURCES).prop_map(Fault::EdgeDies),
    ]
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let faults = prop::collection::vec((0u64..60, fault()), 0..8);
    let queued_max = prop_oneof![Just(usize::MAX), Just(750usize)];
    let times = (0u64..60, 0u32..4, prop_oneof![Just(2), Just(15)]);
    (times, queued_max, faults).prop_map(|((late, latency_ticks, gap_delay), queued_max, mut faults)| {
        // The earliest fault is the last in the list.
        faults.sort_unstable_by_key(|(at, _)| std::cmp::Reverse(*at));
        let gap_delay = Duration::from_secs(gap_delay);
        Scenario { late, latency_ticks, queued_max, gap_delay, faults }
    })
}

fn faults_end_at(scenario: &Scenario) -> u64 {
    let ends = scenario.faults.iter().map(|(at, fault)| match fault {
        Fault::Hangs(_, seconds) | Fault::Dies(_, seconds) => at + seconds,
        // Batches that began by then take ten times as long at worst.
        Fault::StoreIsSlow(seconds) => at + seconds + 10,
        Fault::BrokerForgets(seconds) => at + seconds,
        Fault::DiesAfterStoring(_) | Fault::EdgeDies(_) => at + 1,
    });
    ends.chain([scenario.late]).max().unwrap_or(0)
}

fn drains(scenario: Scenario) -> Result<(), TestCaseError> {
    let faults_last = Duration::from_secs(faults_end_at(&scenario));
    let per_second = |ticks: u32| 2.0 * BATCH as f64 / (TICK * ticks).as_secs_f64();
    let capacity = per_second(BATCH_TICKS + scenario.latency_ticks);
    let noticed_within = NOTICED_WITHIN + 2 * scenario.gap_delay;
    let mut simulation = Simulation::new(scenario);
    while simulation.now < simulation.start + faults_last {
        simulation.tick();
    }
    let all = SOURCES as u64 * MESSAGES;
    let left = (all - simulation.stored()) as f64;
    let deadline =
        simulation.now + noticed_within + Duration::from_secs_f64(left / (GOODPUT_SHARE * capacity));
    while simulation.stored() < all {
        prop_assert!(
            simulation.now < deadline,
            "stored {} of {all}, {left} of them were left when the cause was removed; processed {}; queues {:?}",
            simulation.stored(),
            simulation.processed,
            [0, 1].map(|instance: usize| simulation.instances[instance].queue.len())
        );
        simulation.tick();
    }
    prop_assert!(simulation.processed < 2 * all, "processed {} for {all} stored", simulation.processed);
    let notified_by = simulation.now + noticed_within;
    while simulation.edges.iter().any(|edge| edge.scheduler.received_through() < MESSAGES) {
        prop_assert!(simulation.now < notified_by, "all is stored, but the edges are not notified");
        simulation.tick();
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_backlog_drains_whatever_has_happened_before(scenario in scenario()) {
        drains(scenario)?;
    }
}

fn late(latency_ticks: u32, faults: Vec<(u64, Fault)>) -> Scenario {
    Scenario { late: 25, latency_ticks, queued_max: usize::MAX, gap_delay: Duration::from_secs(2), faults }
}

/// The first scenario that was found: everything runs except for the instances, which start late.
#[test]
fn a_backlog_of_three_sources_drains_when_the_instances_start_late() {
    for latency_ticks in [0, 3] {
        drains(late(latency_ticks, Vec::new())).expect("it drains");
    }
}

#[test]
fn edges_that_are_killed_before_and_during_the_drain_do_not_lengthen_the_backlog() {
    let killed = |at| (0..SOURCES).map(move |source| (at, Fault::EdgeDies(source)));
    let faults = [40, 30, 10].into_iter().flat_map(killed).collect();
    drains(late(3, faults)).expect("it drains");
}
