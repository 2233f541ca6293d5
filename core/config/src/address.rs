//! The addresses of servers: the broker's is the configured one, or the one that this data root's embedded broker has
//! written down; the HTTP server of `mysimbdp serve` writes its own down in the same way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mysimbdp_broker::{ConnectOptions, FollowingLink, SIGNAL_BYTES_MAX};
use mysimbdp_model::error_chain;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::process::ProcessId;
use mysimbdp_platform::random;
use serde::{Deserialize, Serialize};

use crate::{BROKER_VARIABLE, Config};

/// What a server of this data root writes down, so that every process finds it: the embedded broker in
/// [`Layout::broker_state`](mysimbdp_model::layout::Layout::broker_state), the HTTP server in
/// [`Layout::serving_state`](mysimbdp_model::layout::Layout::serving_state).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    pub url: String,
    #[serde(flatten)]
    pub process: ProcessId,
}

/// There is no broker to connect to.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error(
        "no broker: none is configured (broker.url in config.json, or {BROKER_VARIABLE}), and no embedded one is started (start mysimbdp up, or mysimbdp broker)"
    )]
    NoBroker,
    #[error(
        "no broker: none is configured (broker.url in config.json, or {BROKER_VARIABLE}), and the embedded one of {} has \
         ended (start mysimbdp up, or mysimbdp broker)",
        state.display()
    )]
    Ended { state: PathBuf },
    #[error("cannot parse the address in {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(transparent)]
    File(#[from] FileError),
}

/// Returns the broker's address: the configured one, else that of the embedded broker that runs for this data root.
///
/// It may change whenever the embedded broker is started again.
///
/// # Errors
///
/// There is no broker; the error names both ways to get one.
pub fn broker(config: &Config) -> Result<String, AddressError> {
    if let Some(url) = &config.broker_url {
        return Ok(url.clone());
    }
    match ServerState::read(&config.layout.broker_state())? {
        Some(state) if state.process.alive() => Ok(state.url),
        Some(_) => Err(AddressError::Ended { state: config.layout.broker_state() }),
        None => Err(AddressError::NoBroker),
    }
}

/// Opens a session of `process_name` with the broker of this config, for small messages. Two sessions of the same process have
/// different client ids.
pub fn session(config: &Arc<Config>, process_name: &str, subscriptions: Vec<String>) -> FollowingLink {
    let prefix = config.settings.broker.topic_prefix.replace('/', "-");
    let options = ConnectOptions {
        keep_alive: config.broker_keep_alive,
        message_bytes_max: SIGNAL_BYTES_MAX,
        ..ConnectOptions::new("", format!("{prefix}-{process_name}-{:08x}", random::number() as u32))
    };
    let config = Arc::clone(config);
    FollowingLink::new(move || broker(&config).map_err(|error| error_chain(&error)), options, subscriptions)
}

impl ServerState {
    /// The state of a server that is this process and listens at `url`.
    pub fn of_this_process(url: impl Into<String>) -> Self {
        Self { url: url.into(), process: ProcessId::current() }
    }

    /// Reads what the last server wrote to this file, whether it still runs or not.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not the state of a server.
    pub fn read(path: &Path) -> Result<Option<Self>, AddressError> {
        match files::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| AddressError::Unreadable { path: path.to_owned(), source }),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Publishes this state. A concurrent reader sees either the old state or the new one.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), AddressError> {
        if let Some(directory) = path.parent() {
            files::create_dir_all(directory)?;
        }
        let text = serde_json::to_vec(self)
            .map_err(|source| AddressError::Unreadable { path: path.to_owned(), source })?;
        Ok(files::write_atomic(path, &text)?)
    }

    /// Removes the file if it still holds this state: a server that has been started meanwhile keeps its own.
    ///
    /// # Errors
    ///
    /// The file cannot be read or removed.
    pub fn remove(&self, path: &Path) -> Result<(), AddressError> {
        if Self::read(path)?.as_ref() == Some(self) {
            files::remove_file_if_exists(path)?;
        }
        Ok(())
    }
}

/// Returns the address of a broker or a store in a form that may be shown: without user and password.
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // The last `@` before the path: a password that has not been escaped may contain others.
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = match rest[..end].rfind('@').or_else(|| rest.rfind('@')) {
        Some(at) => &rest[at + 1..],
        None => rest,
    };
    format!("{scheme}://{host}")
}

/// Returns the server and the database of an address: without user, password and options.
pub fn server(url: &str) -> String {
    let shown = without_credentials(url);
    match shown.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['?', '#']).unwrap_or(rest.len());
            format!("{scheme}://{}", rest[..end].trim_end_matches('/'))
        }
        // A path: no character in it is special.
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().expect("temporary directory");
        let file = folder.path().join("config.json");
        let text = r#"{"clients": [{"id": "a", "streams": [{"command": ["x"]}]}]}"#;
        files::write_atomic(&file, text.as_bytes()).expect("config can be written");
        let set = |name: &str| (name == BROKER_VARIABLE).then(|| url.to_owned());
        let config = Config::load(&file, set).expect("a valid config");
        (folder, config)
    }

    #[test]
    fn a_configured_broker_takes_precedence_over_the_embedded_one() {
        let (_folder, config) = config("mqtt://127.0.0.1:1");
        let embedded = ServerState::of_this_process("mqtt://127.0.0.1:2");
        embedded.write(&config.layout.broker_state()).expect("state can be written");
        assert_eq!(broker(&config).ok().as_deref(), Some("mqtt://127.0.0.1:1"));
    }

    #[test]
    fn the_embedded_broker_is_found_while_it_runs() {
        let (_folder, config) = config("");
        let error = broker(&config).expect_err("no broker yet").to_string();
        assert!(error.contains("MYSIMBDP_BROKER") && error.contains("mysimbdp up"), "{error}");

        let state = ServerState::of_this_process("mqtt://127.0.0.1:2");
        state.write(&config.layout.broker_state()).expect("state can be written");
        assert_eq!(broker(&config).ok().as_deref(), Some("mqtt://127.0.0.1:2"));

        state.remove(&config.layout.broker_state()).expect("state can be removed");
        assert!(matches!(broker(&config), Err(AddressError::NoBroker)));
    }

    #[test]
    fn a_later_process_with_the_brokers_pid_is_not_the_broker() {
        let (_folder, config) = config("");
        let mut expired = ServerState::of_this_process("mqtt://127.0.0.1:2");
        expired.process.start_time += 1;
        expired.write(&config.layout.broker_state()).expect("state can be written");
        assert!(matches!(broker(&config), Err(AddressError::Ended { .. })));
        // Nor does it remove what another broker has written.
        ServerState::of_this_process("mqtt://127.0.0.1:3")
            .remove(&config.layout.broker_state())
            .expect("nothing to remove");
        assert_eq!(ServerState::read(&config.layout.broker_state()).expect("readable"), Some(expired));
    }

    #[test]
    fn an_unreadable_broker_state_is_named() {
        let (_folder, config) = config("");
        files::create_dir_all(&config.layout.state()).expect("state/");
        files::write_atomic(&config.layout.broker_state(), b"{").expect("a torn state");
        let error = broker(&config).expect_err("no state").to_string();
        assert!(error.contains("broker.json"), "{error}");
    }

    #[test]
    fn addresses_are_shown_without_user_and_password() {
        for (url, shown) in [
            ("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1883"),
            ("mqtts://user:p%40ss@host:8883", "mqtts://host:8883"),
            ("mongodb://user:p@ss@a,b/db?replicaSet=rs0", "mongodb://a,b/db?replicaSet=rs0"),
            ("mongodb://user:p/ss@a/db", "mongodb://a/db"),
            ("sqlite:/data/state", "sqlite:/data/state"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn a_server_is_the_same_for_every_user_and_all_options() {
        for (url, expected) in [
            ("mongodb://user:p@ss@a,b/?replicaSet=rs0", "mongodb://a,b"),
            ("mongodb://a,b", "mongodb://a,b"),
            ("mongodb://a,b?w=1", "mongodb://a,b"),
            ("sqlite:/data/what?/state", "sqlite:/data/what?/state"),
        ] {
            assert_eq!(server(url), expected);
        }
    }
}
