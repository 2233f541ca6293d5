//! Names and ports that no other test has, in this process or any other.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// `<prefix>_` and ten hexadecimal digits: fit for databases, topic levels and client ids.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}_{:010x}", random() & 0xff_ffff_ffff)
}

/// A port of the loopback address that stays ours until this process ends.
///
/// It lies below the range that the kernel gives to outgoing connections, so that a server which is down for a while
/// finds it free again.
///
/// # Panics
///
/// If there is none.
pub fn free_port() -> u16 {
    static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    const FIRST: u64 = 15_000;
    const COUNT: u64 = 16_000;

    for _ in 0..1_000 {
        let port = u16::try_from(FIRST + random() % COUNT).expect("below 65536");
        let Some(reservation) = reserve(port) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            RESERVED.lock().expect("nothing panics while it holds this lock").push(reservation);
            return port;
        }
    }
    panic!("no free port among {COUNT} from {FIRST} on");
}

/// An abstract socket is a name that one process can have at a time and that ends with it.
fn reserve(port: u16) -> Option<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("mysimbdp-testbed-port-{port}")).ok()?;
    UnixListener::bind_addr(&address).ok()
}

/// The keys of a new `RandomState` are random.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
