//! Defines how a client's program is run, as the config says.

use std::ffi::OsString;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_config::{App, Client, Config};
use mysimbdp_model::app::{Protocol, env};
use mysimbdp_platform::process::{Output, ProcessError, Signal, Spawn, Stdin, find_program};

/// A program and how it is run.
#[derive(Clone, Debug)]
pub struct Program {
    pub path: PathBuf,
    pub args: Vec<OsString>,
    /// Without the variables that describe a unit.
    pub env: Vec<(OsString, OsString)>,
    pub directory: PathBuf,
    pub protocol: Protocol,
    pub timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// The name under which processes that are left behind are found and killed: see
    /// [`mysimbdp_platform::process::kill_left_behind`].
    pub owner: String,
    pub log: AppLog,
}

/// The log for lines that a program writes for people.
#[derive(Clone)]
pub struct AppLog(Arc<TakeLine>);

type TakeLine = dyn Fn(&[u8]) + Send + Sync;

impl AppLog {
    pub fn new(take: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    pub(super) fn line(&self, line: &[u8]) {
        (self.0)(line);
    }
}

impl fmt::Debug for AppLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppLog")
    }
}

impl Program {
    /// Returns the program of a client's app.
    ///
    /// # Errors
    ///
    /// The program is not found.
    pub fn of_app(
        config: &Config,
        client: &Client,
        app: &App,
        owner: String,
        log: AppLog,
    ) -> Result<Self, ProcessError> {
        let (command, args) =
            app.settings.command.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        let own = [
            (env::CLIENT_ID, client.id.to_string()),
            (env::COREDMS, config.coredms_url.clone()),
            (env::DATABASE, client.database.clone()),
            (env::COLLECTION, app.collection.clone()),
            (env::IDS, app.settings.ids.as_str().to_owned()),
            (env::RECORD_KEY, app.settings.record_key.join(",")),
            (env::PROTOCOL, app.settings.protocol.as_str().to_owned()),
        ];
        let given = app.settings.env.iter().map(|(name, value)| (name.into(), value.into()));
        // The platform's own variables come last, so that the config cannot override them.
        let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
        Ok(Self {
            path: find_program(command, config.layout.root())?,
            args: args.iter().map(OsString::from).collect(),
            env: given.chain(own).collect(),
            directory: config.layout.root().to_owned(),
            protocol: app.settings.protocol,
            timeout: app.settings.timeout.duration(),
            stop_grace: config.settings.batch_manager.stop_grace.duration(),
            owner,
            log,
        })
    }

    /// Returns a hash that is equal for the same command and settings. It is valid only within this process.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.path, &self.args, &self.env, self.timeout, self.stop_grace).hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn spawn(&self, unit: impl IntoIterator<Item = (&'static str, String)>) -> Spawn {
        let unit = unit.into_iter().map(|(name, value)| (name.into(), value.into()));
        Spawn {
            program: self.path.clone(),
            args: self.args.clone(),
            env: self.env.iter().cloned().chain(unit).collect(),
            directory: self.directory.clone(),
            stdin: Stdin::Feed,
            output: Output::Piped,
            dies_with_parent: Some(Signal::KILL),
            owner: Some(self.owner.clone()),
        }
    }
}
