//! Runs the platform's processes as child processes, for `up` and `demo`.
//!
//! 0. Locks the data root: from now on it counts as in use, with this config, even while none of the processes runs.
//! 1. Starts the embedded broker if no other one is configured or runs for this data root, and waits until it listens.
//! 2. Starts fetchdata, batch-manager, stream-manager and the HTTP server, and waits until each holds its lock: then it is at
//!    work.
//! 3. Watches them: a process that ends is started again, with back-off, unless its exit code says that a restart
//!    cannot help.
//! 4. Stops them in reverse order, each within its deadline.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use futures::future::select_all;
use mysimbdp_config::process_status::{Found, ProcessStatus, find};
use mysimbdp_config::{Config, address};
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_model::{error_chain, exit};
use mysimbdp_platform::lock::{self, Holder, Lock, LockError};
use mysimbdp_platform::process::{Child, Output, ProcessError, Signal, Spawn, Stdin};
use mysimbdp_telemetry::logging;
use mysimbdp_telemetry::metrics::{Endpoint, metrics};
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;

use crate::error::CommandError;

/// A process needs no server to start, so if it does not hold its lock by then, it has failed.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How often the locks of starting processes are checked.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// Added to the managers' own `stop_grace`, within which they stop the clients' apps.
const STOP_MARGIN: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The running platform.
#[derive(Debug)]
pub struct Supervisor {
    /// In the order in which they were started.
    processes: Vec<Supervised>,
    program: PathBuf,
    directory: PathBuf,
    config_file: PathBuf,
    /// Where the config is that all of them run with, even if `config_file` has changed since.
    data_root: PathBuf,
    output: Output,
    stop_within: Duration,
    // Before the lock, because fields are dropped in this order.
    _endpoint: Endpoint,
    _lock: Lock,
    _status: ProcessStatus,
}

#[derive(Debug)]
struct Supervised {
    kind: ProcessKind,
    state: State,
    /// How many times in a row the process has ended within `BACKOFF_MAX` of its start; 1 after a longer life.
    early_ends: u32,
}

#[derive(Debug)]
enum State {
    Running { child: Box<Child>, since: Instant },
    CoolingDown { until: Instant },
}

/// What has happened to a process.
enum Event {
    Ended(ExitStatus),
    CooledDown,
}

impl Supervised {
    fn new(kind: ProcessKind, child: Child) -> Self {
        Self { kind, state: State::running(child), early_ends: 0 }
    }

    /// Waits for the next event of the process. May be dropped at any await.
    async fn next(&mut self) -> Result<Event, CommandError> {
        match &mut self.state {
            State::Running { child, .. } => child.wait().await.map(Event::Ended).map_err(failure),
            State::CoolingDown { until } => {
                sleep_until((*until).into()).await;
                Ok(Event::CooledDown)
            }
        }
    }

    /// Schedules the next start of a process that has ended.
    ///
    /// # Errors
    ///
    /// A restart would not help.
    fn note_end(&mut self, status: ExitStatus) -> Result<(), CommandError> {
        let process = self.kind.name();
        if exit_code(status) == Some(exit::NO_PERMISSION) {
            return Err(CommandError::new(
                exit::NO_PERMISSION,
                format!("{process} cannot continue: {status}"),
            ));
        }
        let wait_seconds = self.cool_down().as_secs_f64();
        tracing::warn!(process, %status, wait_seconds, "process ended, restarting it after the wait");
        Ok(())
    }

    /// Delays the next start, longer after each early end. Returns the delay.
    fn cool_down(&mut self) -> Duration {
        let is_early = !matches!(self.state, State::Running { since, .. } if since.elapsed() >= BACKOFF_MAX);
        self.early_ends = if is_early { self.early_ends.saturating_add(1) } else { 1 };
        let wait = BACKOFF_MAX.min(BACKOFF_FIRST * 2u32.pow(self.early_ends.min(8) - 1));
        self.state = State::CoolingDown { until: Instant::now() + wait };
        wait
    }
}

/// Whether it helps to start a process again that ended during its start: it was killed, something was unavailable for a
/// moment, or a process that an earlier `up` left behind held its lock.
fn may_start_again(config: &Config, kind: ProcessKind, status: ExitStatus) -> bool {
    match exit_code(status) {
        None | Some(exit::OS_ERROR | exit::IO | exit::TEMPORARY | exit::UNAVAILABLE) => true,
        Some(exit::NO_PERMISSION) => match find(&config.layout, kind) {
            Ok(Found::Running(_, Some(holder))) => holder.is_orphan(),
            // It has ended in the meantime.
            Ok(Found::NotRunning) => true,
            _ => false,
        },
        Some(_) => false,
    }
}

/// Waits for the process of this kind that an earlier `up` has left: it ends as soon as its work allows. Returns for how
/// long it has waited.
async fn wait_for_predecessor(config: &Config, kind: ProcessKind) -> Duration {
    let (started, mut is_reported) = (Instant::now(), false);
    while let Ok(Found::Running(process, Some(status))) = find(&config.layout, kind)
        && status.is_orphan()
    {
        if !is_reported {
            let (name, pid) = (kind.name(), process.pid);
            println!("waits for the {name} of an earlier `mysimbdp up` to end (pid {pid})");
            is_reported = true;
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
    started.elapsed()
}

impl State {
    fn running(child: Child) -> Self {
        Self::Running { child: Box::new(child), since: Instant::now() }
    }
}

/// Waits for the first event of any process, and returns it with the position of the process. May be dropped at any
/// await.
async fn first_event(processes: &mut [Supervised]) -> Result<(usize, Event), CommandError> {
    let events = processes.iter_mut().map(|process| Box::pin(process.next()));
    let (event, position, _) = select_all(events).await;
    Ok((position, event?))
}

impl Supervisor {
    /// Starts all processes. Returns when all of them are at work, or when a shutdown is requested.
    pub async fn start(
        config: &Config,
        config_file: &Path,
        output: Output,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<Self, CommandError> {
        let stop_grace = config
            .settings
            .batch_manager
            .stop_grace
            .duration()
            .max(config.settings.stream_manager.stop_grace.duration());
        let io = |error| CommandError::of(exit::IO, &error);
        let kind = ProcessKind::Up;
        let lock = Lock::take(&kind.locked_directory(&config.layout), kind.name()).map_err(|error| {
            let held = matches!(error, LockError::Held { .. });
            CommandError::of(if held { exit::NO_PERMISSION } else { exit::IO }, &error)
        })?;
        let mut platform = Self {
            processes: Vec::new(),
            program: std::env::current_exe().map_err(io)?,
            directory: std::env::current_dir().map_err(io)?,
            config_file: std::path::absolute(config_file).map_err(io)?,
            data_root: config.layout.root().to_owned(),
            output,
            stop_within: stop_grace + STOP_MARGIN,
            _lock: lock,
            _endpoint: Endpoint::start(&config.layout, kind.name()),
            _status: ProcessStatus::of_follower(config, config_file, kind.name()),
        };
        let mut kinds = ProcessKind::FOLLOWERS.to_vec();
        if address::broker(config).is_err() {
            kinds.insert(0, ProcessKind::Broker);
        }
        let started = tokio::select! {
            started = platform.start_all(config, &kinds) => started,
            _ = shutdown.wait_for(|stop| *stop) => Ok(()),
        };
        match started {
            Ok(()) => Ok(platform),
            Err(failure) => {
                platform.stop().await;
                Err(failure)
            }
        }
    }

    async fn start_all(&mut self, config: &Config, kinds: &[ProcessKind]) -> Result<(), CommandError> {
        for &kind in kinds {
            wait_for_predecessor(config, kind).await;
            let child = self.spawn(kind, &[]).await.map_err(failure)?;
            self.processes.push(Supervised::new(kind, child));
            // Shown as 0, so that the first restart is an increase.
            metrics().process_restarts.with([kind.name()]);
            // The other processes read the broker's address when they start.
            if kind == ProcessKind::Broker {
                self.wait_ready(config).await?;
            }
        }
        self.wait_ready(config).await
    }

    async fn spawn(&self, kind: ProcessKind, options: &[&OsStr]) -> Result<Child, ProcessError> {
        let inherited = [
            mysimbdp_config::BROKER_VARIABLE,
            mysimbdp_config::BROKER_PASSWORD_VARIABLE,
            mysimbdp_config::COREDMS_VARIABLE,
            logging::LEVEL_VARIABLE,
        ];
        let env =
            inherited.iter().filter_map(|name| Some(((*name).into(), std::env::var_os(name)?))).collect();
        let words = [kind.name().as_ref(), "--config".as_ref(), self.config_file.as_os_str()];
        Spawn {
            program: self.program.clone(),
            args: words.iter().chain(options).map(OsString::from).collect(),
            env,
            directory: self.directory.clone(),
            stdin: Stdin::Null,
            output: self.output.clone(),
            // If this process dies, they stop in an orderly way, as on request.
            dies_with_parent: Some(Signal::TERM),
            owner: None,
        }
        .start()
        .await
    }

    /// Waits until each process holds its lock, which names its pid. A process that ends meanwhile is started again if
    /// that may help.
    async fn wait_ready(&mut self, config: &Config) -> Result<(), CommandError> {
        let started = Instant::now();
        for position in 0..self.processes.len() {
            let kind = self.processes[position].kind;
            let (name, directory) = (kind.name(), kind.locked_directory(&config.layout));
            let mut ready_by = started + READY_WITHIN;
            while let State::Running { child, .. } = &mut self.processes[position].state {
                let own = Holder::Here(child.id().pid);
                let holds_lock = lock::holder(&directory, name).is_ok_and(|holder| holder == own);
                let has_address = kind != ProcessKind::Broker || address::broker(config).is_ok();
                if holds_lock && has_address {
                    break;
                }
                if child.has_ended() {
                    let status = child.wait().await.map_err(failure)?;
                    if !may_start_again(config, kind, status) || Instant::now() >= ready_by {
                        let code = exit_code(status).unwrap_or(exit::SOFTWARE);
                        return Err(CommandError::new(code, format!("{name} ended at its start: {status}")));
                    }
                    tracing::warn!(process = name, %status, "process ended at its start, restarting it");
                    tokio::time::sleep(BACKOFF_FIRST).await;
                    ready_by += wait_for_predecessor(config, kind).await;
                    let child = self.spawn(kind, &[]).await.map_err(failure)?;
                    self.processes[position].state = State::running(child);
                } else if Instant::now() >= ready_by {
                    let message = format!("{name} is not ready after {:?}", started.elapsed());
                    return Err(CommandError::new(exit::UNAVAILABLE, message));
                }
                tokio::time::sleep(POLL_EVERY).await;
            }
        }
        Ok(())
    }

    /// Starts processes again that end, until `shutdown`, or until one ends that a restart would not help. Forwards
    /// `reload` to the processes.
    pub async fn watch(
        &mut self,
        mut shutdown: watch::Receiver<bool>,
        reload: &Notify,
    ) -> Result<(), CommandError> {
        loop {
            let (position, event) = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                () = reload.notified() => {
                    self.reload();
                    continue;
                }
                event = first_event(&mut self.processes) => event?,
            };
            match event {
                Event::Ended(status) => self.processes[position].note_end(status)?,
                Event::CooledDown => self.start_again(position).await,
            }
        }
    }

    fn reload(&self) {
        for process in &self.processes {
            // A process that is just starting reads the file anyway, and the signal would kill it.
            if let State::Running { child, .. } = &process.state
                && child.id().handles_signal(Signal::HUP)
            {
                // This fails only if the process has ended, which the loop notices.
                let _ = child.signal(Signal::HUP);
            }
        }
    }

    async fn start_again(&mut self, position: usize) {
        let options = ["--in-place-of".as_ref(), self.data_root.as_os_str()];
        let started = self.spawn(self.processes[position].kind, &options).await;
        let process = &mut self.processes[position];
        match started {
            Ok(child) => {
                process.state = State::running(child);
                metrics().process_restarts.with([process.kind.name()]).inc();
            }
            Err(error) => {
                let wait_seconds = process.cool_down().as_secs_f64();
                let (process, error) = (process.kind.name(), error_chain(&error));
                tracing::warn!(
                    process,
                    error,
                    wait_seconds,
                    "cannot start the process, trying again after the wait"
                );
            }
        }
    }

    /// Stops all processes, the last started first: the broker outlives those that communicate through it.
    pub async fn stop(&mut self) {
        while let Some(Supervised { kind, state, .. }) = self.processes.pop() {
            let State::Running { mut child, .. } = state else { continue };
            if let Err(error) = child.stop(self.stop_within).await {
                tracing::error!(process = kind.name(), error = %error_chain(&error), "process did not stop");
            }
        }
    }
}

fn exit_code(status: ExitStatus) -> Option<u8> {
    status.code().and_then(|code| u8::try_from(code).ok())
}

fn failure(error: ProcessError) -> CommandError {
    CommandError::of(exit::SOFTWARE, &error)
}
