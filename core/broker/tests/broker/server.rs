//! The two brokers that the cases run on.

use std::time::Duration;

use mysimbdp_broker::embedded::{EmbeddedBroker, EmbeddedBrokerOptions};
use mysimbdp_testbed::Mosquitto;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Longer than any case takes on a loaded machine.
const CASE_DEADLINE: Duration = Duration::from_secs(500);

pub(crate) trait Server {
    fn url(&self) -> String;
    /// Kills it without warning.
    fn kill(&mut self);
    /// Starts it again, on the same port and data.
    fn restart(&mut self);
}

/// Runs a case on a broker of its own.
pub(crate) fn run<S: Server>(start: impl FnOnce() -> S, case: impl AsyncFnOnce(&mut S)) {
    let mut server = start();
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(CASE_DEADLINE, case(&mut server)).await.expect("the case ends in time");
    });
}

pub(crate) fn embedded() -> Embedded {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut server = Embedded { directory, port: 0, runtime: None, shutdown: watch::Sender::new(false) };
    server.restart();
    server
}

/// The embedded broker, in a runtime of its own: dropping the runtime is as close to a kill as one process can come.
pub(crate) struct Embedded {
    directory: tempfile::TempDir,
    port: u16,
    runtime: Option<Runtime>,
    shutdown: watch::Sender<bool>,
}

impl Server for Embedded {
    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    fn kill(&mut self) {
        let runtime = self.runtime.take().expect("it runs");
        on_own_thread(|| runtime.shutdown_timeout(Duration::from_secs(10)));
    }

    fn restart(&mut self) {
        let runtime = Runtime::new().expect("a runtime");
        let options =
            EmbeddedBrokerOptions { directory: self.directory.path().to_owned(), port: Some(self.port) };
        let broker =
            on_own_thread(|| runtime.block_on(EmbeddedBroker::start(options))).expect("the broker starts");
        self.port = broker.port;
        runtime.spawn(broker.run(self.shutdown.subscribe()));
        self.runtime = Some(runtime);
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}

/// Runs `work` on a thread of its own, as one runtime must not block on another.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().expect("it does not panic"))
}

pub(crate) fn mosquitto() -> Mosquitto {
    Mosquitto::start()
}

impl Server for Mosquitto {
    fn url(&self) -> String {
        Mosquitto::url(self)
    }

    fn kill(&mut self) {
        self.kill9();
    }

    fn restart(&mut self) {
        Mosquitto::restart(self);
    }
}
