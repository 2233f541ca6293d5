//! Reads what `/proc` and the kernel report about processes.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The fields of `/proc/<pid>/stat` that are used here.
#[derive(Debug, PartialEq)]
pub(super) struct Stat {
    pub(super) ended: bool,
    pub(super) group: u32,
    pub(super) start_time: u64,
}

impl Stat {
    pub(super) fn of(pid: u32) -> Option<Self> {
        let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&line)
    }

    /// The program's name, in parentheses, may contain anything. After the last parenthesis come the state, parent, group, …,
    /// and as the 20th field from there the start time.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.get(line.rfind(')')? + 1..)?.split_ascii_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X" | "x");
        let group = fields.nth(1)?.parse().ok()?;
        let start_time = fields.nth(16)?.parse().ok()?;
        Some(Self { ended, group, start_time })
    }
}

/// The processes that `accept` accepts, each with a descriptor that can refer to no other process.
pub(super) fn processes(accept: impl Fn(&Stat, u32) -> bool) -> Vec<(u32, OwnedFd)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, open(pid, &accept)?))).collect()
}

/// Opens the process with this pid, if `accept` accepts it.
pub(super) fn open(pid: u32, accept: impl Fn(&Stat, u32) -> bool) -> Option<OwnedFd> {
    // A cheap check first; then once more with the descriptor open, so that pid and descriptor are the same process.
    let is_accepted = || Stat::of(pid).is_some_and(|stat| !stat.ended && accept(&stat, pid));
    if !is_accepted() {
        return None;
    }
    let handle = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
    is_accepted().then_some(handle)
}

/// The pid that was assigned last; the next process gets the next free number.
pub(super) fn last_pid() -> Option<u32> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().next_back()?.parse().ok()
}

/// The mask of handled signals in `/proc/<pid>/status`.
pub(super) fn caught(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Becomes readable when the process of the pidfd `handle` ends, whoever its parent is.
#[allow(unsafe_code)]
pub(super) fn end_of(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the returned value owns the descriptor, and only it closes the descriptor.
    unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use rustix::process::Signal;

    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) R 9 (b) S 1 40 40 0 -1 4194304 1 0 0 0 5 6 7 8 20 0 1 0 987654 1000 2";
        let stat = Stat { ended: false, group: 40, start_time: 987_654 };
        assert_eq!(Stat::parse(line), Some(stat));
        assert_eq!(Stat::parse("42 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn the_signals_that_a_process_handles_are_read_from_its_status() {
        let status = "Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000a00\n";
        assert_eq!(caught(status), 1 << (Signal::USR1.as_raw() - 1) | 1 << (Signal::USR2.as_raw() - 1));
        assert_eq!(caught("Name:\tx\n"), 0);
    }
}
