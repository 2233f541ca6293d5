//! Finds processes that have left their process group, by a tag that a process and all its descendants share.
//!
//! The tag is the limit on file locks (`RLIMIT_LOCKS`). Linux has ignored this limit since version 2.4.25, but children still
//! inherit it. Unlike an environment variable it survives a cleared environment, and can be read during an `exec` too. A
//! process can remove it only by changing this limit.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Once;
use std::time::Duration;

use futures::future::join_all;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, pidfd_send_signal, setrlimit};
use tokio::task::{JoinHandle, spawn_blocking};

use super::proc::{self, Stat, end_of, last_pid, processes};

/// The most scans of `/proc`: a process that forks faster than it is found needs more than one.
const SCANS_MAX: usize = 20;
/// After each scan, the most checks of the processes started since. Bounded, because other programs also start processes all
/// the time.
const RECHECKS_MAX: usize = 100;
/// The most killed processes that are waited for. Each costs a descriptor, and enough descriptors must be left to find all
/// processes of a program that forks without end.
const WAITED_FOR_MAX: usize = 100;
/// Even a process with a lot of memory ends within this time; one that waits for a dead disk may never end.
const END_MAX: Duration = Duration::from_secs(5);

/// Set in every tag, so that a real limit (`ulimit -x 1000`) is never mistaken for a tag.
const IS_TAG: u64 = 1 << 62;
/// The lowest bits of a tag, which differ between the processes of an owner; the bits between these and [`IS_TAG`] identify the
/// owner.
const NUMBER_BITS: u32 = 31;

/// The beginning of the tag's line in `/proc/<pid>/limits`, before the soft and the hard limit.
const LINE: &str = "Max file locks";

/// The tag that a process of an owner and all its descendants share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    /// A tag for a new process of `owner`.
    pub(super) fn new(owner: &str) -> Self {
        warn_if_limited();
        Self(lowest_of(owner) | crate::random::number() >> (u64::BITS - NUMBER_BITS))
    }

    /// The tag of a running process. Any user may read it, even if the process is not dumpable.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
    }

    fn parse(limits: &str) -> Option<Self> {
        let line = limits.lines().find_map(|line| line.strip_prefix(LINE))?;
        let hard: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
        (hard & IS_TAG != 0).then_some(Self(hard))
    }

    /// Sets the tag of this process, which must be a child before its `exec`: allocates nothing and takes no lock.
    pub(super) fn set(self) -> io::Result<()> {
        let limit = Rlimit { current: Some(self.0), maximum: Some(self.0) };
        match setrlimit(Resource::Locks, limit) {
            // A limit lower than the tag cannot be raised: `warn_if_limited` warns about this.
            Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Kills every process with exactly this tag, and waits until they have ended; returns how many there were. It continues even
/// if nobody waits for it.
///
/// `since` is the start time of the process that got the tag: older processes cannot have it, and are skipped.
pub(super) fn kill_tagged(tag: Tag, since: u64) -> JoinHandle<usize> {
    tokio::spawn(kill_and_wait(since, move |found| found == tag))
}

/// Like [`kill_tagged`], but for [`Drop`], which cannot wait.
pub(super) fn kill_tagged_now(tag: Tag, since: u64) {
    kill(since, |found| found == tag);
}

/// Kills every process that an earlier process with the name `owner` has started, and their descendants, and waits until they
/// have ended; returns how many there were.
///
/// Call it only while holding the lock that makes this process the only `owner`.
pub async fn kill_left_behind(owner: &str) -> usize {
    let lowest = lowest_of(owner);
    kill_and_wait(0, move |found| found.0 >> NUMBER_BITS == lowest >> NUMBER_BITS).await
}

/// Waits, because until a killed process has ended it may still finish what it is doing in the kernel, such as a write.
async fn kill_and_wait(since: u64, accept: impl Fn(Tag) -> bool + Send + 'static) -> usize {
    let Ok(Killed { count, processes }) = spawn_blocking(move || kill(since, accept)).await else { return 0 };
    let ends = processes.into_iter().map(|process| async {
        // This fails if no descriptors are left; the process is then not waited for.
        if let Ok(end) = end_of(process) {
            let _ = end.readable().await;
        }
    });
    if tokio::time::timeout(END_MAX, join_all(ends)).await.is_err() {
        tracing::warn!(killed = count, seconds = END_MAX.as_secs(), "processes have not ended after SIGKILL");
    }
    count
}

/// The lowest tag of an owner. Another owner on the same machine has the same tags with a probability of 1 in 2^31.
fn lowest_of(owner: &str) -> u64 {
    let hash = blake3::hash(owner.as_bytes());
    let bytes = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    IS_TAG | (u64::from_be_bytes(bytes) & (IS_TAG - 1)) >> NUMBER_BITS << NUMBER_BITS
}

/// The processes that were sent SIGKILL.
#[derive(Default)]
struct Killed {
    count: usize,
    /// Not all of them, if there were many.
    processes: Vec<OwnedFd>,
}

fn kill(since: u64, accept: impl Fn(Tag) -> bool) -> Killed {
    let own = std::process::id();
    let accept =
        |stat: &Stat, pid: u32| pid != own && stat.start_time >= since && Tag::of(pid).is_some_and(&accept);
    // A scan may again find processes that the previous scan has killed and that have not ended yet.
    let mut pids = BTreeSet::new();
    let mut killed = Killed::default();
    for _ in 0..SCANS_MAX {
        let mut last = last_pid();
        let mut is_new = false;
        for (pid, process) in processes(accept) {
            is_new |= killed.kill(pid, process, &mut pids);
        }
        // A process that forks and ends at once has ended before the scan reaches it, and so has its child. So the processes
        // that were started since are checked by their pids, which takes less time than they live.
        for _ in 0..RECHECKS_MAX {
            let (Some(before), Some(now)) = (last, last_pid()) else { break };
            if before == now {
                break;
            }
            // Pids wrap around at some point; the next scan then finds the rest.
            for pid in before.saturating_add(1)..=now {
                if let Some(process) = proc::open(pid, accept) {
                    is_new |= killed.kill(pid, process, &mut pids);
                }
            }
            last = Some(now);
        }
        if !is_new {
            return killed;
        }
    }
    tracing::warn!(killed = killed.count, "processes of an app start others faster than they are found");
    killed
}

impl Killed {
    /// Kills a process; returns whether it is a new one.
    fn kill(&mut self, pid: u32, process: OwnedFd, pids: &mut BTreeSet<u32>) -> bool {
        // A process that has ended meanwhile needs no signal.
        if pidfd_send_signal(&process, Signal::KILL).is_err() || !pids.insert(pid) {
            return false;
        }
        self.count += 1;
        if self.processes.len() < WAITED_FOR_MAX {
            self.processes.push(process);
        }
        true
    }
}

/// Only root may raise a limit: another user cannot set a tag if the number of file locks is already limited.
fn warn_if_limited() {
    static WARNED: Once = Once::new();
    if let Some(limit) = getrlimit(Resource::Locks).maximum {
        WARNED.call_once(|| {
            tracing::warn!(
                limit,
                "the number of file locks is limited (ulimit -x): processes that an app leaves running may not be found"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_identify_their_owner_and_differ_between_processes() {
        let (one, other) = (Tag::new("owner"), Tag::new("owner"));
        assert_ne!(one, other);
        let owner_of = |tag: Tag| tag.0 >> NUMBER_BITS;
        assert_eq!((owner_of(one), owner_of(other)), (lowest_of("owner") >> NUMBER_BITS, owner_of(one)));
        assert_ne!(owner_of(Tag::new("owner2")), owner_of(one));
    }

    #[test]
    fn a_real_limit_is_not_a_tag() {
        let limits =
            |hard: &str| format!("Limit  Soft Limit  Hard Limit  Units\nMax file locks  1  {hard}  locks\n");
        assert_eq!(Tag::parse(&limits("unlimited")), None);
        assert_eq!(Tag::parse(&limits("1000")), None);
        let tag = Tag::new("owner");
        assert_eq!(Tag::parse(&limits(&tag.0.to_string())), Some(tag));
        assert_eq!(Tag::parse(""), None);
        assert_eq!(Tag::of(std::process::id()), None);
    }

    #[test]
    fn a_process_keeps_its_tag_during_exec() {
        use std::os::unix::process::CommandExt;

        let directory = tempfile::tempdir().expect("temporary directory");
        let script = directory.path().join("again");
        std::fs::write(&script, r#"[ "$1" -gt 0 ] && exec env -i sh "$0" $(($1 - 1)); exec sleep 300"#)
            .expect("write");
        let tag = Tag::new("owner");
        let mut command = std::process::Command::new("sh");
        command.arg(&script).arg("300");
        // SAFETY: between fork and exec it makes one system call.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || tag.set())
        };
        let mut process = command.spawn().expect("start a program that starts others");
        let pid = process.id();
        let asleep =
            || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"));
        let mut reads = 0;
        let lost = loop {
            match Tag::of(pid) {
                Some(found) if found == tag => reads += 1,
                other => break Some(other),
            }
            if asleep() {
                break None;
            }
        };
        process.kill().expect("kill");
        process.wait().expect("reap");
        assert_eq!(lost, None, "after {reads} reads");
        assert!(reads > 0, "its status was never read");
    }
}
