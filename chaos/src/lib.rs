//! Faults at random, under load, and the proof that nothing was lost and nothing doubled.
//!
//! 1. [`world`]: a mosquitto, a mongod behind a proxy, the whole platform, and edges that follow the [`logs`] of two sources;
//! 2. [`load`]: files of two clients and lines of two sources, without pause;
//! 3. [`plan`]: which faults come in a cycle, a pure function of the seed;
//! 4. after each cycle one more of everything is sent, and all that was sent so far is waited for: the recovery time;
//! 5. [`judge`]: in the end everything is compared with what was sent.

#![allow(
    clippy::disallowed_methods,
    reason = "it stands outside of the platform's doors, as the test bed does"
)]

pub mod judge;
pub mod load;
pub mod logs;
pub mod plan;
pub mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use judge::{Judge, Residue};
use load::{STEP, Sent};
use plan::{FAULTS, Kind, Moment, faults, timeline};
use world::World;

/// What has not come by then will not.
const RECOVERED_WITHIN: Duration = Duration::from_secs(120);
/// What is not cleared away by then is stranded.
const CLEARED_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub seed: u64,
    pub cycles: u32,
    /// No cycle begins after this time, whatever their number.
    pub time: Duration,
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Account {
    pub seed: u64,
    pub cycles: u32,
    /// How many of each kind were injected, by name.
    pub injected: BTreeMap<String, u32>,
    /// From the end of a cycle's last fault until everything sent so far was stored.
    pub worst_recovery: Duration,
    /// The first cycle after which something was still missing when the time was up.
    pub not_recovered: Option<u32>,
    pub records: u64,
    pub residue: Residue,
}

impl Account {
    /// Whether nothing was lost, nothing doubled, and everything came in time.
    pub fn is_clean(&self) -> bool {
        self.residue.is_empty() && self.not_recovered.is_none()
    }
}

/// Runs the cycles; `tell` is given a line about each.
pub async fn run(extent: Extent, mut tell: impl FnMut(&str)) -> Account {
    let mut world = World::start(extent.seed);
    let judge = Judge::new(&world).await;
    let mut sent = Sent::default();
    let mut account = Account {
        seed: extent.seed,
        cycles: 0,
        injected: BTreeMap::new(),
        worst_recovery: Duration::ZERO,
        not_recovered: None,
        records: 0,
        residue: Residue::default(),
    };
    let started = Instant::now();
    // Faults that come before anything works would find nothing to disturb.
    recovery(&mut world, &judge, &mut sent).await.expect("the platform starts");
    while account.cycles < extent.cycles && started.elapsed() < extent.time {
        let injected = cycle(extent.seed, account.cycles, &mut world, &mut sent).await;
        let recovery = recovery(&mut world, &judge, &mut sent).await;
        tell(&line(account.cycles, &injected, recovery));
        injected.into_iter().for_each(|fault| *account.injected.entry(name(fault)).or_default() += 1);
        account.cycles += 1;
        match recovery {
            Some(time) => account.worst_recovery = account.worst_recovery.max(time),
            None => {
                account.not_recovered = Some(account.cycles);
                break;
            }
        }
    }
    account.records = sent.records().iter().map(|(_, records)| records).sum();
    account.residue = residue(&world, &judge, &sent).await;
    if !account.is_clean() {
        tell(&format!("the data root is kept: {}", world.root.keep().display()));
    }
    account
}

/// One cycle: its faults begin and end while the load goes on. Gives those that happened.
async fn cycle(seed: u64, cycle: u32, world: &mut World, sent: &mut Sent) -> Vec<plan::Fault> {
    let begun = Instant::now();
    let mut injected = Vec::new();
    for (at, moment) in timeline(&faults(seed, cycle)) {
        while begun.elapsed() < at {
            sent.step(world);
            tokio::time::sleep(STEP).await;
        }
        match moment {
            Moment::Begin(fault) => {
                injected.extend(world.begin(fault).await.then_some(fault));
                if fault.kind == Kind::Late {
                    sent.backlog(world);
                }
            }
            Moment::End(fault) => world.end(fault),
        }
    }
    injected
}

/// Sends one more of everything, and waits until all that was ever sent is stored; `None` where it does not come.
async fn recovery(world: &mut World, judge: &Judge, sent: &mut Sent) -> Option<Duration> {
    let ended = Instant::now();
    sent.probe(world);
    while !judge.has_all(sent).await {
        if ended.elapsed() >= RECOVERED_WITHIN {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Some(ended.elapsed())
}

/// What is left when nothing more comes: what is stored last has still to be booked and cleared away.
async fn residue(world: &World, judge: &Judge, sent: &Sent) -> Residue {
    let ended = Instant::now();
    loop {
        let residue = judge.residue(world, sent).await;
        if residue.is_empty() || ended.elapsed() >= CLEARED_WITHIN {
            return residue;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn line(cycle: u32, faults: &[plan::Fault], recovery: Option<Duration>) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let recovery = match recovery {
        Some(time) => format!("all stored {:.1} s later", time.as_secs_f64()),
        None => format!("NOT RECOVERED in {} s", RECOVERED_WITHIN.as_secs()),
    };
    format!("cycle {cycle}: {}: {recovery}", faults.join(", "))
}

fn name(fault: plan::Fault) -> String {
    format!("{} {}", fault.kind, fault.target)
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let injected: Vec<String> =
            self.injected.iter().map(|(name, times)| format!("{times} x {name}")).collect();
        writeln!(f, "seed {}, {} cycles, {} records", self.seed, self.cycles, self.records)?;
        writeln!(f, "injected ({} of {} kinds): {}", injected.len(), FAULTS.len(), injected.join(", "))?;
        writeln!(f, "worst recovery: {:.1} s", self.worst_recovery.as_secs_f64())?;
        if let Some(cycle) = self.not_recovered {
            writeln!(f, "NOT RECOVERED after cycle {}", cycle - 1)?;
        }
        write!(f, "residue: {}", self.residue)
    }
}
