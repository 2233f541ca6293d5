//! The identity of a process, which distinguishes it from a later one with the same pid.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::ProcessError;
use super::proc::{self, Stat, end_of, processes};
use super::tag::{Tag, kill_tagged};

/// A process: its pid, and its start in clock ticks since boot, which differs from that of a later process with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    pub start_time: u64,
}

impl ProcessId {
    /// This process.
    pub fn current() -> Self {
        let pid = std::process::id();
        Self { pid, start_time: Stat::of(pid).map_or(0, |stat| stat.start_time) }
    }

    /// The process that has this pid now, if there is one.
    pub fn of_pid(pid: u32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        (!stat.ended).then_some(Self { pid, start_time: stat.start_time })
    }

    /// Whether it is running. A zombie is not: if nobody reaps it, it would exist for ever.
    pub fn alive(&self) -> bool {
        Self::of_pid(self.pid) == Some(*self)
    }

    /// Whether the process has a handler for `signal`; without one, most signals would end it.
    pub fn handles_signal(&self, signal: Signal) -> bool {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.pid)) else { return false };
        // Checked afterwards, which proves that the status was this process's.
        self.alive() && proc::caught(&status) & (1 << (signal.as_raw() - 1)) != 0
    }

    /// Signals this process, and never a later one with the same pid.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let handle = self.handle()?;
        pidfd_send_signal(&handle, signal).map_err(|error| self.error("signal", error))
    }

    /// Signals each process of the group that this one leads, if the leader is still running.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] if the leader has ended.
    pub fn signal_group(&self, signal: Signal) -> Result<(), ProcessError> {
        // Kept until the end: while the leader is alive, the group is its own.
        let leader = self.handle()?;
        let members = processes(|stat, pid| stat.group == self.pid && pid != self.pid);
        pidfd_send_signal(&leader, signal).map_err(|error| self.error("signal", error))?;
        for (_, member) in members {
            // A process that has ended meanwhile needs no signal.
            let _ = pidfd_send_signal(member, signal);
        }
        Ok(())
    }

    /// Waits until it has ended; returns false if it is still running after `deadline`.
    pub async fn wait_ended(&self, deadline: Duration) -> bool {
        let Ok(handle) = self.handle() else { return true };
        let Ok(ended) = end_of(handle) else { return !self.alive() };
        tokio::time::timeout(deadline, ended.readable()).await.is_ok()
    }

    /// Stops a process that this one has not started, and its group: SIGTERM, and SIGKILL after `grace`.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Survived`] if even SIGKILL did not end it. It is not an error if it has already ended.
    pub async fn stop(&self, grace: Duration) -> Result<(), ProcessError> {
        let tag = Tag::of(self.pid).filter(|_| self.alive());
        match self.signal_group(Signal::TERM) {
            Err(ProcessError::Ended { .. }) => {}
            Err(error) => return Err(error),
            Ok(()) => self.end_within(grace).await?,
        }
        if let Some(tag) = tag {
            // It fails only if this process is about to end.
            let _ = kill_tagged(tag, self.start_time).await;
        }
        Ok(())
    }

    async fn end_within(&self, grace: Duration) -> Result<(), ProcessError> {
        if self.wait_ended(grace).await {
            return Ok(());
        }
        match self.signal_group(Signal::KILL) {
            Err(ProcessError::Ended { .. }) => return Ok(()),
            other => other?,
        }
        if self.wait_ended(super::KILL_WAIT).await {
            return Ok(());
        }
        Err(ProcessError::Survived { pid: self.pid, seconds: super::KILL_WAIT.as_secs() })
    }

    /// Returns a descriptor that refers to this process as long as it is open. The start time is compared after opening: it
    /// would differ if the pid had been reused in between.
    fn handle(&self) -> Result<OwnedFd, ProcessError> {
        let ended = ProcessError::Ended { pid: self.pid };
        let pid = match i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            Some(pid) => pid,
            None => return Err(ended),
        };
        let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| self.error("open", error))?;
        if self.alive() { Ok(handle) } else { Err(ended) }
    }

    fn error(&self, action: &'static str, error: Errno) -> ProcessError {
        match error {
            Errno::SRCH => ProcessError::Ended { pid: self.pid },
            other => ProcessError::Control { action, pid: self.pid, source: io::Error::from(other) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_with_the_same_pid_is_never_signalled() {
        let current = ProcessId::current();
        assert!(current.alive());
        let earlier = ProcessId { start_time: current.start_time - 1, ..current };
        assert!(!earlier.alive());
        // If the signal were delivered, it would end this test.
        for result in [earlier.signal(Signal::KILL), earlier.signal_group(Signal::KILL)] {
            assert!(matches!(result, Err(ProcessError::Ended { pid }) if pid == current.pid), "{result:?}");
        }
        for pid in [0, u32::MAX] {
            let invalid = ProcessId { pid, start_time: 0 };
            assert!(matches!(invalid.signal(Signal::KILL), Err(ProcessError::Ended { .. })));
        }
    }

    #[test]
    fn a_process_that_no_longer_has_its_pid_handles_no_signal() {
        assert!(!ProcessId { pid: 1, start_time: u64::MAX }.handles_signal(Signal::USR1));
    }
}
