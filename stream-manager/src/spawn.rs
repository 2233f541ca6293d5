//! Starts a client's stream app in a slot.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use mysimbdp_config::{Client, Config, REJECTED, Stream};
use mysimbdp_model::app::{Ids, env};
use mysimbdp_platform::process::{Child, Output, ProcessError, Spawn, Stdin, find_program};

use crate::key::SlotKey;

/// How a stream's app would be started now, in any slot.
#[derive(Clone, Debug)]
pub(crate) struct Launch<'a> {
    config: &'a Config,
    client: &'a Client,
    stream: &'a Stream,
    /// The environment that all slots share.
    env: BTreeMap<String, String>,
}

impl<'a> Launch<'a> {
    pub(crate) fn new(config: &'a Config, client: &'a Client, stream: &'a Stream, broker_url: &str) -> Self {
        let manager = &config.settings.stream_manager;
        let settings = &stream.settings;
        let mut env = settings.env.clone();
        let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
        set(env::CLIENT_ID, client.id.to_string());
        set(env::COREDMS, config.coredms_url.clone());
        set(env::DATABASE, client.database.clone());
        set(env::COLLECTION, stream.collection.clone());
        set(env::REJECTED_COLLECTION, REJECTED.to_owned());
        set(env::IDS, settings.ids.as_str().to_owned());
        if settings.ids == Ids::Key {
            set(env::RECORD_KEY, settings.record_key.join(","));
        }
        set(env::BROKER, broker_url.to_owned());
        set(env::TOPIC_FILTER, topic_filter(client, stream));
        set(env::REPORT_TOPIC, config.topics.reports(&client.id));
        if client.views.values().any(|view| view.reads(&stream.collection)) {
            set(env::STORED_TOPIC, config.topics.stored(&client.id, &stream.name));
        }
        set(env::RECEIPT_TOPIC, config.topics.receipts_of(&client.id));
        set(env::GAP_DELAY_MILLIS, settings.gap_delay.duration().as_millis().to_string());
        set(env::REPORT_SECONDS, manager.report_every.duration().as_secs_f64().to_string());
        set(env::KEEP_ALIVE_SECONDS, config.broker_keep_alive.as_secs().to_string());
        set(env::BATCH_MESSAGES, settings.batch_messages_max.to_string());
        set(env::BATCH_MILLIS, settings.batch_wait_max.duration().as_millis().to_string());
        set(env::DRAIN_QUIET_MILLIS, manager.drain_quiet.duration().as_millis().to_string());
        if let Some(schema) = &settings.message_schema {
            set(env::MESSAGE_SCHEMA, schema.to_string());
        }
        Self { config, client, stream, env }
    }

    /// Returns a fingerprint of the command and settings. It is only compared for equality: another build may compute
    /// other numbers, which costs each instance one restart.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.stream.settings.command.hash(&mut hasher);
        self.env.hash(&mut hasher);
        hasher.finish()
    }

    /// Starts the app in a slot. The process must outlive this one, because a restarted manager adopts it. So its output
    /// goes to a file: writing to a pipe without a reader would end it.
    pub(crate) async fn start(&self, key: &SlotKey) -> Result<Child, ProcessError> {
        let (command, args) = self
            .stream
            .settings
            .command
            .split_first()
            .ok_or_else(|| ProcessError::NotFound { command: String::new(), searched: Vec::new() })?;
        let slot_env = [
            (env::INSTANCE, key.instance_name(self.config)),
            (env::SLOT, key.slot.to_string()),
            (env::INSTANCE_TOPIC, self.config.topics.instance(&self.client.id, &self.stream.name, key.slot)),
        ];
        let pair = |(name, value): (String, String)| (OsString::from(name), OsString::from(value));
        let slot_env = slot_env.map(|(name, value)| (name.to_owned(), value));
        let root = self.config.layout.root();
        let spawn = Spawn {
            program: find_program(command, root)?,
            args: args.iter().map(OsString::from).collect(),
            env: self.env.clone().into_iter().chain(slot_env).map(pair).collect(),
            directory: root.to_owned(),
            stdin: Stdin::Null,
            output: Output::AppendTo(log_file(self.config, self.client)),
            dies_with_parent: None,
            owner: Some(owner(self.config, key)),
        };
        Ok(spawn.start().await?.outlive())
    }
}

/// The app's subscription, which is shared: the broker gives each message to one of the stream's instances.
pub(crate) fn topic_filter(client: &Client, stream: &Stream) -> String {
    format!("$share/{}/{}", client.id, stream.topic_filter)
}

/// The file to which the output of all of a client's stream apps is appended.
pub(crate) fn log_file(config: &Config, client: &Client) -> PathBuf {
    config.layout.client_logs(&client.id).join("stream.log")
}

/// Returns the process tag of a slot's processes. It includes the data root, as another data root on this machine may
/// have the same clients.
pub(crate) fn owner(config: &Config, key: &SlotKey) -> String {
    format!("{}#{key}", config.layout.state().display())
}
