//! Names and ports that no other test uses, in this process or any other.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Returns `<prefix>_` and ten hexadecimal digits: valid for databases, topic levels and client ids.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}_{:010x}", random() & 0xff_ffff_ffff)
}

/// Returns a port of the loopback address that is reserved until this process ends.
///
/// It is below the range that the kernel uses for outgoing connections, so that a server that is down for a while can listen
/// on it again.
///
/// # Panics
///
/// If there is no free port.
pub fn free_port() -> u16 {
    static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    const FIRST: u64 = 15_000;
    const COUNT: u64 = 16_000;

    for _ in 0..1_000 {
        let port = u16::try_from(FIRST + random() % COUNT).expect("below 65536");
        let Some(reservation) = reserve(port) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            RESERVED.lock().expect("nothing panics while holding this lock").push(reservation);
            return port;
        }
    }
    panic!("no free port among {COUNT} from {FIRST} on");
}

/// Reserves a port with an abstract socket: only one process can have its name at a time, and the name ends with the process.
fn reserve(port: u16) -> Option<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("mysimbdp-testbed-port-{port}")).ok()?;
    UnixListener::bind_addr(&address).ok()
}

/// Returns a random number: the keys of a new `RandomState` are random.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
