//! Processes as the kernel lists them.

use std::collections::BTreeMap;

use rustix::process::{Pid, Signal, WaitOptions};

/// Makes this process, instead of init, the new parent of all its descendants whose parent ends.
///
/// # Panics
///
/// If the kernel refuses.
pub fn become_reaper() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("Linux 3.4 or newer");
}

/// Returns all running descendants of `ancestor`.
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

/// Returns whether a process is running; a zombie is not.
pub fn is_running(process: u32) -> bool {
    running().contains_key(&process)
}

/// Returns the highest resident memory of a process so far, in KiB.
///
/// # Panics
///
/// If there is no such process.
#[track_caller]
pub fn memory_peak_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|peak| peak.parse().ok()).expect("a running process has memory")
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

/// The same for a process that may have ended. Returns false if it has.
pub fn signal_if_running(process: u32, signal: Signal) -> bool {
    rustix::process::kill_process(pid(process), signal).is_ok()
}

/// Sets the highest number of descriptors that a running process may open; descriptors that it has stay open. Returns the
/// previous limit.
///
/// # Panics
///
/// If this user has no such process.
#[track_caller]
pub fn limit_descriptors(process: u32, most: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    let limit = Rlimit { current: Some(most), maximum: getrlimit(Resource::Nofile).maximum };
    let before = prlimit(Some(pid(process)), Resource::Nofile, limit).expect("a child process");
    // `None` means unlimited; no process has as many as this.
    before.current.unwrap_or(1 << 20)
}

/// Reaps the processes whose new parent is this one because their own has ended (see [`become_reaper`]). Its `own` children are
/// left to the code that started them.
pub fn reap_orphans(own: &[u32]) {
    let parent = std::process::id();
    for (process, stat) in processes() {
        if stat.is_zombie && stat.parent == parent && !own.contains(&process) {
            // It has ended, so this does not wait.
            let _ = rustix::process::waitpid(Some(pid(process)), WaitOptions::NOHANG);
        }
    }
}

/// The fields of `/proc/<pid>/stat` that are used here.
pub(crate) struct Stat {
    parent: u32,
    pub(crate) session: u32,
    is_zombie: bool,
}

/// Returns all processes except zombies, of which only the exit status is left.
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
            // It may have ended meanwhile.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name in parentheses may contain any character, so the last parenthesis is the end.
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
