//! Finds what has left its process group, by a tag that a process and all its descendants have in common.
//!
//! The tag is a limit on file locks (`RLIMIT_LOCKS`). Linux has looked at that limit for nothing since version 2.4.25, but
//! still hands it on from parent to child. In contrast to an environment variable it survives a cleared environment, and can
//! be read in the middle of an `exec` too. A process gets rid of it only by changing this very limit.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Once;
use std::time::Duration;

use futures::future::join_all;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, pidfd_send_signal, setrlimit};
use tokio::task::{JoinHandle, spawn_blocking};

use super::proc::{self, Stat, end_of, last_pid, processes};

/// Scans of `/proc` at most: a process that forks faster than it is found needs more than one.
const SCANS_MAX: usize = 20;
/// Looks at what was started since, after each scan. Other programs start processes all the time, too.
const CHASES_MAX: usize = 100;
/// Each costs a descriptor, of which enough must be left to find all others of a program that forks without end.
const WAITED_FOR_MAX: usize = 100;
/// Even a process with a lot of memory ends within this time; one that waits for a dead disk may never.
const END_MAX: Duration = Duration::from_secs(5);

/// Set in every tag, so that a limit which somebody means as one (`ulimit -x 1000`) is never taken for a tag.
const IS_TAG: u64 = 1 << 62;
/// The bits of a tag that tell which process of its owner it is; those in between name the owner.
const NUMBER_BITS: u32 = 31;

/// Where `/proc/<pid>/limits` tells it, before the soft and the hard limit.
const LINE: &str = "Max file locks";

/// What a process of an owner and all its descendants have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    /// A tag for a new process of `owner`.
    pub(super) fn new(owner: &str) -> Self {
        warn_if_limited();
        Self(first_of(owner) | crate::random::number() >> (u64::BITS - NUMBER_BITS))
    }

    /// The tag of a running process. Any user may read it, also of a process that cannot be dumped.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)
    }

    fn parse(limits: &str) -> Option<Self> {
        let line = limits.lines().find_map(|line| line.strip_prefix(LINE))?;
        let hard: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
        (hard & IS_TAG != 0).then_some(Self(hard))
    }

    /// Gives it to this process, which must be a child before its `exec`: allocates nothing and takes no lock.
    pub(super) fn give(self) -> io::Result<()> {
        let limit = Rlimit { current: Some(self.0), maximum: Some(self.0) };
        match setrlimit(Resource::Locks, limit) {
            // A lower limit than the tag may not be raised: told by `warn_if_limited`.
            Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Kills every process with exactly this tag, and waits until they have ended. It goes on if nobody waits for it; the number of
/// them is returned.
///
/// `since` is the start time of the one that was given the tag: older ones need no closer look.
pub(super) fn kill_tagged(tag: Tag, since: u64) -> JoinHandle<usize> {
    tokio::spawn(kill_and_wait(since, move |found| found == tag))
}

/// The same for [`Drop`], which cannot wait.
pub(super) fn kill_tagged_now(tag: Tag, since: u64) {
    kill(since, |found| found == tag);
}

/// Kills every process that an earlier holder of `owner` has started, and their descendants, and waits until they have ended;
/// returns how many there were.
///
/// To be called only by who holds the lock that makes it the one `owner`.
pub async fn kill_left_behind(owner: &str) -> usize {
    let first = first_of(owner);
    kill_and_wait(0, move |found| found.0 >> NUMBER_BITS == first >> NUMBER_BITS).await
}

/// Until it has ended, a killed process may still finish what it is about in the kernel, such as a write.
async fn kill_and_wait(since: u64, accept: impl Fn(Tag) -> bool + Send + 'static) -> usize {
    let Ok(Killed { count, processes }) = spawn_blocking(move || kill(since, accept)).await else { return 0 };
    let ends = processes.into_iter().map(|process| async {
        // It fails if there are no descriptors left, and then is not waited for.
        if let Ok(end) = end_of(process) {
            let _ = end.readable().await;
        }
    });
    if tokio::time::timeout(END_MAX, join_all(ends)).await.is_err() {
        tracing::warn!(killed = count, seconds = END_MAX.as_secs(), "processes have not ended after SIGKILL");
    }
    count
}

/// The first tag of an owner. Another owner on the same machine has the same ones with a probability of 1 in 2^31.
fn first_of(owner: &str) -> u64 {
    let hash = blake3::hash(owner.as_bytes());
    let bytes = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    IS_TAG | (u64::from_be_bytes(bytes) & (IS_TAG - 1)) >> NUMBER_BITS << NUMBER_BITS
}

/// What has been sent SIGKILL.
#[derive(Default)]
struct Killed {
    count: usize,
    /// Not of all, if there were many.
    processes: Vec<OwnedFd>,
}

fn kill(since: u64, accept: impl Fn(Tag) -> bool) -> Killed {
    let own = std::process::id();
    let accept =
        |stat: &Stat, pid: u32| pid != own && stat.start_time >= since && Tag::of(pid).is_some_and(&accept);
    // A scan may find again what has been killed in the one before and has not ended yet.
    let mut pids = BTreeSet::new();
    let mut killed = Killed::default();
    for _ in 0..SCANS_MAX {
        let mut last = last_pid();
        let mut is_new = false;
        for (pid, process) in processes(accept) {
            is_new |= killed.kill(pid, process, &mut pids);
        }
        // A process that forks and ends at once is gone before the scan comes to it, and so is its child: what was started
        // since then is looked at by its pid, which takes less time than it lives.
        for _ in 0..CHASES_MAX {
            let (Some(before), Some(now)) = (last, last_pid()) else { break };
            if before == now {
                break;
            }
            // The numbers begin anew at some point; then the next scan has to do.
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
    /// Returns whether it is one more.
    fn kill(&mut self, pid: u32, process: OwnedFd, pids: &mut BTreeSet<u32>) -> bool {
        // One that has ended meanwhile needs no signal.
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

/// Only root may raise a limit, so without it no tag can be given below a limit.
fn warn_if_limited() {
    static TOLD: Once = Once::new();
    if let Some(limit) = getrlimit(Resource::Locks).maximum {
        TOLD.call_once(|| {
            tracing::warn!(
                limit,
                "the number of file locks is limited (ulimit -x): what an app leaves running may not be found"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_tell_the_owner_and_no_two_processes_have_the_same() {
        let (one, other) = (Tag::new("owner"), Tag::new("owner"));
        assert_ne!(one, other);
        let owner_of = |tag: Tag| tag.0 >> NUMBER_BITS;
        assert_eq!((owner_of(one), owner_of(other)), (first_of("owner") >> NUMBER_BITS, owner_of(one)));
        assert_ne!(owner_of(Tag::new("owner2")), owner_of(one));
    }

    #[test]
    fn a_limit_that_somebody_means_as_one_is_no_tag() {
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
    fn a_process_keeps_its_tag_while_one_program_takes_the_place_of_another() {
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
            command.pre_exec(move || tag.give())
        };
        let mut process = command.spawn().expect("start a program that starts others");
        let pid = process.id();
        let asleep =
            || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"));
        let mut looks = 0;
        let lost = loop {
            match Tag::of(pid) {
                Some(found) if found == tag => looks += 1,
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
