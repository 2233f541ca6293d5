//! A network that fails on demand, between a client and its broker.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Clone, Copy, PartialEq)]
enum Network {
    Up,
    /// Connections stay open, and nothing gets through.
    Silent,
}

/// Forwards each connection to the broker.
pub(crate) struct Proxy {
    pub(crate) url: String,
    network: watch::Sender<Network>,
    /// Counts cuts; connections made before the last one end.
    cuts: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn before(broker_url: &str) -> Self {
        let broker: SocketAddr =
            broker_url.trim_start_matches("mqtt://").parse().expect("an address with a number");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("any port");
        let url = format!("mqtt://{}", listener.local_addr().expect("bound"));
        let network = watch::Sender::new(Network::Up);
        let cuts = watch::Sender::new(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, broker, network.subscribe(), cuts.subscribe()));
        Self { url, network, cuts, _tasks: tasks }
    }

    /// Ends all connections; new ones are forwarded.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets nothing through from now on, without a word to either side.
    pub(crate) fn fall_silent(&self) {
        self.network.send_replace(Network::Silent);
    }

    pub(crate) fn heal(&self) {
        self.cut();
        self.network.send_replace(Network::Up);
    }
}

async fn accept(
    listener: TcpListener,
    broker: SocketAddr,
    network: watch::Receiver<Network>,
    cuts: watch::Receiver<u64>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.expect("a connection");
        connections.spawn(forward(client, broker, network.clone(), cuts.clone()));
    }
}

async fn forward(
    client: TcpStream,
    broker: SocketAddr,
    network: watch::Receiver<Network>,
    mut cuts: watch::Receiver<u64>,
) {
    cuts.mark_unchanged();
    let Ok(server) = TcpStream::connect(broker).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, network.clone()) => {}
        () = pump(from_server, to_client, network) => {}
        _ = cuts.changed() => {}
    }
}

async fn pump(
    from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if from.readable().await.is_err()
            || network.wait_for(|network| *network == Network::Up).await.is_err()
        {
            return;
        }
        match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
