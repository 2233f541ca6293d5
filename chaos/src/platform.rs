//! Everything that runs (the servers, the platform, the edges), and how faults are injected into it.

use std::time::Duration;

use mysimbdp_testbed::{Daemon, Mongod, Mosquitto, Proxy, Root, Signal, signal_if_running, unique};
use serde_json::{Value, json};

use crate::logs::{LogFiles, SOURCES};
use crate::plan::{ChaosTarget, InjectedFault, TargetKind};

/// A client whose files are split, and whose app is started for each micro-batch.
pub const SPLIT: &str = "split";
/// A client with many small files, whose app keeps running.
pub const WORKER: &str = "worker";
/// A client that sends messages.
pub const STREAM: &str = "stream";

/// The collection to which the apps write.
pub const COLLECTION: &str = "readings";

/// The delay of a packet to or from the database, in each direction.
const DELAYS_MS: std::ops::Range<u64> = 1..25;

/// How long to wait for an app to run, so that a fault can be injected into it.
const APP_WITHIN: Duration = Duration::from_secs(5);
const CHECK_EVERY: Duration = Duration::from_millis(5);

/// The running servers, platform and edges.
#[derive(Debug)]
pub struct TestPlatform {
    // Before the servers and the root, because fields are dropped in this order.
    fetchdata: Daemon,
    batch_manager: Daemon,
    stream_manager: Daemon,
    edges: [Daemon; SOURCES.len()],
    /// Handles of killed managers: dropping them would end the instances that their successors have adopted.
    killed: Vec<Daemon>,
    /// Paused apps, which are not child processes of this program.
    paused: Vec<(InjectedFault, u32)>,
    broker: Mosquitto,
    database: Mongod,
    /// A proxy in front of the database.
    network: Proxy,
    pub logs: LogFiles,
    pub root: Root,
    pub database_name: String,
}

impl TestPlatform {
    /// Starts everything. All other methods must be called on the same thread.
    pub fn start(seed: u64) -> Self {
        let (broker, database, name) = (Mosquitto::start(), Mongod::start(), unique("chaos"));
        let network = Proxy::before_mongodb(&database.url());
        let root = Root::new(&config(&broker.url(), &network.mongodb_url(), &name));
        let logs = LogFiles::new(&root, seed);
        let start = |name: &str| Daemon::start(&root, &[name], &[]);
        let (fetchdata, batch_manager) = (start("fetchdata"), start("batch-manager"));
        let (stream_manager, edges) =
            (start("stream-manager"), SOURCES.map(|source| edge(&root, &logs, source)));
        Self {
            fetchdata,
            batch_manager,
            stream_manager,
            edges,
            killed: Vec::new(),
            paused: Vec::new(),
            broker,
            database,
            network,
            logs,
            root,
            database_name: name,
        }
    }

    pub fn database_url(&self) -> String {
        self.database.url()
    }

    /// Begins the fault; returns false if it has no target at present.
    pub async fn begin(&mut self, fault: InjectedFault) -> bool {
        match (fault.target, fault.kind) {
            (ChaosTarget::Broker, TargetKind::Kill) => self.broker.kill9(),
            (ChaosTarget::Broker, TargetKind::Pause) => self.broker.pause(),
            (ChaosTarget::Broker, TargetKind::Restart) => self.broker.stop(),
            (ChaosTarget::Broker, TargetKind::Forget) => self.broker.forget(),
            (ChaosTarget::Database, TargetKind::Kill) => self.database.kill9(),
            (ChaosTarget::Database, TargetKind::Pause) => self.database.pause(),
            (ChaosTarget::Database, TargetKind::Delay) => self.network.delay(delay(fault)),
            (ChaosTarget::Database, _) => self.database.stop(),
            (ChaosTarget::LogDisk, _) => return self.cut_power(),
            (ChaosTarget::StreamApp | ChaosTarget::BatchApp, kind) => {
                return self.begin_app(fault, kind).await;
            }
            (_, TargetKind::Pause) => self.daemon(fault).pause(),
            (_, TargetKind::Restart | TargetKind::Late) => {
                self.daemon(fault).terminate();
            }
            (_, _) => self.daemon(fault).kill9(),
        }
        true
    }

    /// Ends the fault, and restarts the process that it ended.
    pub fn end(&mut self, fault: InjectedFault) {
        match (fault.target, fault.kind) {
            (ChaosTarget::Broker, TargetKind::Pause) => self.broker.resume(),
            (ChaosTarget::Broker, _) => self.broker.restart(),
            (ChaosTarget::Database, TargetKind::Pause) => self.database.resume(),
            (ChaosTarget::Database, TargetKind::Delay) => self.network.delay(Duration::ZERO),
            (ChaosTarget::Database, _) => self.database.restart(),
            // Killed apps are restarted by their managers.
            (ChaosTarget::StreamApp | ChaosTarget::BatchApp, _) => self.resume_app(fault),
            (ChaosTarget::LogDisk, _) => {
                self.logs.restore();
                self.edges = SOURCES.map(|source| edge(&self.root, &self.logs, source));
            }
            (_, TargetKind::Pause) => self.daemon(fault).resume(),
            (target, _) => {
                let next = match target {
                    ChaosTarget::Edge => edge(&self.root, &self.logs, SOURCES[which_edge(fault)]),
                    target => Daemon::start(&self.root, &[&target.to_string()], &[]),
                };
                let old = std::mem::replace(self.daemon(fault), next);
                if target == ChaosTarget::StreamManager {
                    self.killed.push(old);
                }
            }
        }
    }

    /// Cuts the power of the machine that writes the logs, which ends the edges too.
    fn cut_power(&mut self) -> bool {
        let is_cut = self.logs.cut();
        if is_cut {
            self.edges.iter_mut().for_each(|edge| edge.kill9());
        }
        is_cut
    }

    fn daemon(&mut self, fault: InjectedFault) -> &mut Daemon {
        match fault.target {
            ChaosTarget::Fetchdata => &mut self.fetchdata,
            ChaosTarget::BatchManager => &mut self.batch_manager,
            ChaosTarget::Edge => &mut self.edges[which_edge(fault)],
            _ => &mut self.stream_manager,
        }
    }

    /// Injects the fault into an app. It waits a while for one, as batch apps are short-lived.
    async fn begin_app(&mut self, fault: InjectedFault, kind: TargetKind) -> bool {
        let signal = if kind == TargetKind::Pause { Signal::STOP } else { Signal::KILL };
        let begun = std::time::Instant::now();
        while begun.elapsed() < APP_WITHIN {
            let apps = self.apps(fault.target);
            if let Some(pid) = apps.get(fault.which as usize % apps.len().max(1)).copied()
                && signal_if_running(pid, signal)
            {
                self.paused.extend((kind == TargetKind::Pause).then_some((fault, pid)));
                return true;
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
        false
    }

    fn resume_app(&mut self, fault: InjectedFault) {
        self.paused.retain(|(paused, pid)| {
            if *paused == fault {
                // An app that the other fault or its manager has killed meanwhile needs no signal.
                signal_if_running(*pid, Signal::CONT);
            }
            *paused != fault
        });
    }

    /// The running apps of the present and, for stream apps, the killed managers.
    fn apps(&self, target: ChaosTarget) -> Vec<u32> {
        let (managers, name): (Vec<&Daemon>, _) = match target {
            ChaosTarget::BatchApp => (vec![&self.batch_manager], "document-app"),
            _ => (self.killed.iter().chain([&self.stream_manager]).collect(), "stream-app"),
        };
        let is_app = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        managers.iter().flat_map(|manager| manager.session()).filter(is_app).collect()
    }

    /// Runs `reconcile`, the platform's own proof; returns its exit code and output.
    pub fn reconcile(&self) -> (Option<i32>, String) {
        let output = Daemon::run(&self.root, &["reconcile"], &[]);
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
    }
}

fn which_edge(fault: InjectedFault) -> usize {
    fault.which as usize % SOURCES.len()
}

fn delay(fault: InjectedFault) -> Duration {
    Duration::from_millis(DELAYS_MS.start + fault.which % (DELAYS_MS.end - DELAYS_MS.start))
}

fn edge(root: &Root, logs: &LogFiles, source: &str) -> Daemon {
    let [log, outbox] = [logs.path(source), logs.outbox(source)].map(|path| path.display().to_string());
    let source = ["--client", STREAM, "--source", source, "--follow", &log, "--outbox", &outbox];
    Daemon::start(root, &[&["edge", "--resend-after", "2s"], &source[..]].concat(), &[])
}

fn config(broker: &str, database: &str, name: &str) -> Value {
    let batch = |id: &str, app: Value, blocks: Option<&str>| {
        let mut client = json!({"id": id, "files": {"globs": ["*.csv", "*.ndjson"]}, "apps": [app]});
        if let Some(size) = blocks {
            client["micro_batching"] = json!({"block_size": size});
        }
        client
    };
    let app = |protocol: &str| json!({"name": "app", "command": ["document-app"], "protocol": protocol, "collection": COLLECTION});
    let streams =
        json!([{"command": ["stream-app"], "collection": COLLECTION, "instances": {"min": 2, "max": 2}}]);
    json!({
        "broker": {"url": broker, "topic_prefix": name, "keep_alive": "2s"},
        "coredms": {"url": database, "database": name},
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        // More attempts than faults can hit one work unit: here, a held file would count as a loss.
        "batch_manager": {
            "scan_every": "1s", "backoff_first": "100ms", "backoff_max": "1s", "stop_grace": "5s", "attempts_max": 100,
        },
        "stream_manager": {"report_every": "1s", "backoff_first": "100ms", "backoff_max": "2s", "stop_grace": "5s"},
        "clients": [
            batch(SPLIT, app("stdin"), Some("8KiB")),
            batch(WORKER, app("worker"), None),
            {"id": STREAM, "streams": streams},
        ],
    })
}
