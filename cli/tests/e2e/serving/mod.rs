//! The HTTP server: what it answers on both stores, to whom, and when something is unavailable.

pub(crate) mod access;
mod arrivals;
mod contract;
mod dashboard;
mod drops;
pub(crate) mod events;
mod files;
mod latest;
mod measurements;
mod metrics;
mod objects;
mod outages;
mod records;
mod streams;
mod windows;

use std::path::Path;

use mysimbdp_testbed::{Daemon, Http, Root, Signal, descendants, is_running, mongodb, signal, unique, until};
use serde_json::{Value, json};

use crate::support::SOON;

/// The platform with its HTTP server.
pub(crate) struct Served {
    pub(crate) root: Root,
    pub(crate) up: Daemon,
    pub(crate) http: Http,
}

/// Runs a test on each store.
macro_rules! on_both {
    ($($case:ident,)*) => {
        mod on_mongodb {
            $(#[test]
            fn $case() {
                super::$case(&super::super::on_mongodb());
            })*
        }

        mod on_embedded {
            $(#[test]
            fn $case() {
                super::$case(&serde_json::json!({}));
            })*
        }
    };
}
use on_both;

/// The section of the config that names a database of its own in MongoDB.
fn on_mongodb() -> Value {
    json!({"url": mongodb().url(), "database": unique("e2e")})
}

impl Served {
    /// Starts everything for these clients.
    pub(crate) fn start(coredms: &Value, clients: Value) -> Self {
        Self::configured(json!({
            "coredms": coredms,
            "fetchdata": {"settle": "100ms", "scan_every": "1s"},
            "batch_manager": {"scan_every": "1s", "backoff_first": "100ms"},
            "clients": clients,
        }))
    }

    pub(crate) fn configured(mut config: Value) -> Self {
        // Not the first free port, which another test's server would take as soon as this one is killed.
        if config["serving"]["listen"].is_null() {
            config["serving"]["listen"] = json!("127.0.0.1:0");
        }
        Self::on(Root::new(&config))
    }

    /// Starts everything on this data root.
    pub(crate) fn on(root: Root) -> Self {
        let up = Daemon::start(&root, &["up"], &[]);
        Self::of(root, up)
    }

    /// Waits until what was started is ready.
    pub(crate) fn of(root: Root, mut up: Daemon) -> Self {
        up.until_output(SOON, "ready after");
        let http = Http::new(&url(root.path()));
        Self { root, up, http }
    }

    /// Waits until exactly one file is in this state, and returns it.
    pub(crate) fn until_file(&self, state: &str) -> Value {
        let list = || self.http.get(&format!("/api/files?state={state}")).expect(200)["items"].clone();
        until(SOON, &format!("a file is {state}"), || {
            list().as_array().is_some_and(|files| files.len() == 1)
        });
        list()[0].clone()
    }

    /// The pid of the HTTP server while it runs.
    pub(crate) fn server(&self) -> Option<u32> {
        let words = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut children = descendants(self.up.pid()).into_iter();
        children.find(|pid| words(pid).split('\0').any(|word| word == "serve"))
    }

    /// Kills the HTTP server, and waits until another one answers.
    pub(crate) fn kill_server(&mut self) {
        let killed = self.server().expect("it runs");
        signal(killed, Signal::KILL);
        until(SOON, "it runs again", || self.server().is_some_and(|pid| pid != killed));
        self.http = Http::new(&url(self.root.path()));
    }

    pub(crate) fn stop(mut self) {
        assert!(self.up.interrupt().success(), "{}", self.up.output());
    }
}

/// Waits for the address of the server that runs on this data root. A killed one has left its own.
pub(crate) fn url(root: &Path) -> String {
    let state = || -> Option<Value> {
        let state: Value =
            serde_json::from_slice(&std::fs::read(root.join("state/serving.json")).ok()?).ok()?;
        is_running(u32::try_from(state["pid"].as_u64()?).ok()?).then_some(state)
    };
    until(SOON, "the server listens", || state().is_some());
    state().expect("just seen")["url"].as_str().expect("an address").to_owned()
}
