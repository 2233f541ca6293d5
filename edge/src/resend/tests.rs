use std::collections::BTreeSet;

use mysimbdp_model::message::VERSION;
use proptest::prelude::*;

use super::*;

const RESEND_AFTER: Duration = Duration::from_secs(10);
const WINDOW: usize = 8;
const POLICY: ResendPolicy = ResendPolicy { window: WINDOW, resend_after: RESEND_AFTER };
const NONE: [u64; 0] = [];

/// A scheduler whose numbers each either reach a platform or are lost on the way.
struct Fixture {
    scheduler: ResendScheduler,
    now: Instant,
    stored: BTreeSet<u64>,
    accepted: u64,
}

impl Fixture {
    fn new(accepted: u64) -> Self {
        let now = Instant::now();
        let mut fixture = Self {
            scheduler: ResendScheduler::new(POLICY, 1, 0, now),
            now,
            stored: BTreeSet::new(),
            accepted: 0,
        };
        fixture.accept(accepted);
        fixture
    }

    fn accept(&mut self, more: u64) {
        self.accepted += more;
        self.scheduler.accept(self.accepted);
    }

    /// Sends the numbers that are due now, all of which the broker acknowledges, and returns them.
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
            "a number is in flight twice: {sent:?}"
        );
        assert!(
            self.scheduler.waiting.len() <= WINDOW + usize::from(self.scheduler.received_probe.is_some()),
            "window"
        );
        sent
    }

    fn store(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.stored.extend(numbers);
    }

    fn advance(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// The platform's receipt; if `asks`, it also names the missing numbers.
    fn receipt(&self, asks: bool) -> Receipt {
        let stored_through =
            (1..).find(|number| !self.stored.contains(number)).expect("a number that is not stored") - 1;
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

    fn apply_receipt(&mut self, asks: bool) {
        let receipt = self.receipt(asks);
        assert_eq!(self.scheduler.apply_receipt(&receipt, self.now), None);
    }
}

#[test]
fn numbers_are_sent_in_order_within_the_window_and_the_brokers_acknowledgement_confirms_nothing() {
    let mut fixture = Fixture::new(20);
    assert_eq!(fixture.send(), (1..=8).collect::<Vec<_>>());
    assert_eq!((fixture.send(), fixture.scheduler.received_through()), (vec![], 0));
    fixture.store([1, 2, 5]);
    fixture.apply_receipt(false);
    assert_eq!((fixture.send(), fixture.scheduler.received_through()), (vec![9, 10, 11], 2));
}

#[test]
fn the_last_of_a_lost_tail_is_sent_again_and_the_others_when_they_are_requested() {
    let mut fixture = Fixture::new(4);
    fixture.send();
    fixture.store([1]);
    fixture.apply_receipt(true);
    fixture.advance(9);
    assert_eq!(fixture.send(), NONE);
    fixture.advance(1);
    assert_eq!(fixture.send(), [4]);
    fixture.store([4]);
    fixture.apply_receipt(true);
    assert_eq!(fixture.send(), [2, 3]);
}

#[test]
fn a_requested_number_is_sent_at_once_but_not_again_before_it_can_have_arrived() {
    let mut fixture = Fixture::new(8);
    fixture.send();
    fixture.store([1, 2, 5, 8]);
    fixture.advance(2);
    fixture.apply_receipt(true);
    assert_eq!(fixture.send(), [3, 4, 6, 7]);
    fixture.advance(9);
    fixture.store([3]);
    fixture.apply_receipt(true);
    assert_eq!(fixture.send(), NONE);
    fixture.advance(1);
    assert_eq!(fixture.send(), [4, 6, 7], "it was requested before, and need not be requested again");
}

#[test]
fn during_a_silence_only_the_last_number_is_sent_at_growing_intervals() {
    let mut fixture = Fixture::new(8);
    fixture.send();
    let mut sent = Vec::new();
    for _ in 0..160 {
        fixture.advance(1);
        sent.extend(fixture.send());
    }
    assert_eq!(sent, [8, 8, 8, 8], "after 10, 30, 70 and 150 s");
    fixture.store([8]);
    fixture.apply_receipt(true);
    assert_eq!(fixture.send(), (1..=7).collect::<Vec<_>>(), "all requested numbers");
}

#[test]
fn nothing_is_resent_to_a_platform_that_works_through_a_backlog() {
    let mut fixture = Fixture::new(8);
    fixture.send();
    for number in 1..=6 {
        fixture.advance(9);
        fixture.store([number]);
        fixture.apply_receipt(true);
        assert_eq!(fixture.send(), NONE, "after {number}");
        fixture.apply_receipt(true);
    }
    fixture.advance(10);
    assert_eq!(fixture.send(), [8], "a silence");
}

#[test]
fn a_probe_is_never_one_of_the_missing_numbers() {
    let mut fixture = Fixture::new(8);
    fixture.send();
    fixture.store([1, 6, 8]);
    fixture.apply_receipt(false);
    for after in [10, 20, 40] {
        fixture.advance(after);
        assert_eq!(
            fixture.send(),
            [8],
            "it would count as arrived by itself, and the others would not be requested"
        );
        fixture.apply_receipt(false);
    }
    fixture.apply_receipt(true);
    assert_eq!(fixture.send(), [2, 3, 4, 5, 7]);
    fixture.store(2..=7);
    fixture.apply_receipt(true);
    fixture.advance(100);
    assert_eq!(fixture.send(), NONE);
}

#[test]
fn receipts_without_anything_new_have_no_effect() {
    let mut fixture = Fixture::new(8);
    fixture.send();
    fixture.store([1]);
    let mut sent = Vec::new();
    for _ in 0..100 {
        fixture.advance(1);
        fixture.apply_receipt(true);
        sent.extend(fixture.send());
    }
    assert_eq!(sent, [8, 8, 8], "receipts without news do not end the silence");
}

#[test]
fn the_platform_is_probed_soon_after_a_new_connection() {
    let mut fixture = Fixture::new(8);
    fixture.send();
    fixture.advance(3);
    fixture.scheduler.connected(fixture.now);
    assert_eq!(fixture.send(), NONE);
    fixture.advance(1);
    assert_eq!(fixture.send(), [8]);
    fixture.advance(2);
    assert_eq!(fixture.send(), [8], "perhaps there was no subscriber");
    fixture.store([8]);
    fixture.apply_receipt(true);
    assert_eq!(fixture.send(), (1..=7).collect::<Vec<_>>());
}

#[test]
fn repeated_requests_are_answered_in_proportion_to_what_is_received() {
    let mut fixture = Fixture::new(8);
    fixture.send();
    fixture.store([8]);
    let mut sent = 0;
    for _ in 0..100 {
        fixture.advance(20);
        fixture.apply_receipt(true);
        sent += fixture.send().len();
    }
    assert!(
        (WINDOW..WINDOW + 30).contains(&sent),
        "expected a window and what ever rarer silences allow, not {sent}"
    );
    fixture.store(1..=6);
    fixture.apply_receipt(true);
    fixture.accept(2);
    fixture.advance(20);
    fixture.apply_receipt(true);
    assert!(fixture.send().contains(&7), "received numbers allow more");
}

#[test]
fn a_confirmed_number_that_is_requested_is_sent_again() {
    let mut fixture = Fixture::new(8);
    fixture.send();
    fixture.store(1..=8);
    fixture.apply_receipt(true);
    assert_eq!(fixture.scheduler.received_through(), 8);
    let all = std::mem::replace(&mut fixture.stored, BTreeSet::from([1, 7]));
    fixture.apply_receipt(true);
    assert_eq!(fixture.send(), NONE, "perhaps an older receipt that arrives late");
    fixture.stored = all;
    fixture.apply_receipt(true);
    fixture.advance(60);
    assert_eq!(fixture.send(), NONE);

    fixture.stored = BTreeSet::from([1, 7]);
    fixture.apply_receipt(true);
    fixture.advance(2);
    assert_eq!(
        fixture.send(),
        [2, 3, 4, 5, 6],
        "nobody else requests 8: the platform does not know that it exists"
    );
    fixture.apply_receipt(true);
    assert_eq!(fixture.send(), NONE);
    fixture.store(2..=6);
    fixture.apply_receipt(true);
    fixture.advance(60);
    assert_eq!(fixture.send(), NONE);
}

#[test]
fn numbers_that_were_never_sent_do_not_count_as_received() {
    let mut fixture = Fixture::new(0);
    fixture.accept(20);
    assert_eq!(fixture.send(), (1..=8).collect::<Vec<_>>());
    fixture.store(1..=10);
    fixture.store([15, 1_000_000]);
    let never_sent = fixture.scheduler.apply_receipt(&fixture.receipt(true), fixture.now);
    assert_eq!((never_sent, fixture.scheduler.received_through()), (Some(1_000_000), 8));
    assert_eq!(
        fixture.send(),
        (9..=16).collect::<Vec<_>>(),
        "in order, although another process has used their numbers"
    );
}

#[test]
fn a_run_that_was_not_acknowledged_is_sent_before_new_numbers() {
    let mut fixture = Fixture::new(6);
    assert_eq!(fixture.scheduler.take(fixture.now, 3), Some((1, 3)));
    for number in [3, 1, 2] {
        fixture.scheduler.failed(number);
    }
    assert_eq!(fixture.send(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn after_a_start_numbers_that_may_have_been_sent_are_probed_and_all_others_are_sent() {
    let mut fixture = Fixture::new(0);
    // The outbox knows that five are received; an earlier process may have sent 6 to 13.
    (fixture.scheduler, fixture.accepted) = (ResendScheduler::new(POLICY, 6, 30, fixture.now), 30);
    fixture.store(1..=6);
    fixture.scheduler.connected(fixture.now);
    assert_eq!(fixture.send(), NONE);
    fixture.advance(1);
    assert_eq!(fixture.send(), [13]);
    fixture.store([13]);
    // The platform has seen 13, so at most 21 was sent, unless there was a later receipt.
    fixture.apply_receipt(false);
    assert_eq!(fixture.send(), NONE, "14 and 15 may have been sent too");
    fixture.advance(2);
    fixture.apply_receipt(true);
    assert_eq!(fixture.send(), (7..=12).collect::<Vec<_>>());
    fixture.store(7..=21);
    fixture.apply_receipt(true);
    assert_eq!(fixture.send(), (22..=29).collect::<Vec<_>>());
}

#[derive(Clone, Debug)]
struct Step {
    accept: u64,
    seconds: u64,
    /// Which of the messages sent in this step are lost: bit n stands for those at position n modulo 8.
    lost: u8,
    receipt: bool,
    asks: bool,
    connected: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let bools = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1));
    (0u64..6, 0u64..25, any::<u8>(), bools).prop_map(|(accept, seconds, lost, (receipt, asks, connected))| {
        Step { accept, seconds, lost, receipt, asks, connected }
    })
}

/// Runs the steps. Then, on a new connection without losses, all is received within 30 s, and nothing is sent after that.
fn recover_soon_after(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut fixture = Fixture::new(0);
    for Step { accept, seconds, lost, receipt, asks, connected } in steps {
        fixture.accept(accept);
        fixture.advance(seconds);
        if connected {
            fixture.scheduler.connected(fixture.now);
        }
        let sent = fixture.send();
        let arrived = sent.into_iter().enumerate().filter(|(index, _)| lost >> (index % 8) & 1 == 0);
        fixture.store(arrived.map(|(_, number)| number).collect::<Vec<_>>());
        if receipt {
            fixture.apply_receipt(asks);
        }
        prop_assert!(fixture.scheduler.received_through() <= fixture.accepted);
    }
    fixture.scheduler.connected(fixture.now);
    let mut seconds = 0;
    while fixture.scheduler.received_through() < fixture.accepted {
        prop_assert!(seconds <= 30, "{:?}", fixture.scheduler);
        fixture.advance(1);
        seconds += 1;
        // The platform answers each message, new or repeated, and asks for the numbers that it misses.
        loop {
            let sent = fixture.send();
            if sent.is_empty() {
                break;
            }
            fixture.store(sent);
            fixture.apply_receipt(true);
        }
    }
    fixture.advance(1_000);
    prop_assert_eq!(fixture.send(), NONE);
    Ok(())
}

proptest! {
    /// Whatever messages and receipts are lost.
    #[test]
    fn everything_is_received_soon_after_losses_end(steps in prop::collection::vec(step(), 0..40)) {
        recover_soon_after(steps)?;
    }
}

#[test]
fn requests_for_earlier_numbers_do_not_double_the_wait_of_the_last_one() {
    let step = |accept, seconds, lost, receives| Step {
        accept,
        seconds,
        lost,
        receipt: receives,
        asks: receives,
        connected: false,
    };
    // 8 is lost twice, and the platform does not know that it exists.
    let steps = [
        step(1, 0, 0, false),
        step(4, 0, 7, false),
        step(3, 10, 138, true),
        step(0, 2, 10, false),
        step(0, 8, 127, false),
    ];
    recover_soon_after(steps.into()).expect("received within 30 s");
}
