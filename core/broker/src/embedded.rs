//! The embedded broker, for a laptop without a broker: on loopback only, its data below the data root.
//!
//! It keeps sessions, retained messages and queued messages in files, but loses what it has not written yet if its process
//! is killed: for data that must not be lost use numbered sources, or a broker of your own.
//!
//! It ends with an error if it stops answering, so that it can be started again.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use mqtt5::MqttError;
use mqtt5::broker::config::{AuthConfig, RateLimitConfig, StorageBackend, StorageConfig};
use mqtt5::broker::{BrokerConfig, MqttBroker};
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::lock::{Lock, LockError};
use mysimbdp_platform::random;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::{ConnectOptions, PACKET_BYTES_MAX};

/// The port that clients try first.
const DEFAULT_PORT: u16 = 1883;

/// The most messages that are queued for an offline client; beyond that the oldest are dropped.
const QUEUED_MESSAGES_MAX: usize = 10_000;
const QUEUED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How often the broker connects to itself.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// The longest time in which a loaded broker accepts a connection.
const PROBE_WITHIN: Duration = Duration::from_secs(10);
/// This many connections in a row that were not answered are more than a moment of overload.
const UNANSWERED_MAX: u32 = 3;

/// How the embedded broker is started.
#[derive(Clone, Debug)]
pub struct EmbeddedBrokerOptions {
    /// The directory of its data, kept across restarts.
    pub directory: PathBuf,
    /// `None`: 1883 if that is free, else any free port.
    pub port: Option<u16>,
}

/// A broker whose port is open; [`EmbeddedBroker::run`] serves it.
pub struct EmbeddedBroker {
    pub url: String,
    pub port: u16,
    broker: MqttBroker,
    _lock: Lock,
}

/// Why the embedded broker did not start or has ended.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedBrokerError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Directory(#[from] FileError),
    #[error("cannot start the embedded broker on 127.0.0.1, port {port}, with its data in {}", directory.display())]
    Start {
        port: u16,
        directory: PathBuf,
        #[source]
        source: Box<MqttError>,
    },
    #[error("the embedded broker has failed")]
    Run(#[source] Box<MqttError>),
    #[error("the embedded broker at {url} has not answered {UNANSWERED_MAX} times in a row")]
    Unanswered { url: String },
}

impl EmbeddedBroker {
    /// Opens the port and reads the data of the last run. Only one broker at a time may use a directory.
    pub async fn start(options: EmbeddedBrokerOptions) -> Result<Self, EmbeddedBrokerError> {
        let EmbeddedBrokerOptions { directory, port } = options;
        let lock = Lock::take(&directory, "broker")?;
        let data = directory.join("data");
        files::create_dir_all(&data)?;
        let port = port.unwrap_or_else(|| if is_free(DEFAULT_PORT) { DEFAULT_PORT } else { 0 });
        let start_error = |source| EmbeddedBrokerError::Start { port, directory, source: Box::new(source) };
        let broker = match MqttBroker::with_config(config(data, port)).await {
            Ok(broker) => broker,
            Err(error) => return Err(start_error(error)),
        };
        let Some(address) = broker.local_addr() else {
            return Err(start_error(MqttError::InvalidState("it has no address".to_owned())));
        };
        Ok(Self { url: format!("mqtt://{address}"), port: address.port(), broker, _lock: lock })
    }

    /// Serves until `shutdown` turns true, then notifies the clients and writes its data.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), EmbeddedBrokerError> {
        let handle = self.broker.shutdown_handle();
        let mut ready = self.broker.ready_receiver();
        let mut serving = std::pin::pin!(self.broker.run());
        let stop_requested = async {
            // If the caller has dropped the sender, the broker stops too.
            let _ = shutdown.wait_for(|stop| *stop).await;
            // The broker ignores a shutdown before it is ready.
            let _ = ready.wait_for(|ready| *ready).await;
        };
        let result = tokio::select! {
            result = &mut serving => result,
            () = unanswered(&self.url, PROBE_EVERY, PROBE_WITHIN) => {
                return Err(EmbeddedBrokerError::Unanswered { url: self.url });
            }
            () = stop_requested => {
                handle.shutdown();
                serving.await
            }
        };
        result.map_err(|source| EmbeddedBrokerError::Run(Box::new(source)))
    }
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker").field("url", &self.url).finish_non_exhaustive()
    }
}

fn config(directory: PathBuf, port: u16) -> BrokerConfig {
    BrokerConfig {
        bind_addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))],
        // Some clients refuse a broker that announces the protocol's own limit.
        max_packet_size: PACKET_BYTES_MAX as usize,
        // A consumer gets the window that it requests: it acknowledges a whole batch at a time.
        max_outbound_inflight: u16::MAX,
        client_channel_capacity: QUEUED_MESSAGES_MAX,
        auth_config: AuthConfig {
            allow_anonymous: true,
            // Whoever can reach loopback has an account here. The limit would count the restarts of our own apps.
            rate_limit: RateLimitConfig { enabled: false, ..RateLimitConfig::default() },
            ..AuthConfig::default()
        },
        storage_config: StorageConfig {
            backend: StorageBackend::File,
            base_dir: directory,
            cleanup_interval: Duration::from_secs(3600),
            enable_persistence: true,
            max_queued_messages_per_client: QUEUED_MESSAGES_MAX,
            max_queued_bytes_per_client: QUEUED_BYTES_MAX,
        },
        sys_topics_enabled: false,
        ..BrokerConfig::default()
    }
}

/// Returns once the broker has left several probes in a row without an answer. A panic in one of its tasks can leave it with
/// an open port that nobody serves. Any other failure of a probe, like a lack of descriptors, is the prober's own.
async fn unanswered(url: &str, every: Duration, within: Duration) {
    let options = ConnectOptions::new(url, format!("probe-{:016x}", random::number()));
    let mut in_a_row = 0;
    while in_a_row < UNANSWERED_MAX {
        sleep(every).await;
        match timeout(within, crate::probe(&options)).await {
            Ok(_) => in_a_row = 0,
            Err(_) => in_a_row += 1,
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_broker_on_the_same_data_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let options = EmbeddedBrokerOptions { directory: directory.path().to_owned(), port: Some(0) };
        let first = EmbeddedBroker::start(options.clone()).await.expect("free directory");
        assert!(first.url.starts_with("mqtt://127.0.0.1:") && first.port != 0, "{}", first.url);
        match EmbeddedBroker::start(options).await {
            Err(EmbeddedBrokerError::Lock(LockError::Held { .. })) => {}
            other => panic!("expected the lock to be held, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn an_unserved_port_is_noticed_and_a_served_one_is_not() {
        const SOON: Duration = Duration::from_millis(50);
        let unserved = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("any port");
        let url = format!("mqtt://{}", unserved.local_addr().expect("bound"));
        timeout(Duration::from_secs(60), unanswered(&url, SOON, SOON)).await.expect("it is noticed");

        let directory = tempfile::tempdir().expect("temporary directory");
        let options = EmbeddedBrokerOptions { directory: directory.path().to_owned(), port: Some(0) };
        let served = EmbeddedBroker::start(options).await.expect("free directory");
        let (url, shutdown) = (served.url.clone(), watch::Sender::new(false));
        let serving = tokio::spawn(served.run(shutdown.subscribe()));
        let noticed = timeout(20 * SOON, unanswered(&url, SOON, PROBE_WITHIN)).await;
        assert!(noticed.is_err(), "it answers each probe");
        shutdown.send_replace(true);
        serving.await.expect("it ends").expect("it ends in an orderly way");
    }

    #[tokio::test]
    async fn the_error_names_a_port_that_is_taken() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("any port");
        let port = taken.local_addr().expect("bound").port();
        let options = EmbeddedBrokerOptions { directory: directory.path().to_owned(), port: Some(port) };
        let error = EmbeddedBroker::start(options).await.expect_err("port is taken").to_string();
        assert!(error.contains(&port.to_string()), "{error}");
    }
}
