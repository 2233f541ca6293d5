//! Processes as the kernel lists them.

use std::collections::BTreeMap;

use rustix::process::{Pid, Signal, WaitOptions};

/// Makes this process the parent of all its descendants whose own parent ends, instead of init.
///
/// # Panics
///
/// If the kernel refuses.
pub fn become_reaper() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("Linux 3.4 or newer");
}

/// All processes that run and descend from `ancestor`.
pub fn descendants(ancestor: u32) -> Vec<u32> {
    let running = running();
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(running.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// Whether there is such a process; a zombie does not run.
pub fn is_running(process: u32) -> bool {
    running().contains_key(&process)
}

/// The most memory that a process has had resident so far, in KiB.
///
/// # Panics
///
/// If there is no such process.
#[track_caller]
pub fn memory_peak_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|peak| peak.parse().ok()).expect("a process that has not ended has memory")
}

/// Sends a signal to a process that the platform has started.
///
/// # Panics
///
/// If there is no such process.
#[track_caller]
pub fn signal(process: u32, signal: Signal) {
    rustix::process::kill_process(pid(process), signal).expect("the process runs");
}

/// The same for one that may have ended; false where it has.
pub fn signal_if_running(process: u32, signal: Signal) -> bool {
    rustix::process::kill_process(pid(process), signal).is_ok()
}

/// Sets how many descriptors a running process may have, beyond those that it has; returns how many that was before.
///
/// # Panics
///
/// If there is no such process of this user.
#[track_caller]
pub fn limit_descriptors(process: u32, most: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    let limit = Rlimit { current: Some(most), maximum: getrlimit(Resource::Nofile).maximum };
    let before = prlimit(Some(pid(process)), Resource::Nofile, limit).expect("a process of ours");
    // None is no limit, and no process has as many.
    before.current.unwrap_or(1 << 20)
}

/// Reaps the processes that have come to this one because their parent ended (see [`become_reaper`]); its `own`
/// children are left to whoever started them.
pub fn reap_orphans(own: &[u32]) {
    let parent = std::process::id();
    for (process, stat) in processes() {
        if stat.is_zombie && stat.parent == parent && !own.contains(&process) {
            // It has ended, so this does not wait.
            let _ = rustix::process::waitpid(Some(pid(process)), WaitOptions::NOHANG);
        }
    }
}

/// What `/proc/<pid>/stat` says of a process.
pub(crate) struct Stat {
    parent: u32,
    pub(crate) session: u32,
    is_zombie: bool,
}

/// All processes but zombies, which are gone but for their exit status.
pub(crate) fn running() -> BTreeMap<u32, Stat> {
    let mut processes = processes();
    processes.retain(|_, stat| !stat.is_zombie);
    processes
}

fn processes() -> BTreeMap<u32, Stat> {
    let entries = std::fs::read_dir("/proc").expect("Linux has /proc");
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            // It may end while we look.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name in the parentheses may hold anything, so the last one counts.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let is_zombie = matches!(fields.next()?, "Z" | "X");
            let parent = fields.next()?.parse().ok()?;
            let session = fields.nth(1)?.parse().ok()?;
            Some((pid, Stat { parent, session, is_zombie }))
        })
        .collect()
}

pub(crate) fn pid(id: u32) -> Pid {
    i32::try_from(id).ok().and_then(Pid::from_raw).expect("a pid is positive")
}
