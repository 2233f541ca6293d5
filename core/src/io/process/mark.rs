//! Finds what has left its process group, by a mark in the environment.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use tokio::task::JoinHandle;

use super::identity::{Stat, processes};
use crate::app::env::MARK;

/// Passes over `/proc` at most: a process that forks faster than it is found needs more than one.
const PASSES_MAX: usize = 10;

/// Looks at the environment of a process in the middle of `exec`, which takes well below a millisecond of a free core.
const LOOKS_MAX: usize = 100;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// A mark for a new process of `owner`.
pub(super) fn new(owner: &str) -> String {
    format!("{}{:016x}", owned_by(owner), crate::io::random::number())
}

/// The mark of a running process.
pub(super) fn of(pid: u32) -> Option<String> {
    let environment = environment(pid)?;
    let mark = variables(&environment)
        .find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(mark.to_vec()).ok()
}

/// Kills every process with exactly this mark; returns how many there were.
///
/// `since` is the start time of the one that was given the mark: older ones need no closer look.
pub(super) async fn kill_marked(mark: &str, since: u64) -> usize {
    start_killing(mark, since).await.unwrap_or(0)
}

/// Starts the same; it goes on if nobody waits for it.
pub(super) fn start_killing(mark: &str, since: u64) -> JoinHandle<usize> {
    let mark = mark.to_owned();
    tokio::task::spawn_blocking(move || kill_marked_now(&mark, since))
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

/// The whole environment of a running process.
///
/// While one program takes the place of another (`exec`), it reads as empty, or breaks off: the environment is in the
/// memory that is being replaced. A process in that moment must not escape, so it is looked at until it is over.
fn environment(pid: u32) -> Option<Vec<u8>> {
    let mut environment = Vec::new();
    for _ in 0..LOOKS_MAX {
        environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let stat = Stat::of(pid)?;
        if !stat.has_memory || stat.environment_bytes == Some(environment.len() as u64) {
            break;
        }
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
    Some(environment)
}

fn variables(environment: &[u8]) -> impl Iterator<Item = &[u8]> {
    environment.split(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_its_mark_while_one_program_takes_the_place_of_another() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let script = directory.path().join("again");
        std::fs::write(&script, r#"[ "$1" -gt 0 ] && exec sh "$0" $(($1 - 1)); exec sleep 300"#)
            .expect("write");
        let mut process = std::process::Command::new("sh");
        let mut process = process
            .arg(&script)
            .arg("300")
            .env(MARK, "mine")
            .spawn()
            .expect("start a program that starts others");
        let pid = process.id();
        let asleep =
            || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"));
        let mut looks = 0;
        let lost = loop {
            match of(pid) {
                Some(mark) if mark == "mine" => looks += 1,
                other => break Some(other),
            }
            if asleep() {
                break None;
            }
        };
        process.kill().expect("kill");
        process.wait().expect("reap");
        assert_eq!(lost, None, "after {looks} looks");
        assert!(looks > 0, "it was never looked at");
    }
}
