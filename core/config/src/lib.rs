//! The configuration: parsed into [`settings`], validated into a [`Config`], or refused with [`Faults`].
//!
//! 1. [`Config::load`] reads `config.json` and the environment, without side effects;
//! 2. syntax, schema and semantics are checked, and *all* faults are listed with line, column and what is allowed;
//! 3. the resulting [`Config`] is valid: globs and regular expressions are compiled, references are resolved.

pub mod address;
mod arrival;
mod checks;
mod explain;
mod fault;
pub mod follower;
mod globs;
pub(crate) mod in_use;
pub mod live;
mod location;
mod problems;
pub mod process_status;
mod program;
mod root_note;
mod schema;
mod semantics;
mod serving;
pub mod settings;
mod structure;
mod tenant;
#[cfg(test)]
mod tests;
mod validate;
mod view;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use xxhash_rust::xxh3::xxh3_64;

pub use arrival::ArrivalContract;
pub use fault::{Fault, Faults};
pub use globs::Globs;
pub use program::REJECTED;
pub use schema::schema_json;
pub use serving::{Serving, TlsFiles};
pub use view::{View, ViewKind, ViewLayer, ViewWindows};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Format;
use mysimbdp_model::topic::Topics;

/// The environment variables that take precedence over `config.json`.
pub const BROKER_VARIABLE: &str = "MYSIMBDP_BROKER";
pub const BROKER_PASSWORD_VARIABLE: &str = "MYSIMBDP_BROKER_PASSWORD";
pub const COREDMS_VARIABLE: &str = "MYSIMBDP_COREDMS";

/// A configuration that has been checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub layout: Layout,
    pub topics: Topics,
    /// `None` if the embedded broker is used; `state/broker.json` then holds its address.
    pub broker_url: Option<String>,
    pub broker_keep_alive: Duration,
    /// `mongodb://…` or `sqlite:<absolute directory>`.
    pub coredms_url: String,
    pub rules: Rules,
    pub serving: Serving,
    pub settings: settings::Settings,
    pub clients: BTreeMap<ClientId, Client>,
    /// The text that this was read from.
    pub(crate) text: Arc<str>,
    hash: String,
}

/// The generic rules, compiled.
#[derive(Clone, Debug)]
pub struct Rules {
    pub file_bytes_max: u64,
    pub file_name_bytes_max: usize,
    pub file_name_pattern: Regex,
}

/// A tenant, its rules compiled.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: ClientId,
    /// Its own database in coredms.
    pub database: String,
    pub globs: Globs,
    pub pattern: Option<Regex>,
    /// In lower case.
    pub extensions: Option<Vec<String>>,
    pub settle: Duration,
    /// In bytes; `None` if the client has no micro-batching.
    pub block_bytes_max: Option<u64>,
    pub apps: Vec<App>,
    /// Of all apps.
    pub contracts: Vec<ArrivalContract>,
    pub streams: Vec<Stream>,
    /// By name.
    pub views: BTreeMap<String, View>,
    pub settings: settings::Client,
}

/// A batch app, its globs compiled.
#[derive(Clone, Debug)]
pub struct App {
    pub name: String,
    pub files: Globs,
    pub collection: String,
    pub settings: settings::App,
}

/// A stream app, its defaults filled in.
#[derive(Clone, Debug)]
pub struct Stream {
    pub name: String,
    pub topic_filter: String,
    pub collection: String,
    pub settings: settings::Stream,
}

impl Config {
    /// Reads and checks `file`; `variable` looks up the environment.
    ///
    /// # Errors
    ///
    /// Every fault of the file and of the variables. A process that is started with such a config exits with
    /// [`mysimbdp_model::exit::CONFIG`].
    pub fn load(file: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Faults> {
        validate::load(file, variable)
    }

    /// The config that the running processes keep using while they refuse `file`; `None` if none of them runs.
    pub fn in_use(file: &Path, variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        in_use::load(file, variable)
    }

    /// Loads the config of a restarted process: `file`, or the config in use on `data_root` if the processes that run on it
    /// refuse `file`.
    ///
    /// # Errors
    ///
    /// As [`Config::load`], if there is no valid config in use either.
    pub fn load_for_restart(
        file: &Path,
        data_root: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Faults> {
        in_use::load_for_restart(file, data_root, variable)
    }

    pub fn client(&self, id: &ClientId) -> Option<&Client> {
        self.clients.get(id)
    }

    /// Identifies the text that this was read from: the XXH3 of its bytes.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// The hash of a config file's text.
fn hash_of(text: &str) -> String {
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

impl Client {
    /// The app that processes a file of this name: the first whose globs match.
    pub fn app_for(&self, file_name: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.files.is_match(file_name))
    }

    /// Whether a file of this name is expected by one of its contracts: it matches, and is one of the contract's app.
    pub fn expects(&self, contract: &ArrivalContract, file_name: impl AsRef<OsStr>) -> bool {
        let name = file_name.as_ref();
        contract.files.is_match(name)
            && self
                .apps
                .iter()
                .find(|app| app.files.is_match(name))
                .is_some_and(|app| app.name == contract.app)
    }

    pub fn app(&self, name: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.name == name)
    }

    /// Whether the store itself removes documents of the collection when they expire.
    pub fn expires(&self, collection: &str) -> bool {
        self.settings.collections.get(collection).is_some_and(|settings| settings.expires)
    }

    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.name == name)
    }
}

impl App {
    /// The format of a file of this name, for this app.
    pub fn format_of(&self, file_name: &str) -> Format {
        self.settings.format.unwrap_or_else(|| Format::of_file_name(file_name))
    }
}
