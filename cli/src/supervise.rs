//! Runs the platform's processes as children of this one: what `up` and `demo` share.
//!
//! 1. The embedded broker, where no other is configured or running for this data root; waits until it listens.
//! 2. fetchdata, batch-manager, stream-manager; waits until each holds its lock, which is when it is at work.
//! 3. Watches: a child that ends is started again, with back-off, unless its exit code says that it never can be.
//! 4. Stops them in reverse order, each within its deadline.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use mysimbdp_core::config::{self, Config};
use mysimbdp_core::io::process::{Child, Output, ProcessError, Signal, Spawn, Stdin};
use mysimbdp_core::io::{address, files};
use mysimbdp_core::{chain, exit, logging};
use tokio::sync::watch;

use crate::error::Failure;

/// A process that is not at work by then will not be: nothing in its start waits for a server.
const READY_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longer than the managers' own `stop_grace`, which they spend on the clients' apps.
const STOP_MARGIN: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// One of the platform's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Broker,
    Fetchdata,
    BatchManager,
    StreamManager,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Fetchdata => "fetchdata",
            Self::BatchManager => "batch-manager",
            Self::StreamManager => "stream-manager",
        }
    }

    /// The file that the role holds locked while it is at work.
    fn lock(self, config: &Config) -> PathBuf {
        let directory = match self {
            Self::Broker => config.layout.embedded_broker(),
            Self::Fetchdata => config.layout.drop_point(),
            Self::BatchManager => config.layout.staging(),
            Self::StreamManager => config.layout.state(),
        };
        directory.join(format!(".{}.lock", self.name()))
    }
}

/// The running platform.
#[derive(Debug)]
pub struct Platform {
    /// In the order of their start.
    processes: Vec<Supervised>,
    config_file: PathBuf,
    output: Output,
    stop_within: Duration,
}

#[derive(Debug)]
struct Supervised {
    role: Role,
    child: Child,
    started: Instant,
    /// Ends in a row that came before `BACKOFF_MAX` of life.
    early_ends: u32,
}

impl Platform {
    /// Starts everything and returns when all of it is at work.
    pub async fn start(config: &Config, config_file: &Path, output: Output) -> Result<Self, Failure> {
        let stop_grace = config
            .settings
            .batch_manager
            .stop_grace
            .duration()
            .max(config.settings.stream_manager.stop_grace.duration());
        let mut platform = Self {
            processes: Vec::new(),
            config_file: std::path::absolute(config_file).map_err(|error| Failure::of(exit::IO, &error))?,
            output,
            stop_within: stop_grace + STOP_MARGIN,
        };
        let mut roles = vec![Role::Fetchdata, Role::BatchManager, Role::StreamManager];
        if address::broker(config).is_err() {
            roles.insert(0, Role::Broker);
        }
        match platform.start_all(config, &roles).await {
            Ok(()) => Ok(platform),
            Err(failure) => {
                platform.stop().await;
                Err(failure)
            }
        }
    }

    async fn start_all(&mut self, config: &Config, roles: &[Role]) -> Result<(), Failure> {
        for &role in roles {
            let child = self.spawn(role).await?;
            self.processes.push(Supervised { role, child, started: Instant::now(), early_ends: 0 });
            // The others look for the broker's address when they start.
            if role == Role::Broker {
                self.wait_ready(config).await?;
            }
        }
        self.wait_ready(config).await
    }

    async fn spawn(&self, role: Role) -> Result<Child, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::of(exit::IO, &error))?;
        let inherited = [config::BROKER_VARIABLE, config::COREDMS_VARIABLE, logging::LEVEL_VARIABLE];
        let env =
            inherited.iter().filter_map(|name| Some(((*name).into(), std::env::var_os(name)?))).collect();
        let directory = std::env::current_dir().map_err(|error| Failure::of(exit::IO, &error))?;
        Spawn {
            program,
            args: vec![role.name().into(), "--config".into(), self.config_file.clone().into()],
            env,
            directory,
            stdin: Stdin::Null,
            output: self.output.clone(),
            // They stop in order, as if asked to.
            dies_with_parent: Some(Signal::TERM),
            owner: role.name().to_owned(),
        }
        .start()
        .await
        .map_err(failure)
    }

    /// Waits until each process holds its lock, which names its pid.
    async fn wait_ready(&mut self, config: &Config) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        for process in &mut self.processes {
            let (lock, mark) = (process.role.lock(config), format!("pid {} ", process.child.id().pid));
            loop {
                if let Some(status) = ended(&mut process.child).await? {
                    let code = exit_code(status).unwrap_or(exit::SOFTWARE);
                    return Err(Failure::new(
                        code,
                        format!("{} ended at its start: {status}", process.role.name()),
                    ));
                }
                let holds_lock = files::read_to_string(&lock).is_ok_and(|holder| holder.starts_with(&mark));
                let has_address = process.role != Role::Broker || address::broker(config).is_ok();
                if holds_lock && has_address {
                    break;
                }
                if Instant::now() >= deadline {
                    let name = process.role.name();
                    return Err(Failure::new(
                        exit::UNAVAILABLE,
                        format!("{name} is not at work after {READY_WITHIN:?}"),
                    ));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Restarts what ends, until `shutdown` or an end that no restart can mend.
    pub async fn watch(&mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), Failure> {
        loop {
            if *shutdown.borrow() {
                return Ok(());
            }
            self.restart_ended(&mut shutdown).await?;
            let tick = tokio::time::timeout(Duration::from_millis(200), shutdown.changed()).await;
            if matches!(tick, Ok(Err(_))) {
                return Ok(());
            }
        }
    }

    async fn restart_ended(&mut self, shutdown: &mut watch::Receiver<bool>) -> Result<(), Failure> {
        for position in 0..self.processes.len() {
            let process = &mut self.processes[position];
            let Some(status) = ended(&mut process.child).await? else {
                continue;
            };
            let name = process.role.name();
            // A config with faults is none of the reasons: it had none when all this started, and may be mended.
            if let Some(code) = exit_code(status)
                && code == exit::NO_PERMISSION
            {
                return Err(Failure::new(code, format!("{name} cannot go on: {status}")));
            }
            process.early_ends =
                if process.started.elapsed() < BACKOFF_MAX { process.early_ends + 1 } else { 1 };
            let wait = BACKOFF_MAX.min(BACKOFF_FIRST * 2u32.pow(process.early_ends.min(8) - 1));
            tracing::warn!(process = name, %status, wait_seconds = wait.as_secs_f64(), "process ended, will be started again");
            if tokio::time::timeout(wait, shutdown.wait_for(|stop| *stop)).await.is_ok() {
                return Ok(());
            }
            let child = self.spawn(self.processes[position].role).await?;
            self.processes[position].child = child;
            self.processes[position].started = Instant::now();
        }
        Ok(())
    }

    /// Stops all, last started first; the broker outlives those who talk through it.
    pub async fn stop(&mut self) {
        while let Some(mut process) = self.processes.pop() {
            if let Err(error) = process.child.stop(self.stop_within).await {
                tracing::error!(process = process.role.name(), error = %chain(&error), "process did not stop");
            }
        }
    }
}

/// How the child ended, or `None` while it runs.
async fn ended(child: &mut Child) -> Result<Option<ExitStatus>, Failure> {
    match tokio::time::timeout(Duration::ZERO, child.wait()).await {
        Ok(status) => status.map(Some).map_err(failure),
        Err(_) => Ok(None),
    }
}

fn exit_code(status: ExitStatus) -> Option<u8> {
    status.code().and_then(|code| u8::try_from(code).ok())
}

fn failure(error: ProcessError) -> Failure {
    Failure::of(exit::SOFTWARE, &error)
}
