//! Injects random faults under load, and proves that nothing was lost or duplicated.
//!
//! 1. [`platform`]: a mosquitto, a mongod behind a proxy, the whole platform, and edges that follow the [`logs`] of two
//!    sources;
//! 2. [`load`]: files of two clients and lines of two sources, without pause;
//! 3. [`plan`]: the faults of a cycle, a pure function of the seed;
//! 4. after each cycle, one more of everything is sent; the time until everything sent so far is stored is the recovery time;
//! 5. [`verify`]: at the end, everything stored is compared with what was sent.

#![allow(
    clippy::disallowed_methods,
    reason = "it is not part of the platform, like the testbed, and needs no I/O adapters"
)]

pub mod load;
pub mod logs;
pub mod plan;
pub mod platform;
pub mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use load::{STEP, Sent};
use plan::{FAULTS, Moment, TargetKind, faults, timeline};
use platform::TestPlatform;
use verify::{Residue, Verifier};

/// What is not stored by then counts as lost.
const RECOVERED_WITHIN: Duration = Duration::from_secs(120);
/// A file that is not cleared away by then counts as stranded.
const CLEARED_WITHIN: Duration = Duration::from_secs(30);
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// How long a run lasts.
#[derive(Clone, Copy, Debug)]
pub struct RunLimits {
    pub seed: u64,
    pub cycles: u32,
    /// No cycle begins after this time, even if fewer than `cycles` have run.
    pub time: Duration,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct RunSummary {
    pub seed: u64,
    pub cycles: u32,
    /// How many faults of each kind were injected, by name.
    pub injected: BTreeMap<String, u32>,
    /// The longest time from the end of a cycle's last fault until everything sent so far was stored.
    pub worst_recovery: Duration,
    /// The number of cycles after which something was still missing when the time was up.
    pub not_recovered: Option<u32>,
    pub records: u64,
    pub residue: Residue,
}

impl RunSummary {
    /// Whether nothing was lost or duplicated, and everything was stored in time.
    pub fn is_clean(&self) -> bool {
        self.residue.is_empty() && self.not_recovered.is_none()
    }
}

/// Runs the cycles; `print` is called with a line about each.
pub async fn run(extent: RunLimits, mut print: impl FnMut(&str)) -> RunSummary {
    let mut platform = TestPlatform::start(extent.seed);
    let verifier = Verifier::new(&platform).await;
    let mut sent = Sent::default();
    let mut summary = RunSummary {
        seed: extent.seed,
        cycles: 0,
        injected: BTreeMap::new(),
        worst_recovery: Duration::ZERO,
        not_recovered: None,
        records: 0,
        residue: Residue::default(),
    };
    let started = Instant::now();
    // Faults before the platform is running would find nothing to disturb.
    recovery(&mut platform, &verifier, &mut sent).await.expect("the platform starts");
    while summary.cycles < extent.cycles && started.elapsed() < extent.time {
        let injected = cycle(extent.seed, summary.cycles, &mut platform, &mut sent).await;
        let recovery = recovery(&mut platform, &verifier, &mut sent).await;
        print(&line(summary.cycles, &injected, recovery));
        injected.into_iter().for_each(|fault| *summary.injected.entry(name(fault)).or_default() += 1);
        summary.cycles += 1;
        match recovery {
            Some(time) => summary.worst_recovery = summary.worst_recovery.max(time),
            None => {
                summary.not_recovered = Some(summary.cycles);
                break;
            }
        }
    }
    summary.records = sent.records().iter().map(|(_, records)| records).sum();
    summary.residue = residue(&platform, &verifier, &sent).await;
    if !summary.is_clean() {
        print(&format!("the data root is kept: {}", platform.root.keep().display()));
    }
    summary
}

/// Runs one cycle: its faults begin and end while the load continues. Returns the faults that were injected.
async fn cycle(
    seed: u64,
    cycle: u32,
    platform: &mut TestPlatform,
    sent: &mut Sent,
) -> Vec<plan::InjectedFault> {
    let begun = Instant::now();
    let mut injected = Vec::new();
    for (at, moment) in timeline(&faults(seed, cycle)) {
        while begun.elapsed() < at {
            sent.step(platform);
            tokio::time::sleep(STEP).await;
        }
        match moment {
            Moment::Begin(fault) => {
                injected.extend(platform.begin(fault).await.then_some(fault));
                if fault.kind == TargetKind::Late {
                    sent.backlog(platform);
                }
            }
            Moment::End(fault) => platform.end(fault),
        }
    }
    injected
}

/// Sends one more of everything, and waits until everything sent so far is stored; `None` if that takes too long.
async fn recovery(platform: &mut TestPlatform, verifier: &Verifier, sent: &mut Sent) -> Option<Duration> {
    let ended = Instant::now();
    sent.probe(platform);
    while !verifier.has_all(sent).await {
        if ended.elapsed() >= RECOVERED_WITHIN {
            return None;
        }
        tokio::time::sleep(CHECK_EVERY).await;
    }
    Some(ended.elapsed())
}

/// Compares at the end. It retries for a while, as the platform still has to book the last records and clear their files.
async fn residue(platform: &TestPlatform, verifier: &Verifier, sent: &Sent) -> Residue {
    let ended = Instant::now();
    loop {
        let residue = verifier.residue(platform, sent).await;
        if residue.is_empty() || ended.elapsed() >= CLEARED_WITHIN {
            return residue;
        }
        tokio::time::sleep(CHECK_EVERY).await;
    }
}

fn line(cycle: u32, faults: &[plan::InjectedFault], recovery: Option<Duration>) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let recovery = match recovery {
        Some(time) => format!("all stored {:.1} s later", time.as_secs_f64()),
        None => format!("NOT RECOVERED in {} s", RECOVERED_WITHIN.as_secs()),
    };
    format!("cycle {cycle}: {}: {recovery}", faults.join(", "))
}

fn name(fault: plan::InjectedFault) -> String {
    format!("{} {}", fault.kind, fault.target)
}

impl fmt::Display for RunSummary {
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
