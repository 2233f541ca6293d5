use mysimbdp_model::units::Period;
use proptest::prelude::*;

use super::*;

fn target(stabilization: u64) -> Rule {
    Rule::Target(Target {
        utilization_percent: 70,
        tolerance_percent: 10,
        cooldown: Period::seconds(60),
        stabilization: Period::seconds(stabilization),
    })
}

fn thresholds() -> Rule {
    Rule::Thresholds(Thresholds::default())
}

fn busy(running: u32, utilization: f64) -> StreamLoad {
    StreamLoad {
        running,
        reporting: running,
        busy: utilization * f64::from(running),
        ..StreamLoad::default()
    }
}

fn decided(rule: Rule, load: &StreamLoad, desired: u32) -> (u32, ScalingReason) {
    let start = Instant::now();
    let policy = ScalingPolicy { rule, bounds: Bounds { min: 1, max: 8 } };
    // Long enough after the start that the initial recommendation has left the stabilization window.
    let decision = decide(load, &policy, &Memory::new(desired, start), start + Duration::from_secs(3600));
    (decision.desired, decision.reason)
}

#[test]
fn target_recommends_as_many_as_bring_utilization_to_the_target() {
    for (running, utilization, expected) in [
        (1, 0.70, (1, ScalingReason::Steady)),
        (1, 0.76, (1, ScalingReason::Steady)),
        (1, 0.64, (1, ScalingReason::Steady)),
        (1, 0.78, (2, ScalingReason::Busy)),
        (1, 1.00, (2, ScalingReason::Busy)),
        (3, 1.00, (5, ScalingReason::Busy)),
        (7, 1.00, (8, ScalingReason::Busy)),
        (8, 1.00, (8, ScalingReason::Steady)),
        (4, 0.30, (2, ScalingReason::Idle)),
        (4, 0.53, (4, ScalingReason::Steady)),
        (4, 0.52, (3, ScalingReason::Idle)),
        (4, 0.00, (1, ScalingReason::Idle)),
        (1, 0.00, (1, ScalingReason::Steady)),
    ] {
        assert_eq!(
            decided(target(300), &busy(running, utilization), running),
            expected,
            "{running} at {utilization}"
        );
    }
}

#[test]
fn silent_instances_count_as_idle_for_adding_and_as_busy_for_removing() {
    let load = |busy| StreamLoad { running: 4, reporting: 2, busy, ..StreamLoad::default() };
    assert_eq!(decided(target(300), &load(0.0), 4), (3, ScalingReason::Idle));
    assert_eq!(decided(target(300), &load(1.9), 4), (4, ScalingReason::Steady));
    let none = StreamLoad { running: 4, ..StreamLoad::default() };
    assert_eq!(decided(target(300), &none, 4), (4, ScalingReason::NoFreshReports));
    assert_eq!(decided(thresholds(), &none, 4), (4, ScalingReason::NoFreshReports));
}

#[test]
fn thresholds_follow_the_table() {
    // Mean processing seconds, messages per report; from 3 instances.
    for (seconds, messages, expected) in [
        (0.051, 1e6, (4, ScalingReason::Slow)),
        (0.050, 1e6, (3, ScalingReason::Steady)),
        (0.020, 1e6, (3, ScalingReason::Steady)),
        (0.020, 599_999.0, (4, ScalingReason::Little)),
        (0.051, 599_999.0, (4, ScalingReason::Slow)),
        (0.020, 600_000.0, (3, ScalingReason::Steady)),
        (0.005, 1e6, (3, ScalingReason::Steady)),
        (0.004, 1e6, (2, ScalingReason::Quick)),
        (0.020, 6_000_000.0, (3, ScalingReason::Steady)),
        (0.020, 6_000_001.0, (2, ScalingReason::Much)),
        (0.051, 6_000_001.0, (3, ScalingReason::UpAndDown)),
        (0.004, 6_000_001.0, (2, ScalingReason::Quick)),
        (0.004, 599_999.0, (2, ScalingReason::QuickAndLittle)),
        (0.000, 0.0, (2, ScalingReason::QuickAndLittle)),
    ] {
        let load = StreamLoad { processing_seconds: seconds, messages_per_report: messages, ..busy(3, 0.5) };
        assert_eq!(decided(thresholds(), &load, 3), expected, "{seconds} s, {messages} messages");
    }
}

#[test]
fn overlapping_thresholds_keep_the_number() {
    let rule = Thresholds { up_messages: 10, down_messages: 5, ..Thresholds::default() };
    let load = StreamLoad { processing_seconds: 0.02, messages_per_report: 7.0, ..busy(3, 0.5) };
    assert_eq!(decided(Rule::Thresholds(rule), &load, 3), (3, ScalingReason::UpAndDown));
}

/// A stream has grown under load, and then becomes idle.
#[test]
fn thresholds_scale_an_idle_stream_down_to_the_minimum_and_stay_there() {
    let policy = ScalingPolicy { rule: thresholds(), bounds: Bounds { min: 1, max: 4 } };
    let mut now = Instant::now();
    let mut memory = Memory::new(4, now);
    let mut desired = Vec::new();
    for _ in 0..6 {
        now += Duration::from_secs(60);
        let decision = decide(&busy(memory.desired, 0.0), &policy, &memory, now);
        memory.note(&decision, &policy, now);
        desired.push(memory.desired);
    }
    assert_eq!(desired, [3, 2, 1, 1, 1, 1]);
}

#[test]
fn nothing_changes_within_the_cooldown() {
    let start = Instant::now();
    let policy = ScalingPolicy { rule: target(300), bounds: Bounds { min: 1, max: 8 } };
    let mut memory = Memory::new(1, start);
    let first = decide(&busy(1, 1.0), &policy, &memory, start);
    memory.note(&first, &policy, start);
    assert_eq!((memory.desired, memory.changed_at), (2, Some(start)));
    let at = |seconds| decide(&busy(2, 1.0), &policy, &memory, start + Duration::from_secs(seconds));
    assert_eq!((at(59).desired, at(59).reason), (2, ScalingReason::Cooldown));
    assert_eq!((at(60).desired, at(60).reason), (3, ScalingReason::Busy));
}

#[test]
fn a_pause_shorter_than_the_stabilization_window_removes_no_instance() {
    let start = Instant::now();
    let policy = ScalingPolicy { rule: target(300), bounds: Bounds { min: 1, max: 8 } };
    let mut memory = Memory::new(4, start);
    for seconds in (0..300).step_by(30) {
        let now = start + Duration::from_secs(seconds);
        let decision = decide(&busy(4, 0.1), &policy, &memory, now);
        assert_eq!((decision.desired, decision.reason), (4, ScalingReason::Stabilizing), "after {seconds} s");
        memory.note(&decision, &policy, now);
    }
    let decision = decide(&busy(4, 0.1), &policy, &memory, start + Duration::from_secs(300));
    assert_eq!((decision.desired, decision.reason), (1, ScalingReason::Idle));
}

/// Such reports could be forged to have instances started and drained all day.
#[test]
fn flapping_reports_remove_no_instance() {
    let policy = ScalingPolicy { rule: target(300), bounds: Bounds { min: 1, max: 4 } };
    let mut now = Instant::now();
    let mut memory = Memory::new(1, now);
    for minute in 0..60 {
        now += Duration::from_secs(60);
        let load = busy(memory.desired, if minute % 2 == 0 { 1.0 } else { 0.0 });
        let decision = decide(&load, &policy, &memory, now);
        assert!((memory.desired..=4).contains(&decision.desired), "minute {minute}: {decision:?}");
        memory.note(&decision, &policy, now);
    }
}

#[test]
fn a_policy_never_removes_the_last_instance() {
    let start = Instant::now();
    let policy = ScalingPolicy { rule: target(0), bounds: Bounds { min: 0, max: 8 } };
    let later = start + Duration::from_secs(3600);
    assert_eq!(decide(&busy(1, 0.0), &policy, &Memory::new(1, start), later).desired, 1);
    assert_eq!(decide(&busy(3, 0.0), &policy, &Memory::new(3, start), later).desired, 1);
    assert_eq!(decide(&StreamLoad::default(), &policy, &Memory::new(0, start), later).desired, 0);
}

fn any_rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        (1..=100u32, 0..=90u32, 0..120u64, 0..600u64).prop_map(
            |(percent, tolerance, cooldown, stabilization)| {
                Rule::Target(Target {
                    utilization_percent: percent,
                    tolerance_percent: tolerance,
                    cooldown: Period::seconds(cooldown),
                    stabilization: Period::seconds(stabilization),
                })
            }
        ),
        Just(thresholds()),
    ]
}

fn any_load() -> impl Strategy<Value = StreamLoad> {
    (0..10u32, 0..10u32, 0.0..=1.0f64, 0.0..86_400.0f64, 0.0..1e19f64).prop_map(
        |(running, reporting, share, time, count)| {
            let reporting = reporting.min(running);
            StreamLoad {
                running,
                reporting,
                busy: share * f64::from(reporting),
                processing_seconds: time,
                messages_per_report: count,
            }
        },
    )
}

proptest! {
    #[test]
    fn the_number_is_always_within_bounds(
        rule in any_rule(), min in 0..5u32, more in 0..60u32, desired in 0..100u32,
        loads in prop::collection::vec((any_load(), 0..400u64), 1..50),
    ) {
        let policy = ScalingPolicy { rule, bounds: Bounds { min, max: (min + more).max(1) } };
        let mut now = Instant::now();
        let mut memory = Memory::new(desired, now);
        for (load, seconds) in loads {
            now += Duration::from_secs(seconds);
            let decision = decide(&load, &policy, &memory, now);
            prop_assert!((policy.bounds.min..=policy.bounds.max).contains(&decision.desired), "{decision:?}");
            memory.note(&decision, &policy, now);
            prop_assert!(memory.recommended.0.len() <= 100, "memory is bounded");
        }
    }

    #[test]
    fn steady_load_converges_and_then_never_changes(
        work in 0.0..20.0f64, percent in 10..=100u32, tolerance in 0..=50u32, start in 1..16u32, stabilization in 0..300u64,
    ) {
        let rule = Rule::Target(Target {
            utilization_percent: percent,
            tolerance_percent: tolerance,
            cooldown: Period::seconds(60),
            stabilization: Period::seconds(stabilization),
        });
        let policy = ScalingPolicy { rule, bounds: Bounds { min: 1, max: 16 } };
        let mut now = Instant::now();
        let mut memory = Memory::new(start, now);
        let mut changes = Vec::new();
        // An hour of reports, one per minute: the same work, spread over the running instances.
        for _ in 0..60 {
            now += Duration::from_secs(60);
            let load = busy(memory.desired, (work / f64::from(memory.desired)).min(1.0));
            let decision = decide(&load, &policy, &memory, now);
            if decision.desired != memory.desired {
                changes.push(i64::from(decision.desired) - i64::from(memory.desired));
            }
            memory.note(&decision, &policy, now);
        }
        let directions = changes.windows(2).filter(|pair| pair[0].signum() != pair[1].signum()).count();
        prop_assert!(directions == 0, "up and down under steady load: {changes:?}");
        prop_assert!(changes.len() <= 16, "does not converge: {changes:?}");
    }

    #[test]
    fn more_work_never_lowers_the_number(running in 1..16u32, low in 0.0..=1.0f64, more in 0.0..=1.0f64) {
        let high = (low + more).min(1.0);
        prop_assert!(decided(target(0), &busy(running, low), running).0 <= decided(target(0), &busy(running, high), running).0);
    }
}
