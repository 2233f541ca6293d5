//! A manager on a data root of its own, with shell scripts as stream apps.

use std::sync::Arc;
use std::time::Duration;

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::process::Signal;
use mysimbdp_stream_manager::Error;
use mysimbdp_stream_manager::control::client::{ControlError, request};
use mysimbdp_stream_manager::control::{Answer, ControlCommand, InstanceStatus, Request, StreamStatus};
use mysimbdp_stream_manager::instances::Registry;
use mysimbdp_testbed::{MosquittoHandle, Root, unique, until_async};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use mysimbdp_testbed::SOON;

/// Logs what it does, and obeys both signals. Like all these scripts, it ends by itself after a while.
pub(crate) const OBEDIENT: &str = r#"
trap 'echo "drained $MYSIMBDP_SLOT"; exit 0' USR1
trap 'echo "stopped $MYSIMBDP_SLOT"; exit 0' TERM
echo "started $MYSIMBDP_SLOT $MYSIMBDP_INSTANCE"
for _ in $(seq 60); do sleep 2 & wait $!; done
"#;

/// Ignores both signals.
pub(crate) const STUBBORN: &str = r#"
trap '' TERM
trap 'echo "asked $MYSIMBDP_SLOT"' USR1
echo "started $MYSIMBDP_SLOT"
for _ in $(seq 60); do sleep 2 & wait $!; done
"#;

/// Starts a daemon in a session of its own and without an environment; both ignore SIGTERM.
pub(crate) const FORKING: &str = r#"
trap '' TERM USR1
(env -i setsid sh -c 'echo "daemon $$"; for _ in $(seq 60); do sleep 2; done' &)
echo "started $MYSIMBDP_SLOT"
for _ in $(seq 60); do sleep 2 & wait $!; done
"#;

/// Crashes at once.
pub(crate) const CRASHING: &str = r#"
echo "started $MYSIMBDP_SLOT"
exit 3
"#;

/// A data root with clients `client1` (one stream) and `batchonly` (none).
pub(crate) struct Fixture {
    pub(crate) root: Root,
    pub(crate) broker: MosquittoHandle,
    pub(crate) prefix: String,
    pub(crate) config: Value,
}

/// A manager that runs in this process.
pub(crate) struct Running {
    pub(crate) config: Arc<Config>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<Result<(), Error>>,
}

impl Fixture {
    /// `app` is the script that `client1` runs, `stream` holds further fields of its stream.
    pub(crate) fn new(app: &str, stream: Value) -> Self {
        let broker = mysimbdp_testbed::mosquitto();
        let prefix = unique("streams");
        let mut settings = json!({"command": ["sh", "app.sh"], "instances": {"min": 0, "max": 3}});
        merge(&mut settings, stream);
        let config = json!({
            "broker": {"url": broker.url(), "topic_prefix": prefix},
            "stream_manager": {
                "report_every": "200ms", "backoff_first": "20ms", "backoff_max": "100ms", "restarts_max": 3,
                "stop_grace": "2s", "drain_quiet": "100ms",
            },
            "clients": [
                {"id": "client1", "streams": [settings]},
                {"id": "batchonly", "apps": [{"name": "documents", "command": ["true"]}]},
            ],
        });
        let root = Root::new(&config);
        std::fs::write(root.path().join("app.sh"), app).expect("write the app");
        Self { root, broker, prefix, config }
    }

    /// Adds settings of the manager.
    pub(crate) fn with_manager(mut self, settings: Value) -> Self {
        merge(&mut self.config["stream_manager"], settings);
        self.root.configure(&self.config);
        self
    }

    pub(crate) fn load(&self) -> Arc<Config> {
        Arc::new(Config::load(&self.root.config(), |_| None).expect("valid config"))
    }

    pub(crate) async fn start(&self) -> Running {
        let config = self.load();
        let (shutdown, stop) = watch::channel(false);
        let task = tokio::spawn(mysimbdp_stream_manager::run(Arc::clone(&config), stop));
        let running = Running { config, shutdown, task };
        until_async(SOON, "the manager answers", async || {
            running.ask(ControlCommand::List { client: None }).await.is_ok()
        })
        .await;
        running
    }

    pub(crate) fn log(&self) -> String {
        self.root.log("clients/client1/stream.log")
    }
}

impl Drop for Fixture {
    /// Instances outlive a manager that was not shut down, and would outlive a failed test too.
    fn drop(&mut self) {
        let records = Registry::open(&Layout::new(self.root.path())).and_then(|registry| registry.records());
        for process in records.into_iter().flatten().filter_map(|record| record.process) {
            // A process that has already ended needs no signal.
            let _ = process.id.signal_group(Signal::KILL);
        }
    }
}

impl Running {
    pub(crate) async fn ask(&self, command: ControlCommand) -> Result<Answer, ControlError> {
        let timeout = Duration::from_secs(15);
        request(&self.config.layout, &Request::new(command, timeout), timeout).await
    }

    /// Starts one more instance of `client1`; returns its slot and pid.
    pub(crate) async fn start_one(&self) -> (u32, u32) {
        match self.ask(ControlCommand::Start { client: client("client1"), pid: 0, stream: None }).await {
            Ok(Answer::Started { slot, pid, .. }) => (slot, pid),
            other => panic!("not started: {other:?}"),
        }
    }

    pub(crate) async fn status(&self) -> StreamStatus {
        match self.ask(ControlCommand::List { client: Some(client("client1")) }).await {
            Ok(Answer::Listed { mut streams }) => streams.remove(0),
            other => panic!("not listed: {other:?}"),
        }
    }

    pub(crate) async fn instances(&self) -> Vec<InstanceStatus> {
        self.status().await.instances
    }

    /// Returns slots and states in the form `0 running, 1 idle`.
    pub(crate) async fn states(&self) -> String {
        let states = self
            .instances()
            .await
            .into_iter()
            .map(|instance| format!("{} {}", instance.slot, instance.state));
        states.collect::<Vec<_>>().join(", ")
    }

    pub(crate) async fn until_states(&self, expected: &str) {
        until_async(SOON, &format!("the slots are {expected:?}"), async || self.states().await == expected)
            .await;
    }

    /// Shuts the manager down, like a person's Ctrl-C.
    pub(crate) async fn shut_down(self) {
        self.shutdown.send(true).expect("the manager runs");
        self.task.await.expect("no panic").expect("no error");
    }

    /// Aborts the manager, like `kill -9`: what it was doing is left unfinished.
    pub(crate) async fn abort(self) {
        self.task.abort();
        assert!(self.task.await.expect_err("it was aborted").is_cancelled());
    }
}

pub(crate) fn client(name: &str) -> ClientId {
    name.parse().expect("valid client id")
}

fn merge(into: &mut Value, from: Value) {
    let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) else { panic!("two objects") };
    into.extend(from);
}

/// The number of log lines that start with `text`.
pub(crate) fn count(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.starts_with(text)).count()
}
