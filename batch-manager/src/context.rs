//! What all tasks of the manager share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mysimbdp_config::{App, Client, Config};
use mysimbdp_model::app::Protocol;
use mysimbdp_model::client::ClientId;
use mysimbdp_platform::process::ProcessError;
use mysimbdp_telemetry::logging::ClientLog;
use tokio::sync::watch;

use crate::outbox::Outbox;
use crate::run::{AppLog, Program, Workers};
use crate::stores::Stores;

#[derive(Debug)]
pub(crate) struct Context {
    /// The config at the start. Use it only for settings that do not change while the process runs.
    pub(crate) config: Arc<Config>,
    /// The name by which the started processes are found again.
    pub(crate) owner: String,
    pub(crate) stores: Stores,
    pub(crate) workers: Workers,
    pub(crate) outbox: Outbox,
    /// True when running apps must stop.
    pub(crate) stop: watch::Sender<bool>,
    logs: Mutex<BTreeMap<ClientId, AppLog>>,
}

impl Context {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            owner: format!("{} {}", crate::PROCESS_NAME, config.layout.staging().display()),
            stores: Stores::new(Arc::clone(&config)),
            workers: Workers::default(),
            outbox: Outbox::new(&config.layout, config.topics.clone()),
            stop: watch::Sender::new(false),
            logs: Mutex::default(),
            config,
        }
    }

    /// Returns the program of a client's app, under this config.
    pub(crate) fn program(
        &self,
        config: &Config,
        client: &Client,
        app: &App,
    ) -> Result<Program, ProcessError> {
        Program::of_app(config, client, app, self.owner.clone(), self.log(client))
    }

    /// Returns the key under which workers of an app wait: other settings make another program.
    pub(crate) fn worker_key(client: &Client, app: &App, program: &Program) -> String {
        debug_assert_eq!(app.settings.protocol, Protocol::Worker);
        format!("{}/{}/{:016x}", client.id, app.name, program.fingerprint())
    }

    /// Returns the log of the client's batch apps. If it cannot be opened, the lines go to the manager's own log.
    fn log(&self, client: &Client) -> AppLog {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.get(&client.id) {
            return log.clone();
        }
        let path = self.config.layout.client_logs(&client.id).join("batch.log");
        let log = match ClientLog::open(&path, &self.config.settings.logs) {
            Ok(log) => AppLog::new(move |line| log.line(line)),
            Err(error) => {
                let error = mysimbdp_model::error_chain(&error);
                tracing::warn!(client = %client.id, error, "cannot open the log of the client's apps, their lines go to this log");
                let client = client.id.clone();
                AppLog::new(move |line| {
                    tracing::info!(%client, line = %String::from_utf8_lossy(line), "app wrote");
                })
            }
        };
        logs.insert(client.id.clone(), log.clone());
        log
    }
}
