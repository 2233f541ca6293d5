//! Plans the faults: a pure function of the seed, so that a run that found a bug can be repeated.

use std::fmt;
use std::time::Duration;

use mysimbdp_testbed::Random;

/// The faults of a cycle begin within this time …
const BEGIN_WITHIN: Duration = Duration::from_millis(1000);
/// … and each lasts between these.
const LASTS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(2500)];
/// … or these, so that a backlog gathers.
const LATE: [Duration; 2] = [Duration::from_millis(2000), Duration::from_millis(6000)];

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChaosTarget {
    Fetchdata,
    BatchManager,
    StreamManager,
    StreamApp,
    BatchApp,
    Edge,
    /// The disk with the logs that the edges follow, and with their outboxes: a fault of it also ends the edges.
    LogDisk,
    Broker,
    Database,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetKind {
    /// SIGKILL; it is restarted at the fault's end, by this program or by its own manager.
    Kill,
    /// SIGSTOP, and SIGCONT at the fault's end: it keeps its connections open and does not respond.
    Pause,
    /// SIGTERM, and a restart at the fault's end.
    Restart,
    /// SIGKILL, and everything that the broker has acknowledged and queued is lost.
    Forget,
    /// SIGTERM, and a restart only after a backlog has gathered.
    Late,
    /// All traffic to and from it is delayed.
    Delay,
    /// Data that was not synced is lost.
    PowerCut,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedFault {
    pub target: ChaosTarget,
    pub kind: TargetKind,
    /// Time after the start of the cycle.
    pub begins: Duration,
    pub lasts: Duration,
    /// Selects one of several, such as of the running instances: this number modulo their count.
    pub which: u64,
}

/// All possible faults.
pub const FAULTS: &[(ChaosTarget, TargetKind)] = &[
    (ChaosTarget::Fetchdata, TargetKind::Kill),
    (ChaosTarget::Fetchdata, TargetKind::Pause),
    (ChaosTarget::Fetchdata, TargetKind::Restart),
    (ChaosTarget::BatchManager, TargetKind::Kill),
    (ChaosTarget::BatchManager, TargetKind::Pause),
    (ChaosTarget::BatchManager, TargetKind::Restart),
    (ChaosTarget::StreamManager, TargetKind::Kill),
    (ChaosTarget::StreamManager, TargetKind::Pause),
    (ChaosTarget::StreamManager, TargetKind::Restart),
    (ChaosTarget::StreamManager, TargetKind::Late),
    (ChaosTarget::StreamApp, TargetKind::Kill),
    (ChaosTarget::StreamApp, TargetKind::Pause),
    (ChaosTarget::BatchApp, TargetKind::Kill),
    (ChaosTarget::BatchApp, TargetKind::Pause),
    (ChaosTarget::Edge, TargetKind::Kill),
    (ChaosTarget::Edge, TargetKind::Pause),
    (ChaosTarget::Edge, TargetKind::Restart),
    (ChaosTarget::LogDisk, TargetKind::PowerCut),
    (ChaosTarget::Broker, TargetKind::Kill),
    (ChaosTarget::Broker, TargetKind::Pause),
    (ChaosTarget::Broker, TargetKind::Restart),
    (ChaosTarget::Broker, TargetKind::Forget),
    (ChaosTarget::Database, TargetKind::Kill),
    (ChaosTarget::Database, TargetKind::Pause),
    (ChaosTarget::Database, TargetKind::Restart),
    (ChaosTarget::Database, TargetKind::Delay),
];

/// Returns the faults of cycle number `cycle`: one, or two with different targets.
pub fn faults(seed: u64, cycle: u32) -> Vec<InjectedFault> {
    let mut random = Random::new(seed, cycle);
    let mut faults: Vec<InjectedFault> = Vec::new();
    let count = 1 + random.below(2) as usize;
    while faults.len() < count {
        let fault = fault(&mut random);
        if faults.iter().all(|other| !fault.target.overlaps(other.target)) {
            faults.push(fault);
        }
    }
    faults
}

fn fault(random: &mut Random) -> InjectedFault {
    let (target, kind) = FAULTS[random.below(FAULTS.len() as u64) as usize];
    let lasts = if kind == TargetKind::Late { LATE } else { LASTS };
    let [shortest, longest] = lasts.map(|time| time.as_millis() as u64);
    InjectedFault {
        target,
        kind,
        begins: Duration::from_millis(random.below(BEGIN_WITHIN.as_millis() as u64)),
        lasts: Duration::from_millis(shortest + random.below(longest - shortest)),
        which: random.number(),
    }
}

impl ChaosTarget {
    /// Whether faults of these two targets would hit the same process.
    fn overlaps(self, other: Self) -> bool {
        let follows = |target| matches!(target, Self::Edge | Self::LogDisk);
        self == other || follows(self) && follows(other)
    }
}

/// A fault begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Begin(InjectedFault),
    End(InjectedFault),
}

/// Returns the begins and ends of a cycle's faults in order, each with its time after the start of the cycle.
pub fn timeline(faults: &[InjectedFault]) -> Vec<(Duration, Moment)> {
    let both = |fault: &InjectedFault| {
        [(fault.begins, Moment::Begin(*fault)), (fault.begins + fault.lasts, Moment::End(*fault))]
    };
    let mut moments: Vec<_> = faults.iter().flat_map(both).collect();
    moments.sort_by_key(|(at, _)| *at);
    moments
}

impl fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, kind, begins, lasts, .. } = self;
        write!(f, "{kind} {target} at {:.1} s for {:.1} s", begins.as_secs_f64(), lasts.as_secs_f64())
    }
}

impl fmt::Display for ChaosTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fetchdata => "fetchdata",
            Self::BatchManager => "batch-manager",
            Self::StreamManager => "stream-manager",
            Self::StreamApp => "stream-app",
            Self::BatchApp => "batch-app",
            Self::Edge => "edge",
            Self::LogDisk => "disk of the followed logs",
            Self::Broker => "mosquitto",
            Self::Database => "mongod",
        })
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Restart => "restart",
            Self::Forget => "kill and empty",
            Self::Late => "start late",
            Self::Delay => "delay",
            Self::PowerCut => "power cut of",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_gives_others() {
        let all = |seed| (0..50).map(|cycle| faults(seed, cycle)).collect::<Vec<_>>();
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
    }

    #[test]
    fn two_hundred_cycles_have_every_fault_and_no_cycle_has_a_target_twice() {
        let mut seen = BTreeSet::new();
        for cycle in 0..200 {
            let faults = faults(1, cycle);
            assert!((1..=2).contains(&faults.len()));
            let targets: BTreeSet<_> = faults.iter().map(|fault| fault.target).collect();
            assert_eq!(targets.len(), faults.len(), "{faults:?}");
            seen.extend(faults.iter().map(|fault| (fault.target, fault.kind)));
        }
        assert_eq!(seen, FAULTS.iter().copied().collect());
    }

    #[test]
    fn each_fault_of_a_timeline_begins_before_it_ends() {
        for cycle in 0..200 {
            let faults = faults(3, cycle);
            let moments = timeline(&faults);
            assert!(moments.is_sorted_by_key(|(at, _)| *at));
            for fault in faults {
                let position = |moment| moments.iter().position(|(_, other)| *other == moment);
                assert!(position(Moment::Begin(fault)) < position(Moment::End(fault)), "{moments:?}");
            }
        }
    }
}
