//! A network that fails on demand, between a program and its broker, database or HTTP server.
//!
//! [`Proxy`] forwards packet by packet, so that a fault happens at a known point of the protocol:
//!
//! - [`forward`]: connections, and the packets that pass through them;
//! - [`wire`]: where a packet ends; [`fault`]: what happens to it ([`mqtt`] and [`mongodb`] parse it).

mod fault;
mod forward;
mod mongodb;
mod mqtt;
mod wire;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use fault::ProxyFault;
use forward::ProxyState;
use wire::Protocol;

/// Forwards connections to a server on the loopback address. Dropping it ends all of them.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<ProxyState>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy in front of the broker at `url`.
    ///
    /// # Panics
    ///
    /// If `url` is not `mqtt://127.0.0.1:<port>`.
    pub fn before_broker(url: &str) -> Self {
        Self::before(url, Protocol::Mqtt)
    }

    /// Starts a proxy in front of the MongoDB server at `url`.
    ///
    /// # Panics
    ///
    /// If `url` is not `mongodb://127.0.0.1:<port>/…`.
    pub fn before_mongodb(url: &str) -> Self {
        Self::before(url, Protocol::Mongodb)
    }

    /// Starts a proxy in front of the HTTP server at `url`. It forwards bytes as they arrive.
    ///
    /// # Panics
    ///
    /// If `url` is not `http://127.0.0.1:<port>`.
    pub fn before_http(url: &str) -> Self {
        Self::before(url, Protocol::Http)
    }

    fn before(url: &str, protocol: Protocol) -> Self {
        let server = address(url);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("any port");
        let port = listener.local_addr().expect("bound").port();
        listener.set_nonblocking(true).expect("a listener of this process");
        let state = Arc::new(ProxyState::new(server, protocol));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let serving_state = Arc::clone(&state);
        let serve = move || runtime.block_on(forward::serve(listener, serving_state));
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(serve).expect("a thread");
        Self { port, state, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address for MQTT clients.
    pub fn mqtt_url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// The address for MongoDB drivers. Without a direct connection they would ask the server for its address and bypass the
    /// proxy.
    pub fn mongodb_url(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
    }

    /// The address for HTTP clients.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends all connections. New ones are forwarded.
    pub fn cut(&self) {
        self.state.change(|network| network.cuts += 1);
    }

    /// Forwards nothing from now on and closes no connection, so that all connections are half-open.
    pub fn fall_silent(&self) {
        self.state.change(|network| network.is_silent = true);
    }

    /// Forwards new connections again. Those that fell silent stay silent, and neither side is notified.
    pub fn heal(&self) {
        self.state.change(|network| network.is_silent = false);
    }

    /// Delays each packet by `each_direction` from now on. Packets do not wait for one another: this simulates latency and not
    /// limited bandwidth.
    pub fn delay(&self, each_direction: Duration) {
        self.state.change(|network| network.delay = each_direction);
    }

    /// Applies `fault` to single packets from now on, also on existing connections.
    pub fn inject(&self, fault: ProxyFault) {
        self.state.change(|network| network.fault = fault);
    }

    /// How often the fault has happened so far.
    pub fn faults(&self) -> u64 {
        self.state.faults()
    }

    /// How many pings MQTT clients have sent.
    pub fn pings(&self) -> u64 {
        self.state.pings()
    }

    /// How many messages of QoS 1 MQTT clients have published, including repeats.
    pub fn published(&self) -> u64 {
        self.state.published()
    }

    /// How many `find` commands MongoDB drivers have sent.
    pub fn finds(&self) -> u64 {
        self.state.finds()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.change(|network| network.is_closed = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the proxy has failed");
        }
    }
}

/// Parses the server's address, which must be an IP address and a port.
fn address(url: &str) -> SocketAddr {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    authority.parse().unwrap_or_else(|_| panic!("{url} is not <scheme>://127.0.0.1:<port>"))
}
