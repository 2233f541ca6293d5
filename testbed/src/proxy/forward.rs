//! Connections, and the packets that pass through them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until};

use super::fault::{Disposition, Inspector, Peer, ProxyFault};
use super::wire::Protocol;
use super::{mongodb, mqtt};

const READ_BYTES: usize = 64 * 1024;

/// How many packets may be in flight in one direction: as many as a network with a long delay would hold.
const IN_FLIGHT_MAX: usize = 10_000;

/// The state that all connections of a proxy share.
#[derive(Debug)]
pub(super) struct ProxyState {
    server: SocketAddr,
    protocol: Protocol,
    network: watch::Sender<Network>,
    faults: AtomicU64,
    pings: AtomicU64,
    published: AtomicU64,
    finds: AtomicU64,
}

/// How the simulated network behaves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Network {
    /// Nothing is forwarded, and no connection is closed.
    pub(super) is_silent: bool,
    /// How many cuts there were. Connections made before the last cut end.
    pub(super) cuts: u64,
    pub(super) fault: ProxyFault,
    /// How much later each packet arrives, however many are in flight.
    pub(super) delay: Duration,
    pub(super) is_closed: bool,
}

impl ProxyState {
    pub(super) fn new(server: SocketAddr, protocol: Protocol) -> Self {
        Self {
            server,
            protocol,
            network: watch::Sender::default(),
            faults: AtomicU64::new(0),
            pings: AtomicU64::new(0),
            published: AtomicU64::new(0),
            finds: AtomicU64::new(0),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Network)) {
        self.network.send_modify(change);
    }

    pub(super) fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    pub(super) fn pings(&self) -> u64 {
        self.pings.load(Ordering::Relaxed)
    }

    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    pub(super) fn finds(&self) -> u64 {
        self.finds.load(Ordering::Relaxed)
    }

    fn count(&self, from: Peer, packet: &[u8]) {
        match (self.protocol, from) {
            (Protocol::Mqtt, Peer::Client) if mqtt::is_ping(packet) => {
                self.pings.fetch_add(1, Ordering::Relaxed);
            }
            (Protocol::Mqtt, Peer::Client) if mqtt::publish_id(packet).is_some() => {
                self.published.fetch_add(1, Ordering::Relaxed);
            }
            (Protocol::Mongodb, Peer::Client) if mongodb::is_command(packet, b"find") => {
                self.finds.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn inspect(&self, inspector: &Mutex<Inspector>, from: Peer, packet: &[u8]) -> Disposition {
        let fault = self.network.borrow().fault;
        let mut inspector = inspector.lock().unwrap_or_else(PoisonError::into_inner);
        inspector.inspect(fault, &self.faults, from, packet)
    }

    async fn until(&self, condition: impl FnMut(&Network) -> bool) {
        // The sender is in `self`, so it cannot be dropped.
        let _ = self.network.subscribe().wait_for(condition).await;
    }
}

/// Forwards connections until the proxy is dropped; then all of them end.
pub(super) async fn serve(listener: std::net::TcpListener, state: Arc<ProxyState>) {
    let listener = TcpListener::from_std(listener).expect("a listener that does not block");
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // The client may have disconnected already.
                    if let Ok((client, _)) = accepted {
                        connections.spawn(connection(client, Arc::clone(&state)));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = state.until(|network| network.is_closed) => {}
    }
}

async fn connection(mut client: TcpStream, state: Arc<ProxyState>) {
    let cuts = state.network.borrow().cuts;
    // Kept open to the end: during a silence each side must detect the dead connection by itself.
    let mut server = None;
    tokio::select! {
        () = between(&mut client, &mut server, &state) => {}
        () = state.until(|network| network.cuts != cuts) => {}
    }
}

/// Returns when one side closes; never after the network has been silent.
async fn between(client: &mut TcpStream, server: &mut Option<TcpStream>, state: &ProxyState) {
    let forwarding = async {
        let Ok(connected) = TcpStream::connect(state.server).await else { return };
        let server = server.insert(connected);
        // Otherwise the proxy would add the delays of Nagle's algorithm.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let inspector = Mutex::new(Inspector::new(state.protocol));
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        // Both sides see the same result: the connection is closed.
        let _ = tokio::select! {
            ended = pump(from_client, to_server, Peer::Client, state, &inspector) => ended,
            ended = pump(from_server, to_client, Peer::Server, state, &inspector) => ended,
        };
    };
    tokio::select! {
        biased;
        () = state.until(|network| network.is_silent) => std::future::pending().await,
        () = forwarding => {}
    }
}

/// Returns when one side has closed and the packets that were in flight before have arrived.
async fn pump(
    source: ReadHalf<'_>,
    target: WriteHalf<'_>,
    from: Peer,
    state: &ProxyState,
    inspector: &Mutex<Inspector>,
) -> io::Result<()> {
    let (sender, in_flight) = mpsc::channel(IN_FLIGHT_MAX);
    tokio::try_join!(read(source, sender, from, state, inspector), deliver(in_flight, target)).map(drop)
}

async fn read(
    mut source: ReadHalf<'_>,
    sender: mpsc::Sender<(Instant, Vec<u8>)>,
    from: Peer,
    state: &ProxyState,
    inspector: &Mutex<Inspector>,
) -> io::Result<()> {
    let mut received = Vec::with_capacity(READ_BYTES);
    loop {
        if source.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        let arrives_at = Instant::now() + state.network.borrow().delay;
        let send = async |packet: &[u8]| {
            sender.send((arrives_at, packet.to_vec())).await.map_err(|_| io::ErrorKind::BrokenPipe)
        };
        let mut rest = received.as_slice();
        while let Some(bytes) = state.protocol.packet_bytes(rest).filter(|bytes| *bytes <= rest.len()) {
            let (packet, behind) = rest.split_at(bytes);
            rest = behind;
            state.count(from, packet);
            match state.inspect(inspector, from, packet) {
                Disposition::Forwarded => send(packet).await?,
                Disposition::FollowedBy(next) => {
                    send(packet).await?;
                    send(&next).await?;
                }
                Disposition::Lost => {}
                Disposition::Cut => return Ok(()),
            }
        }
        let incomplete = rest.len();
        received.drain(..received.len() - incomplete);
    }
}

async fn deliver(
    mut in_flight: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut target: WriteHalf<'_>,
) -> io::Result<()> {
    while let Some((arrives_at, packet)) = in_flight.recv().await {
        sleep_until(arrives_at).await;
        target.write_all(&packet).await?;
    }
    Ok(())
}
