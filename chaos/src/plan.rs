//! Which faults come when: a pure function of the seed, so that a run that found something can be had again.

use std::fmt;
use std::time::Duration;

use mysimbdp_testbed::Random;

/// Faults of one cycle begin within this time …
const BEGIN_WITHIN: Duration = Duration::from_millis(1000);
/// … and each lasts between these.
const LASTS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(2500)];
/// … or these, for a backlog to gather.
const LATE: [Duration; 2] = [Duration::from_millis(2000), Duration::from_millis(6000)];

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    Fetchdata,
    BatchManager,
    StreamManager,
    StreamApp,
    BatchApp,
    Edge,
    /// The disk of the logs that the edges follow, and of their outboxes: it takes the edges with it.
    LogDisk,
    Broker,
    Database,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SIGKILL; it is started again at the fault's end, by this program or by its own manager.
    Kill,
    /// SIGSTOP, and SIGCONT at the fault's end: it holds its connections and answers nothing.
    Pause,
    /// SIGTERM, and a new start at the fault's end.
    Restart,
    /// SIGKILL, and nothing is left of what a broker has acknowledged and queued.
    Forget,
    /// SIGTERM, a backlog gathers, and only then a new start.
    Late,
    /// Everything that is sent to it, or comes from it, takes longer.
    Delay,
    /// What was not synced is lost.
    PowerCut,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub target: Target,
    pub kind: Kind,
    /// After the cycle's begin.
    pub begins: Duration,
    pub lasts: Duration,
    /// Which of several, such as of the instances that run: this modulo how many there are.
    pub which: u64,
}

/// All that can happen.
pub const FAULTS: &[(Target, Kind)] = &[
    (Target::Fetchdata, Kind::Kill),
    (Target::Fetchdata, Kind::Pause),
    (Target::Fetchdata, Kind::Restart),
    (Target::BatchManager, Kind::Kill),
    (Target::BatchManager, Kind::Pause),
    (Target::BatchManager, Kind::Restart),
    (Target::StreamManager, Kind::Kill),
    (Target::StreamManager, Kind::Pause),
    (Target::StreamManager, Kind::Restart),
    (Target::StreamManager, Kind::Late),
    (Target::StreamApp, Kind::Kill),
    (Target::StreamApp, Kind::Pause),
    (Target::BatchApp, Kind::Kill),
    (Target::BatchApp, Kind::Pause),
    (Target::Edge, Kind::Kill),
    (Target::Edge, Kind::Pause),
    (Target::Edge, Kind::Restart),
    (Target::LogDisk, Kind::PowerCut),
    (Target::Broker, Kind::Kill),
    (Target::Broker, Kind::Pause),
    (Target::Broker, Kind::Restart),
    (Target::Broker, Kind::Forget),
    (Target::Database, Kind::Kill),
    (Target::Database, Kind::Pause),
    (Target::Database, Kind::Restart),
    (Target::Database, Kind::Delay),
];

/// The faults of cycle number `cycle`: one, or two of different targets.
pub fn faults(seed: u64, cycle: u32) -> Vec<Fault> {
    let mut random = Random::new(seed, cycle);
    let mut faults: Vec<Fault> = Vec::new();
    let wanted = 1 + random.below(2) as usize;
    while faults.len() < wanted {
        let fault = fault(&mut random);
        if faults.iter().all(|other| !fault.target.touches(other.target)) {
            faults.push(fault);
        }
    }
    faults
}

fn fault(random: &mut Random) -> Fault {
    let (target, kind) = FAULTS[random.below(FAULTS.len() as u64) as usize];
    let lasts = if kind == Kind::Late { LATE } else { LASTS };
    let [shortest, longest] = lasts.map(|time| time.as_millis() as u64);
    Fault {
        target,
        kind,
        begins: Duration::from_millis(random.below(BEGIN_WITHIN.as_millis() as u64)),
        lasts: Duration::from_millis(shortest + random.below(longest - shortest)),
        which: random.number(),
    }
}

impl Target {
    /// Whether two faults of these would happen to the same process.
    fn touches(self, other: Self) -> bool {
        let follows = |target| matches!(target, Self::Edge | Self::LogDisk);
        self == other || follows(self) && follows(other)
    }
}

/// A fault begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Begin(Fault),
    End(Fault),
}

/// The faults of a cycle in the order in which they begin and end, each with its time after the cycle's begin.
pub fn timeline(faults: &[Fault]) -> Vec<(Duration, Moment)> {
    let both = |fault: &Fault| {
        [(fault.begins, Moment::Begin(*fault)), (fault.begins + fault.lasts, Moment::End(*fault))]
    };
    let mut moments: Vec<_> = faults.iter().flat_map(both).collect();
    moments.sort_by_key(|(at, _)| *at);
    moments
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, kind, begins, lasts, .. } = self;
        write!(f, "{kind} {target} at {:.1} s for {:.1} s", begins.as_secs_f64(), lasts.as_secs_f64())
    }
}

impl fmt::Display for Target {
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

impl fmt::Display for Kind {
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
    fn two_hundred_cycles_have_every_fault_and_no_target_twice_in_one() {
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
                let place = |moment| moments.iter().position(|(_, other)| *other == moment);
                assert!(place(Moment::Begin(fault)) < place(Moment::End(fault)), "{moments:?}");
            }
        }
    }
}
