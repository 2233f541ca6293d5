//! Connections, and what passes through them.

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

use super::fault::{Fate, Fault, From, Inspector};
use super::wire::Protocol;
use super::{mongodb, mqtt};

const READ_BYTES: usize = 64 * 1024;

/// Packets of one direction that may be on their way; as many as a network with a long delay would hold.
const ON_THEIR_WAY_MAX: usize = 10_000;

/// What all connections of a proxy have in common.
#[derive(Debug)]
pub(super) struct Line {
    server: SocketAddr,
    protocol: Protocol,
    network: watch::Sender<Network>,
    faults: AtomicU64,
    pings: AtomicU64,
    published: AtomicU64,
    finds: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Network {
    pub(super) is_silent: bool,
    /// Connections made before the last cut end.
    pub(super) cuts: u64,
    pub(super) fault: Fault,
    /// Each packet arrives so much later, however many are on their way.
    pub(super) delay: Duration,
    pub(super) is_over: bool,
}

impl Line {
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

    fn count(&self, from: From, packet: &[u8]) {
        match (self.protocol, from) {
            (Protocol::Mqtt, From::Client) if mqtt::is_ping(packet) => {
                self.pings.fetch_add(1, Ordering::Relaxed);
            }
            (Protocol::Mqtt, From::Client) if mqtt::publish_id(packet).is_some() => {
                self.published.fetch_add(1, Ordering::Relaxed);
            }
            (Protocol::Mongodb, From::Client) if mongodb::is_command(packet, b"find") => {
                self.finds.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn judge(&self, inspector: &Mutex<Inspector>, from: From, packet: &[u8]) -> Fate {
        let fault = self.network.borrow().fault;
        let mut inspector = inspector.lock().unwrap_or_else(PoisonError::into_inner);
        inspector.judge(fault, &self.faults, from, packet)
    }

    async fn until(&self, condition: impl FnMut(&Network) -> bool) {
        // The sender is in `self`, so it cannot be gone.
        let _ = self.network.subscribe().wait_for(condition).await;
    }
}

/// Forwards until the proxy is dropped, and its connections with it.
pub(super) async fn serve(listener: std::net::TcpListener, line: Arc<Line>) {
    let listener = TcpListener::from_std(listener).expect("a listener that does not block");
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // The client may be gone again.
                    if let Ok((client, _)) = accepted {
                        connections.spawn(connection(client, Arc::clone(&line)));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = line.until(|network| network.is_over) => {}
    }
}

async fn connection(mut client: TcpStream, line: Arc<Line>) {
    let cuts = line.network.borrow().cuts;
    // Held to the end: both sides believe in their connection until they find out for themselves.
    let mut server = None;
    tokio::select! {
        () = between(&mut client, &mut server, &line) => {}
        () = line.until(|network| network.cuts != cuts) => {}
    }
}

/// Returns when one side closes; never once the network has been silent.
async fn between(client: &mut TcpStream, server: &mut Option<TcpStream>, line: &Line) {
    let forwarding = async {
        let Ok(connected) = TcpStream::connect(line.server).await else { return };
        let server = server.insert(connected);
        // The delays of Nagle's algorithm would be the proxy's own doing.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let inspector = Mutex::new(Inspector::new(line.protocol));
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        // How it ended is the same to both sides: it is closed.
        let _ = tokio::select! {
            ended = pump(from_client, to_server, From::Client, line, &inspector) => ended,
            ended = pump(from_server, to_client, From::Server, line, &inspector) => ended,
        };
    };
    tokio::select! {
        biased;
        () = line.until(|network| network.is_silent) => std::future::pending().await,
        () = forwarding => {}
    }
}

/// Returns when one side closes, and what was on its way before that has arrived.
async fn pump(
    source: ReadHalf<'_>,
    target: WriteHalf<'_>,
    from: From,
    line: &Line,
    inspector: &Mutex<Inspector>,
) -> io::Result<()> {
    let (sender, on_their_way) = mpsc::channel(ON_THEIR_WAY_MAX);
    tokio::try_join!(read(source, sender, from, line, inspector), deliver(on_their_way, target)).map(drop)
}

async fn read(
    mut source: ReadHalf<'_>,
    sender: mpsc::Sender<(Instant, Vec<u8>)>,
    from: From,
    line: &Line,
    inspector: &Mutex<Inspector>,
) -> io::Result<()> {
    let mut received = Vec::with_capacity(READ_BYTES);
    loop {
        if source.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        let arrives_at = Instant::now() + line.network.borrow().delay;
        let send = async |packet: &[u8]| {
            sender.send((arrives_at, packet.to_vec())).await.map_err(|_| io::ErrorKind::BrokenPipe)
        };
        let mut rest = received.as_slice();
        while let Some(bytes) = line.protocol.packet_bytes(rest).filter(|bytes| *bytes <= rest.len()) {
            let (packet, behind) = rest.split_at(bytes);
            rest = behind;
            line.count(from, packet);
            match line.judge(inspector, from, packet) {
                Fate::Forwarded => send(packet).await?,
                Fate::FollowedBy(next) => {
                    send(packet).await?;
                    send(&next).await?;
                }
                Fate::Lost => {}
                Fate::Cut => return Ok(()),
            }
        }
        let incomplete = rest.len();
        received.drain(..received.len() - incomplete);
    }
}

async fn deliver(
    mut on_their_way: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut target: WriteHalf<'_>,
) -> io::Result<()> {
    while let Some((arrives_at, packet)) = on_their_way.recv().await {
        sleep_until(arrives_at).await;
        target.write_all(&packet).await?;
    }
    Ok(())
}
