use std::collections::BTreeSet;

use mysimbdp_model::message::VERSION;
use proptest::prelude::*;

use super::*;

const RESEND_AFTER: Duration = Duration::from_secs(10);
const WINDOW: usize = 8;
const POLICY: Policy = Policy { window: WINDOW, resend_after: RESEND_AFTER };
const NONE: [u64; 0] = [];

/// A scheduler whose every number goes to a platform, or is lost on its way.
struct World {
    scheduler: ResendScheduler,
    now: Instant,
    stored: BTreeSet<u64>,
    accepted: u64,
}

impl World {
    fn new(accepted: u64) -> Self {
        let now = Instant::now();
        let mut world = Self {
            scheduler: ResendScheduler::new(POLICY, 1, 0, now),
            now,
            stored: BTreeSet::new(),
            accepted: 0,
        };
        world.accept(accepted);
        world
    }

    fn accept(&mut self, more: u64) {
        self.accepted += more;
        self.scheduler.accept(self.accepted);
    }

    /// Sends what is to be sent now; the broker acknowledges all of it. Returns the numbers.
    fn send(&mut self) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some((first, last)) = self.scheduler.take(self.now, 3) {
            assert!(first <= last && last - first < 3, "{first} to {last}");
            sent.extend(first..=last);
            (first..=last).for_each(|number| self.scheduler.sent(number, self.now));
        }
        assert!(sent.iter().all(|number| (1..=self.accepted).contains(number)), "{sent:?}");
        assert_eq!(
            sent.iter().collect::<BTreeSet<_>>().len(),
            sent.len(),
            "one is sent twice at once: {sent:?}"
        );
        assert!(
            self.scheduler.waiting.len() <= WINDOW + usize::from(self.scheduler.echo.is_some()),
            "window"
        );
        sent
    }

    fn store(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.stored.extend(numbers);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// What the platform tells: with `asks` also what it misses.
    fn receipt(&self, asks: bool) -> Receipt {
        let stored_through = (1..).find(|number| !self.stored.contains(number)).expect("there is an end") - 1;
        let highest = self.stored.last().copied().unwrap_or(0);
        let (mut stored, mut missing) = (Ranges::default(), Ranges::default());
        for number in stored_through + 1..=highest {
            let ranges = if self.stored.contains(&number) { &mut stored } else { &mut missing };
            ranges.insert(number, number);
        }
        let missing = if asks { missing.iter().collect() } else { Vec::new() };
        let stored = stored.iter().collect();
        let (client_id, source) = ("a".parse().expect("client id"), "s".parse().expect("source name"));
        let seen = Some(highest);
        Receipt { version: VERSION, client_id, source, epoch: 1, stored_through, stored, missing, seen }
    }

    fn hear(&mut self, asks: bool) {
        let receipt = self.receipt(asks);
        assert_eq!(self.scheduler.receipt(&receipt, self.now), None);
    }
}

#[test]
fn numbers_are_sent_in_order_within_the_window_and_the_brokers_acknowledgement_confirms_nothing() {
    let mut world = World::new(20);
    assert_eq!(world.send(), (1..=8).collect::<Vec<_>>());
    assert_eq!((world.send(), world.scheduler.received_through()), (vec![], 0));
    world.store([1, 2, 5]);
    world.hear(false);
    assert_eq!((world.send(), world.scheduler.received_through()), (vec![9, 10, 11], 2));
}

#[test]
fn of_a_lost_tail_the_last_is_sent_again_and_the_rest_when_it_is_asked_for() {
    let mut world = World::new(4);
    world.send();
    world.store([1]);
    world.hear(true);
    world.pass(9);
    assert_eq!(world.send(), NONE);
    world.pass(1);
    assert_eq!(world.send(), [4]);
    world.store([4]);
    world.hear(true);
    assert_eq!(world.send(), [2, 3]);
}

#[test]
fn what_is_asked_for_is_sent_at_once_but_not_again_before_it_can_have_arrived() {
    let mut world = World::new(8);
    world.send();
    world.store([1, 2, 5, 8]);
    world.pass(2);
    world.hear(true);
    assert_eq!(world.send(), [3, 4, 6, 7]);
    world.pass(9);
    world.store([3]);
    world.hear(true);
    assert_eq!(world.send(), NONE);
    world.pass(1);
    assert_eq!(world.send(), [4, 6, 7], "it was asked for, and need not be asked for once more");
}

#[test]
fn while_nothing_is_heard_the_last_number_alone_is_sent_ever_more_seldom() {
    let mut world = World::new(8);
    world.send();
    let mut sent = Vec::new();
    for _ in 0..160 {
        world.pass(1);
        sent.extend(world.send());
    }
    assert_eq!(sent, [8, 8, 8, 8], "after 10, 30, 70 and 150 s");
    world.store([8]);
    world.hear(true);
    assert_eq!(world.send(), (1..=7).collect::<Vec<_>>(), "all that is asked for");
}

#[test]
fn a_platform_that_works_through_a_backlog_is_sent_nothing_again() {
    let mut world = World::new(8);
    world.send();
    for number in 1..=6 {
        world.pass(9);
        world.store([number]);
        world.hear(true);
        assert_eq!(world.send(), NONE, "after {number}");
        world.hear(true);
    }
    world.pass(10);
    assert_eq!(world.send(), [8], "a silence");
}

#[test]
fn a_probe_is_none_of_what_is_missing() {
    let mut world = World::new(8);
    world.send();
    world.store([1, 6, 8]);
    world.hear(false);
    for after in [10, 20, 40] {
        world.pass(after);
        assert_eq!(world.send(), [8], "it would count as come by itself, and nobody would ask for the rest");
        world.hear(false);
    }
    world.hear(true);
    assert_eq!(world.send(), [2, 3, 4, 5, 7]);
    world.store(2..=7);
    world.hear(true);
    world.pass(100);
    assert_eq!(world.send(), NONE);
}

#[test]
fn receipts_that_say_nothing_new_bring_nothing_about() {
    let mut world = World::new(8);
    world.send();
    world.store([1]);
    let mut sent = Vec::new();
    for _ in 0..100 {
        world.pass(1);
        world.hear(true);
        sent.extend(world.send());
    }
    assert_eq!(sent, [8, 8, 8], "silence is silence, however many receipts come");
}

#[test]
fn a_new_connection_asks_soon_how_far_the_platform_is() {
    let mut world = World::new(8);
    world.send();
    world.pass(3);
    world.scheduler.connected(world.now);
    assert_eq!(world.send(), NONE);
    world.pass(1);
    assert_eq!(world.send(), [8]);
    world.pass(2);
    assert_eq!(world.send(), [8], "perhaps nobody was there to hear it");
    world.store([8]);
    world.hear(true);
    assert_eq!(world.send(), (1..=7).collect::<Vec<_>>());
}

#[test]
fn what_is_asked_for_again_and_again_is_sent_as_a_share_of_what_is_received() {
    let mut world = World::new(8);
    world.send();
    world.store([8]);
    let mut sent = 0;
    for _ in 0..100 {
        world.pass(20);
        world.hear(true);
        sent += world.send().len();
    }
    assert!((WINDOW..WINDOW + 30).contains(&sent), "a window and what ever rarer silences allow, not {sent}");
    world.store(1..=6);
    world.hear(true);
    world.accept(2);
    world.pass(20);
    world.hear(true);
    assert!(world.send().contains(&7), "what is received allows more");
}

#[test]
fn what_was_confirmed_and_is_asked_for_is_sent_once_more() {
    let mut world = World::new(8);
    world.send();
    world.store(1..=8);
    world.hear(true);
    assert_eq!(world.scheduler.received_through(), 8);
    let all = std::mem::replace(&mut world.stored, BTreeSet::from([1, 7]));
    world.hear(true);
    assert_eq!(world.send(), NONE, "perhaps an older receipt that comes late");
    world.stored = all;
    world.hear(true);
    world.pass(60);
    assert_eq!(world.send(), NONE);

    world.stored = BTreeSet::from([1, 7]);
    world.hear(true);
    world.pass(2);
    assert_eq!(
        world.send(),
        [2, 3, 4, 5, 6],
        "8 is found by nobody: the platform does not know that there was one"
    );
    world.hear(true);
    assert_eq!(world.send(), NONE);
    world.store(2..=6);
    world.hear(true);
    world.pass(60);
    assert_eq!(world.send(), NONE);
}

#[test]
fn numbers_that_were_never_sent_are_not_believed_to_be_received() {
    let mut world = World::new(0);
    world.accept(20);
    assert_eq!(world.send(), (1..=8).collect::<Vec<_>>());
    world.store(1..=10);
    world.store([15, 1_000_000]);
    let told = world.scheduler.receipt(&world.receipt(true), world.now);
    assert_eq!((told, world.scheduler.received_through()), (Some(1_000_000), 8));
    assert_eq!(
        world.send(),
        (9..=16).collect::<Vec<_>>(),
        "in their turn, though somebody has taken their numbers"
    );
}

#[test]
fn a_run_that_was_not_acknowledged_is_sent_before_what_is_new() {
    let mut world = World::new(6);
    assert_eq!(world.scheduler.take(world.now, 3), Some((1, 3)));
    for number in [3, 1, 2] {
        world.scheduler.failed(number);
    }
    assert_eq!(world.send(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn after_a_start_what_may_have_been_sent_is_asked_about_and_what_cannot_have_been_is_sent() {
    let mut world = World::new(0);
    // Five are received, as far as the outbox knows; an earlier process may have sent 6 to 13.
    (world.scheduler, world.accepted) = (ResendScheduler::new(POLICY, 6, 30, world.now), 30);
    world.store(1..=6);
    world.scheduler.connected(world.now);
    assert_eq!(world.send(), NONE);
    world.pass(1);
    assert_eq!(world.send(), [13]);
    world.store([13]);
    // It has seen 13, so 21 was its highest, if there was no other receipt.
    world.hear(false);
    assert_eq!(world.send(), NONE, "14 and 15 may have been sent too");
    world.pass(2);
    world.hear(true);
    assert_eq!(world.send(), (7..=12).collect::<Vec<_>>());
    world.store(7..=21);
    world.hear(true);
    assert_eq!(world.send(), (22..=29).collect::<Vec<_>>());
}

#[derive(Clone, Debug)]
struct Step {
    accept: u64,
    seconds: u64,
    /// Which of the messages sent now are lost, by their order.
    lost: u8,
    hear: bool,
    asks: bool,
    connected: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let bools = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1));
    (0u64..6, 0u64..25, any::<u8>(), bools).prop_map(|(accept, seconds, lost, (hear, asks, connected))| {
        Step { accept, seconds, lost, hear, asks, connected }
    })
}

/// Goes through the steps; with a new connection nothing is lost any more, all is received within 30 s, and then nothing
/// more is sent.
fn recover_soon_after(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = World::new(0);
    for Step { accept, seconds, lost, hear, asks, connected } in steps {
        world.accept(accept);
        world.pass(seconds);
        if connected {
            world.scheduler.connected(world.now);
        }
        let sent = world.send();
        let arrived = sent.into_iter().enumerate().filter(|(index, _)| lost >> (index % 8) & 1 == 0);
        world.store(arrived.map(|(_, number)| number).collect::<Vec<_>>());
        if hear {
            world.hear(asks);
        }
        prop_assert!(world.scheduler.received_through() <= world.accepted);
    }
    world.scheduler.connected(world.now);
    let mut seconds = 0;
    while world.scheduler.received_through() < world.accepted {
        prop_assert!(seconds <= 30, "{:?}", world.scheduler);
        world.pass(1);
        seconds += 1;
        // The platform answers each message, new or not, and asks for what it misses.
        loop {
            let sent = world.send();
            if sent.is_empty() {
                break;
            }
            world.store(sent);
            world.hear(true);
        }
    }
    world.pass(1_000);
    prop_assert_eq!(world.send(), NONE);
    Ok(())
}

proptest! {
    /// Whatever is lost on the way there and back.
    #[test]
    fn everything_is_received_soon_after_losses_end(steps in prop::collection::vec(step(), 0..40)) {
        recover_soon_after(steps)?;
    }
}

#[test]
fn the_last_number_does_not_wait_twice_as_long_again_when_those_before_it_are_asked_for() {
    let step = |accept, seconds, lost, hears| Step {
        accept,
        seconds,
        lost,
        hear: hears,
        asks: hears,
        connected: false,
    };
    // 8 is lost twice, and nobody knows that there is one.
    let steps = [
        step(1, 0, 0, false),
        step(4, 0, 7, false),
        step(3, 10, 138, true),
        step(0, 2, 10, false),
        step(0, 8, 127, false),
    ];
    recover_soon_after(steps.into()).expect("received within 30 s");
}
