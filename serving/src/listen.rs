//! The address that the server listens on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

/// The ports that are tried if the config names no address.
const DEFAULT_PORTS: std::ops::RangeInclusive<u16> = 8080..=8179;

/// The server cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("cannot listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen on 127.0.0.1: all ports from {} to {} are taken", DEFAULT_PORTS.start(), DEFAULT_PORTS.end())]
    AllTaken,
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens on this address, or on the first free default one.
    pub(crate) async fn bind(address: Option<SocketAddr>) -> Result<Self, ListenError> {
        if let Some(address) = address {
            return Self::at(address).await.map_err(|source| ListenError::Bind { address, source });
        }
        for port in DEFAULT_PORTS {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
            match Self::at(address).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                bound => return bound.map_err(|source| ListenError::Bind { address, source }),
            }
        }
        Err(ListenError::AllTaken)
    }

    async fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The address as a client on this host reaches it.
    pub(crate) fn url(&self, is_tls: bool) -> String {
        let scheme = if is_tls { "https" } else { "http" };
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("{scheme}://{address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_an_address_the_first_free_port_is_taken() {
        let first = Listener::bind(None).await.expect("a port");
        let second = Listener::bind(None).await.expect("another port");
        assert_ne!(first.url(false), second.url(false));
        let taken = Listener::bind(Some(first.address)).await.expect_err("it is taken");
        assert!(matches!(taken, ListenError::Bind { .. }), "{taken}");
        let any = Listener::bind(Some("[::]:0".parse().expect("an address"))).await.expect("a port");
        assert_eq!(any.url(true), format!("https://[::1]:{}", any.address.port()));
    }
}
