//! The servers that tests share: those named in the environment, otherwise one for each test process.

use std::sync::{Mutex, Once, PoisonError};

use crate::{Mongod, Mosquitto};

/// The MongoDB server that the tests of this process share.
#[derive(Clone, Debug)]
pub struct MongoHandle {
    url: String,
}

impl MongoHandle {
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The broker that the tests of this process share.
#[derive(Clone, Debug)]
pub struct MosquittoHandle {
    url: String,
}

impl MosquittoHandle {
    /// `mqtt://<host>:<port>`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// # Panics
    ///
    /// If `MYSIMBDP_TEST_BROKER` does not end with a port.
    pub fn port(&self) -> u16 {
        let port = self.url.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
        port.unwrap_or_else(|| panic!("{} is not mqtt://<host>:<port>", self.url))
    }
}

static MONGOD: Mutex<Option<Mongod>> = Mutex::new(None);
static MOSQUITTO: Mutex<Option<Mosquitto>> = Mutex::new(None);

/// Returns a MongoDB server: `MYSIMBDP_TEST_MONGODB`, or one that is started at the first call and stopped when this process
/// ends.
///
/// # Panics
///
/// If it has to be started and cannot be.
pub fn mongodb() -> MongoHandle {
    let url = from_environment("MYSIMBDP_TEST_MONGODB")
        .unwrap_or_else(|| shared(&MONGOD, Mongod::start, Mongod::url));
    MongoHandle { url }
}

/// Returns a broker: `MYSIMBDP_TEST_BROKER`, or a mosquitto that is started at the first call and stopped when this process
/// ends.
///
/// # Panics
///
/// If it has to be started and cannot be.
pub fn mosquitto() -> MosquittoHandle {
    let url = from_environment("MYSIMBDP_TEST_BROKER")
        .unwrap_or_else(|| shared(&MOSQUITTO, Mosquitto::start, Mosquitto::url));
    MosquittoHandle { url }
}

fn from_environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

fn shared<S>(server: &Mutex<Option<S>>, start: fn() -> S, url: fn(&S) -> String) -> String {
    stop_at_exit();
    // A test that panicked while it started the server has left `None`.
    let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
    url(server.get_or_insert_with(start))
}

/// Stops the servers at exit, because statics are not dropped: the processes would be killed with this one in any case, but
/// their directories would remain.
fn stop_at_exit() {
    extern "C" fn stop() {
        drop(MONGOD.lock().map(|mut server| server.take()));
        drop(MOSQUITTO.lock().map(|mut server| server.take()));
    }
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: `stop` is a function of this program and does not unwind: poisoned locks are skipped.
        #[allow(unsafe_code)]
        let result = unsafe { libc::atexit(stop) };
        assert_eq!(result, 0, "the C library accepts at least 32 exit functions");
    });
}
