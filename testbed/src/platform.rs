//! A platform on real servers: data root, config, databases and topics of its own.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::store::Store;
use crate::{Daemon, Root, mongodb, mosquitto, unique};

/// Dropping a few databases takes less than a second; a server that the test has stopped is not waited for longer.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);

/// A data root whose config names the servers. Its databases are removed when it is dropped.
#[derive(Debug)]
pub struct Platform {
    pub root: Root,
    config: Value,
}

impl Platform {
    /// On the servers that tests share; what the config says of topics and databases stays.
    ///
    /// # Panics
    ///
    /// If a server is missing.
    pub fn new(config: Value) -> Self {
        Self::on(mosquitto().url(), mongodb().url(), config)
    }

    /// On servers of the test's own.
    ///
    /// # Panics
    ///
    /// If the data root cannot be written.
    pub fn on(broker: &str, coredms: &str, mut config: Value) -> Self {
        let name = unique("test");
        config["broker"]["url"] = json!(broker);
        config["coredms"]["url"] = json!(coredms);
        set_default(&mut config["broker"]["topic_prefix"], &name);
        set_default(&mut config["coredms"]["database"], &name);
        Self { root: Root::new(&config), config }
    }

    /// What is in `config.json`, for [`Root::configure`] with a change.
    pub fn config(&self) -> &Value {
        &self.config
    }

    pub fn broker_url(&self) -> &str {
        text(&self.config["broker"]["url"])
    }

    pub fn coredms_url(&self) -> &str {
        text(&self.config["coredms"]["url"])
    }

    pub fn database(&self) -> &str {
        text(&self.config["coredms"]["database"])
    }

    /// A topic below the platform's prefix, such as `ingest/client1`.
    pub fn topic(&self, rest: &str) -> String {
        format!("{}/{rest}", text(&self.config["broker"]["topic_prefix"]))
    }

    /// The databases of this platform.
    pub async fn store(&self) -> Store {
        Store::new(self.coredms_url(), self.database()).await
    }

    /// Starts `mysimbdp <command>`, such as `fetchdata`.
    ///
    /// # Panics
    ///
    /// If it is not built or cannot be started.
    #[track_caller]
    pub fn start(&self, command: &[&str]) -> Daemon {
        Daemon::start(&self.root, command, &[])
    }

    /// Runs `mysimbdp <command>` to its end.
    ///
    /// # Panics
    ///
    /// If it is not built or does not end.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> Output {
        Daemon::run(&self.root, command, &[])
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let (coredms, database) = (self.coredms_url().to_owned(), self.database().to_owned());
        // A thread of its own, as a test drops it within a runtime.
        let removal = std::thread::spawn(move || {
            let remove = async { Store::new(&coredms, &database).await.remove().await };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::time::timeout(REMOVE_WITHIN, remove).await.map_err(std::io::Error::from)
            })
        });
        // A server that the test has stopped for good takes its databases with it.
        let _ = removal.join();
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn set_default(value: &mut Value, default: &str) {
    if value.is_null() {
        *value = json!(default);
    }
}
