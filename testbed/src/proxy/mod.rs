//! A network that fails on demand, between a program and its broker or database.
//!
//! [`Proxy`] forwards packet by packet, so that what goes wrong goes wrong at a known place:
//!
//! - [`forward`]: connections, and what passes through them;
//! - [`wire`]: where a packet ends; [`fault`]: what becomes of it ([`mqtt`] and [`mongodb`] know what it says).

mod fault;
mod forward;
mod mongodb;
mod mqtt;
mod wire;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use fault::Fault;
use forward::Line;
use wire::Protocol;

/// Forwards each connection to a server on the loopback address; ended with all its connections when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    line: Arc<Line>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// One in front of the broker at `url`.
    ///
    /// # Panics
    ///
    /// If that is not `mqtt://127.0.0.1:<port>`.
    pub fn before_broker(url: &str) -> Self {
        Self::before(url, Protocol::Mqtt)
    }

    /// One in front of the MongoDB server at `url`.
    ///
    /// # Panics
    ///
    /// If that is not `mongodb://127.0.0.1:<port>/…`.
    pub fn before_mongodb(url: &str) -> Self {
        Self::before(url, Protocol::Mongodb)
    }

    fn before(url: &str, protocol: Protocol) -> Self {
        let server = address(url);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("any port");
        let port = listener.local_addr().expect("bound").port();
        listener.set_nonblocking(true).expect("a listener of this process");
        let line = Arc::new(Line::new(server, protocol));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let serving = Arc::clone(&line);
        let serve = move || runtime.block_on(forward::serve(listener, serving));
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(serve).expect("a thread");
        Self { port, line, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address for MQTT clients.
    pub fn mqtt_url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// The address for MongoDB drivers, which would otherwise ask the server for its own and go around the proxy.
    pub fn mongodb_url(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
    }

    /// Ends all connections; new ones are forwarded.
    pub fn cut(&self) {
        self.line.change(|network| network.cuts += 1);
    }

    /// Lets nothing through from now on, without a word to either side: all connections are half-open.
    pub fn fall_silent(&self) {
        self.line.change(|network| network.is_silent = true);
    }

    /// Forwards new connections again. Those that fell silent stay so, and nobody is told.
    pub fn heal(&self) {
        self.line.change(|network| network.is_silent = false);
    }

    /// Each packet takes so much longer in its direction from now on. Packets do not wait for one another: it is latency,
    /// and not a lack of bandwidth.
    pub fn delay(&self, each_direction: Duration) {
        self.line.change(|network| network.delay = each_direction);
    }

    /// Something goes wrong with single packets from now on, also on connections that there are.
    pub fn inject(&self, fault: Fault) {
        self.line.change(|network| network.fault = fault);
    }

    /// How often the fault has happened so far.
    pub fn faults(&self) -> u64 {
        self.line.faults()
    }

    /// How many pings MQTT clients have sent.
    pub fn pings(&self) -> u64 {
        self.line.pings()
    }

    /// How many messages of QoS 1 MQTT clients have published, repeats too.
    pub fn published(&self) -> u64 {
        self.line.published()
    }

    /// How many `find` commands MongoDB drivers have sent.
    pub fn finds(&self) -> u64 {
        self.line.finds()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.change(|network| network.is_over = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the proxy has failed");
        }
    }
}

/// The server's address: numbers, as it is on this machine.
fn address(url: &str) -> SocketAddr {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    authority.parse().unwrap_or_else(|_| panic!("{url} is not <scheme>://127.0.0.1:<port>"))
}
