//! The HTTP server of the platform: what is known about files, ingestions and streams, the stored data, and the remote drop.
//!
//! A request goes through these modules:
//!
//! 1. [`listen`]: the address; [`connections`]: TLS, and limits on connections;
//! 2. [`access`]: who sends the request, by its token, and whether a web page may have made a browser send it;
//! 3. [`router`]: all routes, and the OpenAPI document that describes them;
//! 4. [`extract`]: the client in the path with the caller's rights to it, and the parameters;
//! 5. `api/`: the handlers, one file for each kind of resource; they ask [`mysimbdp_query`], and own no truth;
//! 6. [`events`]: what happens, for those who listen;
//! 7. [`page`] and [`representation`]: lists in pages, as JSON, NDJSON or CSV; [`problem`]: every error as one JSON document.
//!
//! [`dashboard`] is the page for people that asks all of it.
//!
//! [`indexes`] creates what the views need. [`stored`] listens to what streams and batch-manager announce, so that [`latest`] and
//! [`windows`] can keep answers in memory; windows are also published. [`measurements`] keeps what the processes measure for a day.
//! [`turns`] limits the long lists that are written at the same time.
//!
//! Everything here can be derived from the directories and the store, so the process may be killed at any moment.

mod access;
mod api;
#[cfg(feature = "bench")]
pub mod bench;
mod connections;
mod dashboard;
mod events;
mod extract;
mod indexes;
mod latest;
mod listen;
mod measurements;
mod page;
mod problem;
mod representation;
mod router;
mod server;
mod stored;
mod tokens;
mod turns;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use mysimbdp_config::address::{AddressError, ServerState};
use mysimbdp_config::live::LiveConfig;
use mysimbdp_model::error_chain;
use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::lock::{Lock, LockError};
use mysimbdp_platform::notice::NoticeFile;
use mysimbdp_platform::open_files;
use mysimbdp_query::drop_file;
use mysimbdp_telemetry::metrics::Endpoint;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tokio::sync::watch;

pub use router::openapi;

use connections::{TlsError, tls};
use listen::{ListenError, Listener};
use server::Server;
use tokens::TokensError;

/// Open files beside the connections: those of the store's driver, of drops and of queries.
const OPEN_FILES: u64 = 512;

/// How often a taken address is tried again.
const LISTEN_EVERY: Duration = Duration::from_secs(1);

/// Why the server did not start, or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("cannot prepare the directory of the state")]
    Prepare(#[source] FileError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Tokens(#[from] TokensError),
    #[error("cannot write down the server's address")]
    Address(#[from] AddressError),
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lock(LockError::Held { .. }) => ErrorKind::NotPermitted,
            Self::Lock(LockError::Io { .. }) | Self::Prepare(_) | Self::Address(_) => ErrorKind::Io,
            Self::Tls(_) | Self::Tokens(_) => ErrorKind::Configuration,
        }
    }
}

/// Bytes that are not escaped in a name.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns a name as one component of a path, whatever is in it.
pub fn percent_encoded(name: &[u8]) -> String {
    percent_encode(name, UNRESERVED).to_string()
}

/// Runs until `shutdown` is true (or its sender is dropped), then finishes the requests in progress.
///
/// # Errors
///
/// Another server runs for the same data root, or its certificate or tokens cannot be read. An address that is taken is
/// not an error: it is tried again, and `mysimbdp status` shows why.
pub async fn run(config: impl Into<LiveConfig>, mut shutdown: watch::Receiver<bool>) -> Result<(), Error> {
    let mut live = config.into();
    let config = live.running();
    let directory = ProcessKind::Serve.locked_directory(&config.layout);
    files::create_dir_all(&directory).map_err(Error::Prepare)?;
    let _lock = Lock::take(&directory, ProcessKind::Serve.name())?;
    if let Err(error) = drop_file::remove_unfinished(&config, api::drops::UNFINISHED) {
        tracing::warn!(error = error_chain(&error), "cannot remove files whose senders were cut off");
    }
    allow_connections(config.settings.serving.connections_max);
    let _endpoint = Endpoint::start(&config.layout, ProcessKind::Serve.name());
    let tls = config.serving.tls.as_ref().map(tls).transpose()?;
    let server = Arc::new(Server::new(live.follow(), &config)?);
    let listener = tokio::select! {
        listener = wait_for_address(&config) => listener,
        _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
    };
    let (state, path) =
        (ServerState::of_this_process(listener.url(tls.is_some())), config.layout.serving_state());
    state.write(&path)?;
    tracing::info!(url = state.url, "listening");
    let app = router::router(Arc::clone(&server));
    let mut closing = shutdown.clone();
    let served = connections::serve(listener, tls, app, &config.settings.serving, shutdown);
    let follow = async {
        loop {
            let config = live.offer().await;
            live.set_running(&config);
            // A view may be another one now.
            server.latest.forget_all();
            server.windows.forget_all();
        }
    };
    let end_streams = async {
        let _ = closing.wait_for(|stop| *stop).await;
        server.events.close();
        std::future::pending().await
    };
    tokio::select! {
        () = served => {}
        () = follow => {}
        () = events::run(&server) => {}
        () = stored::run(&server) => {}
        never = measurements::run(&server) => match never {},
        () = windows::live::run(&server) => {}
        () = end_streams => {}
    }
    server.close().await;
    state.remove(&path)?;
    tracing::info!("stopped");
    Ok(())
}

/// Makes the limit on open files allow so many connections. Otherwise they wait to be accepted.
fn allow_connections(connections_max: u32) {
    let expected = u64::from(connections_max) + OPEN_FILES;
    match open_files::allow(expected) {
        Ok(limit) if limit < expected => tracing::warn!(
            limit,
            expected,
            "limit on open files is too low for serving.connections_max, further connections wait"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(error = error_chain(&error), "cannot raise the limit on open files"),
    }
}

/// Listens; waits for as long as the address is taken.
async fn wait_for_address(config: &mysimbdp_config::Config) -> Listener {
    let mut notice = NoticeFile::new(&config.layout, ProcessKind::Serve.name(), "listen");
    let mut reported = None;
    loop {
        match Listener::bind(config.serving.listen).await {
            Ok(listener) => return listener,
            Err(error) => report(&mut reported, &error),
        }
        notice.show(reported.clone());
        tokio::time::sleep(LISTEN_EVERY).await;
    }
}

fn report(reported: &mut Option<String>, error: &ListenError) {
    let text = error_chain(error);
    if reported.as_ref() != Some(&text) {
        tracing::warn!(error = text, "cannot listen, trying again");
        *reported = Some(text);
    }
}
