//! Finds what has left its process group, by a mark in the environment.

use std::collections::BTreeSet;

use rustix::process::{Signal, pidfd_send_signal};

use super::identity::processes;
use crate::app::env::MARK;

/// Passes over `/proc` at most: a process that forks faster than it is found needs more than one.
const PASSES_MAX: usize = 10;

/// A mark for a new process of `owner`.
pub(super) fn new(owner: &str) -> String {
    format!("{}{:016x}", owned_by(owner), crate::io::random::number())
}

/// The mark of a running process.
pub(super) fn of(pid: u32) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mark = variables(&environment)
        .find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(mark.to_vec()).ok()
}

/// Kills every process with exactly this mark; returns how many there were.
///
/// `since` is the start time of the one that was given the mark: older ones need no closer look.
pub(super) async fn kill_marked(mark: &str, since: u64) -> usize {
    let mark = mark.to_owned();
    tokio::task::spawn_blocking(move || kill_marked_now(&mark, since)).await.unwrap_or(0)
}

/// The same for [`Drop`], which cannot wait.
pub(super) fn kill_marked_now(mark: &str, since: u64) -> usize {
    kill(since, |found| found == mark)
}

/// Kills every process that an earlier holder of `owner` has started, and their children; returns how many there were.
///
/// To be called only by who holds the lock that makes it the one `owner`.
pub async fn kill_left_behind(owner: &str) -> usize {
    let prefix = owned_by(owner);
    tokio::task::spawn_blocking(move || kill(0, |found| found.starts_with(&prefix))).await.unwrap_or(0)
}

/// The separator keeps owner `a` from cleaning up after owner `ab`.
fn owned_by(owner: &str) -> String {
    format!("{owner}//")
}

fn kill(since: u64, accept: impl Fn(&str) -> bool) -> usize {
    // A pass may find again what has been killed in the one before and has not ended yet.
    let mut killed = BTreeSet::new();
    let own = std::process::id();
    for _ in 0..PASSES_MAX {
        let found = processes(|stat, pid| {
            pid != own && stat.start_time >= since && of(pid).is_some_and(|mark| accept(&mark))
        });
        if found.is_empty() {
            break;
        }
        for (pid, process) in found {
            // One that has ended meanwhile needs no signal.
            if pidfd_send_signal(process, Signal::KILL).is_ok() {
                killed.insert(pid);
            }
        }
    }
    killed.len()
}

fn variables(environment: &[u8]) -> impl Iterator<Item = &[u8]> {
    environment.split(|byte| *byte == 0)
}
