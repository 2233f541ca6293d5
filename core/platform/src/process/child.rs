//! A process that this process has started.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::pipe::{InputPipe, OutputPipe};
use super::tag::{Tag, kill_tagged, kill_tagged_now};
use super::{KILL_WAIT, ProcessError, ProcessId, proc};
use crate::files;

/// The most starts that wait for the spawning thread; each takes about a millisecond.
const STARTS_WAITING_MAX: usize = 64;

/// The capacity of the pipe to a process: with the system's 64 KiB, feeder and app would take turns four times as often. A
/// megabyte gains nothing more, and the capacity of all pipes of a user together is limited.
const FEED_PIPE_BYTES: usize = 256 << 10;

/// Inherited in addition to `PATH`: the certificates that TLS trusts. If the platform can connect to a broker with a certificate
/// of a private authority, its apps can too.
const TRUST: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// A process to start: in a group of its own, with an environment of `PATH`, the TLS trust settings, and `env`.
#[derive(Clone, Debug)]
pub struct Spawn {
    /// From [`super::find_program`].
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    pub directory: PathBuf,
    pub stdin: Stdin,
    pub output: Output,
    /// Sent by the kernel when this process ends, however it ends.
    pub dies_with_parent: Option<Signal>,
    /// Who cleans up if this process cannot: see [`super::kill_left_behind`]. `None` for a process of the platform, which cleans
    /// up after its own children: only its process group is killed.
    pub owner: Option<String>,
}

/// What a process reads on stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// [`Child::stdin`].
    Feed,
    /// Nothing: an immediate end of file.
    Null,
}

/// Where stdout and stderr go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To [`Child::stdout`] and [`Child::stderr`], which must be read all the time, or the process blocks.
    Piped,
    /// Both to one file, which outlives this process; its directory is created if it is missing.
    AppendTo(PathBuf),
    /// To the stdout and stderr of this process.
    Inherit,
}

/// A running process. Dropping it kills the process and its group, unless it may [`Child::outlive`] this process.
#[derive(Debug)]
pub struct Child {
    pub stdin: Option<InputPipe>,
    pub stdout: Option<OutputPipe>,
    pub stderr: Option<OutputPipe>,
    id: ProcessId,
    group: Pid,
    tag: Option<Tag>,
    process: tokio::process::Child,
    /// Dropped when none of its processes writes any more, which ends the pipes.
    pipe_ends: Vec<oneshot::Sender<()>>,
    /// Readable when the process has ended; it still has to be reaped.
    ended: AsyncFd<std::os::fd::OwnedFd>,
    state: State,
    outlives: bool,
}

#[derive(Debug)]
enum State {
    /// Running, or not reaped yet: the pid and the group still belong to it.
    Running,
    /// Reaped; descendants that had left the group are being killed. The scan is kept here, so that the next wait continues
    /// it if a wait is dropped: a caller that waits only briefly each time would otherwise never see its end.
    Cleaning {
        status: ExitStatus,
        scan: JoinHandle<usize>,
    },
    Cleaned(ExitStatus),
}

impl Spawn {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// The program cannot be run, or its output cannot be opened.
    pub async fn start(self) -> Result<Child, ProcessError> {
        let program = self.program.clone();
        let thread_ended = move || ProcessError::Spawn {
            program,
            source: io::Error::other("the spawning thread has ended"),
        };
        let spawner = match spawner() {
            Ok(spawner) => spawner,
            Err(source) => return Err(ProcessError::Spawn { program: self.program, source }),
        };
        let (reply, answer) = oneshot::channel();
        let start = Start { spawn: self, runtime: tokio::runtime::Handle::current(), reply };
        if spawner.send(start).await.is_err() {
            return Err(thread_ended());
        }
        answer.await.unwrap_or_else(|_| Err(thread_ended()))
    }

    fn start_here(self) -> Result<Child, ProcessError> {
        let program = self.program.clone();
        let error = |source| ProcessError::Spawn { program: program.clone(), source };
        let tag = self.owner.as_deref().map(Tag::new);
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).current_dir(&self.directory).process_group(0);
        let path = std::env::var_os("PATH").unwrap_or_else(|| super::program::DEFAULT_PATH.into());
        let trust = TRUST.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.env_clear().env("PATH", path).envs(trust).envs(self.env);
        command.stdin(if self.stdin == Stdin::Feed { Stdio::piped() } else { Stdio::null() });
        let (stdout, stderr) = self.output.open().map_err(|source| output_error(&program, source))?;
        command.stdout(stdout).stderr(stderr);
        prepare(&mut command, self.dies_with_parent, tag);
        let process = tokio::process::Command::from(command).spawn().map_err(error)?;
        // It is not reaped before it is waited for, so the pid belongs to it whatever it has done meanwhile.
        let pid = process.id().unwrap_or_default();
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let group = group.ok_or_else(|| error(io::Error::other("the new process has no pid")))?;
        let mut child = Child {
            stdin: None,
            stdout: None,
            stderr: None,
            id: ProcessId { pid, start_time: proc::Stat::of(pid).map_or(0, |stat| stat.start_time) },
            ended: pidfd_open(group, PidfdFlags::empty())
                .map_err(io::Error::from)
                .and_then(proc::end_of)
                .inspect_err(|_| kill_group(group, Signal::KILL))
                .map_err(error)?,
            group,
            tag,
            process,
            pipe_ends: Vec::new(),
            state: State::Running,
            outlives: false,
        };
        // On an error the child is dropped, which kills it.
        child.take_pipes().map_err(error)?;
        Ok(child)
    }
}

impl Output {
    fn open(&self) -> Result<(Stdio, Stdio), files::FileError> {
        match self {
            Self::Piped => Ok((Stdio::piped(), Stdio::piped())),
            Self::Inherit => Ok((Stdio::inherit(), Stdio::inherit())),
            Self::AppendTo(path) => {
                if let Some(directory) = path.parent() {
                    files::create_dir_all(directory)?;
                }
                Ok((files::append(path)?.into(), files::append(path)?.into()))
            }
        }
    }
}

fn output_error(program: &std::path::Path, source: files::FileError) -> ProcessError {
    ProcessError::Output { program: program.to_owned(), source }
}

/// Makes the new process set its tag, and the kernel send it a signal when the thread that started it ends.
#[allow(unsafe_code)]
fn prepare(command: &mut std::process::Command, dies_with_parent: Option<Signal>, tag: Option<Tag>) {
    let parent = rustix::process::getpid();
    let in_child = move || {
        if let Some(tag) = tag {
            tag.set()?;
        }
        if dies_with_parent.is_some() {
            rustix::process::set_parent_process_death_signal(dies_with_parent)?;
            // If the parent had died before this call, the signal would never be sent.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes a few system calls; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(in_child) };
}

impl Child {
    fn take_pipes(&mut self) -> io::Result<()> {
        let Self { process, pipe_ends, .. } = self;
        let mut end = || {
            let (sender, ended) = oneshot::channel();
            pipe_ends.push(sender);
            ended
        };
        if let Some(stdin) = process.stdin.take() {
            // If the system refuses, feeding is only slower.
            let _ = rustix::pipe::fcntl_setpipe_size(&stdin, FEED_PIPE_BYTES);
            self.stdin = Some(InputPipe::new(stdin.into_owned_fd()?, end())?);
        }
        if let Some(stdout) = process.stdout.take() {
            self.stdout = Some(OutputPipe::new(stdout.into_owned_fd()?, end())?);
        }
        if let Some(stderr) = process.stderr.take() {
            self.stderr = Some(OutputPipe::new(stderr.into_owned_fd()?, end())?);
        }
        Ok(())
    }

    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// From now on dropping this does not kill the process: it continues if this process fails, as it does if this process
    /// is killed. The next run finds it by its [`ProcessId`].
    pub fn outlive(mut self) -> Self {
        self.outlives = true;
        self
    }

    /// Sends a signal to the process, not to its group.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Ended`] if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        self.id.signal(signal)
    }

    /// Whether the process has ended. [`Child::wait`] then only cleans up, which is bounded.
    pub fn has_ended(&self) -> bool {
        let State::Running = self.state else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::PidFd(self.ended.get_ref().as_fd()), options), Ok(Some(_)))
    }

    /// Waits for the end of the process, kills what is left of its group and of its descendants, reaps it, and ends its
    /// pipes.
    ///
    /// Cancel safe: it may be dropped and called again, and continues where it was.
    ///
    /// # Errors
    ///
    /// The operating system does not report how the process ended.
    pub async fn wait(&mut self) -> Result<ExitStatus, ProcessError> {
        loop {
            match &mut self.state {
                State::Running => {
                    let _readable = self.ended.readable().await.map_err(|source| self.error(source))?;
                    // Not reaped yet, so the group cannot belong to another process.
                    kill_group(self.group, Signal::KILL);
                    let status = self.process.wait().await.map_err(|source| self.error(source))?;
                    self.state = match self.tag {
                        Some(tag) => State::Cleaning { status, scan: kill_tagged(tag, self.id.start_time) },
                        None => State::Cleaned(status),
                    };
                }
                State::Cleaning { status, scan } => {
                    let status = *status;
                    // It fails only if this process is about to end.
                    let _ = scan.await;
                    self.state = State::Cleaned(status);
                }
                State::Cleaned(status) => {
                    self.pipe_ends.clear();
                    return Ok(*status);
                }
            }
        }
    }

    /// Stops the process: SIGTERM to the group, and SIGKILL after `grace`.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`]; [`ProcessError::Survived`] if even SIGKILL did not end it.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus, ProcessError> {
        if let State::Running = self.state {
            kill_group(self.group, Signal::TERM);
            if let Ok(ended) = tokio::time::timeout(grace, self.wait()).await {
                return ended;
            }
            if let State::Running = self.state {
                kill_group(self.group, Signal::KILL);
            }
        }
        match tokio::time::timeout(KILL_WAIT, self.wait()).await {
            Ok(ended) => ended,
            Err(_) => Err(ProcessError::Survived { pid: self.id.pid, seconds: KILL_WAIT.as_secs() }),
        }
    }

    fn kill_tagged_now(&self) {
        if let Some(tag) = self.tag {
            kill_tagged_now(tag, self.id.start_time);
        }
    }

    fn error(&self, source: io::Error) -> ProcessError {
        ProcessError::Control { action: "wait for", pid: self.id.pid, source }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        match self.state {
            // The runtime reaps it if it ends before this process does.
            State::Running if self.outlives => {}
            // The runtime reaps it.
            State::Running => {
                kill_group(self.group, Signal::KILL);
                self.kill_tagged_now();
            }
            State::Cleaning { .. } => self.kill_tagged_now(),
            State::Cleaned(_) => {}
        }
    }
}

/// Signals a group whose leader has not been reaped.
fn kill_group(group: Pid, signal: Signal) {
    match kill_process_group(group, signal) {
        // The group has ended, or only its leader is left, which waits to be reaped.
        Ok(()) | Err(Errno::SRCH | Errno::PERM) => {}
        Err(error) => {
            tracing::warn!(group = group.as_raw_nonzero().get(), %error, "cannot signal a process group")
        }
    }
}

struct Start {
    spawn: Spawn,
    runtime: tokio::runtime::Handle,
    reply: oneshot::Sender<Result<Child, ProcessError>>,
}

/// Returns the queue of the one thread that starts processes. This thread lives as long as this process, because the signal of
/// [`Spawn::dies_with_parent`] is sent when the thread that started the child ends, and the threads of a runtime end earlier.
fn spawner() -> io::Result<mpsc::Sender<Start>> {
    static SPAWNER: OnceLock<mpsc::Sender<Start>> = OnceLock::new();
    if let Some(spawner) = SPAWNER.get() {
        return Ok(spawner.clone());
    }
    let (starts, mut waiting) = mpsc::channel::<Start>(STARTS_WAITING_MAX);
    std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
        while let Some(Start { spawn, runtime, reply }) = waiting.blocking_recv() {
            let _runtime = runtime.enter();
            // If nobody waits any more, the child is dropped and thereby killed.
            let _ = reply.send(spawn.start_here());
        }
    })?;
    // If two callers get here at once, one wins; the other's channel closes, and its thread ends before it has started anything.
    Ok(SPAWNER.get_or_init(|| starts).clone())
}
