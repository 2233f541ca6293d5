//! The processor time that a run takes, by who takes it: what bounds a path, also on a machine that others use too.

use crate::failure::{BenchError, Result};
use crate::memory::tree;
use crate::platform::RunningPlatform;
use crate::servers::Servers;

/// The kernel counts a process's time in hundredths of a second, on all machines that are known.
const TICKS_PER_SECOND: f64 = 100.0;

/// What each has used up to a moment.
#[derive(Debug)]
pub struct Effort {
    processes: Vec<(&'static str, u32)>,
    before: Vec<f64>,
}

impl Effort {
    /// From now on, of the servers, of this program, and of the platform with all that it starts.
    ///
    /// # Errors
    ///
    /// One of them has ended.
    pub fn begin(servers: &Servers, platform: &RunningPlatform) -> Result<Self> {
        let processes = vec![
            ("CPU s mongod", servers.mongod.pid()),
            ("CPU s mosquitto", servers.mosquitto.pid()),
            ("CPU s mysimbdp", platform.pid()),
            ("CPU s benches", std::process::id()),
        ];
        let before = used(&processes)?;
        Ok(Self { processes, before })
    }

    /// What has been used since, as facts of a sample.
    ///
    /// # Errors
    ///
    /// One of them has ended.
    pub fn end(self) -> Result<Vec<(&'static str, f64)>> {
        let after = used(&self.processes)?;
        let names = self.processes.iter().map(|(name, _)| *name);
        Ok(names.zip(after.iter().zip(self.before).map(|(after, before)| after - before)).collect())
    }
}

/// The user and system time of a process, its descendants, and those of them that have ended, in seconds.
///
/// # Errors
///
/// It has ended.
pub fn processor_seconds(process: u32) -> Result<f64> {
    let own = ticks(process).ok_or_else(|| BenchError::new(format!("process {process} has ended")))?;
    // A descendant that ends meanwhile is counted by its parent from then on.
    let others: f64 = tree(process).into_iter().skip(1).filter_map(ticks).sum();
    Ok((own + others) / TICKS_PER_SECOND)
}

fn used(processes: &[(&'static str, u32)]) -> Result<Vec<f64>> {
    // This program has started the others, which are counted by themselves.
    let own = |process: u32| ticks(process).map(|ticks| ticks / TICKS_PER_SECOND);
    let of = |process: u32| match process {
        this if this == std::process::id() => {
            own(this).ok_or_else(|| BenchError::new("the processor time of this process is unknown"))
        }
        other => processor_seconds(other),
    };
    processes.iter().map(|(_, process)| of(*process)).collect()
}

/// User and system time of a process and of its children that have ended: fields 14 to 17.
fn ticks(process: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in the parentheses may hold anything, so the last one counts.
    let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4);
    fields.map(|field| field.parse::<f64>().ok()).sum()
}
