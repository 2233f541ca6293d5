//! Where a process answers a scrape: on a socket, and on an address if it is told to. A minimal HTTP/1.1, so that Prometheus
//! and `curl --unix-socket` can ask, too.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mysimbdp_model::error_chain;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::modes;
use mysimbdp_platform::socket::{SocketError, SocketListener, connect};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::metrics;

/// What the text format is called in HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How many scrapes are answered at a time; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 8;
/// curl sends about 100 bytes.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// A local program sends its request, and reads the answer, at once.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// For as long Prometheus waits by default.
const ANSWERED_WITHIN_OVER_NETWORK: Duration = Duration::from_secs(10);
/// About 200 bytes for each series, which is enough for 80,000 of them.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// File descriptors become available when something closes, not by retrying sooner.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Answers scrapes of this process until it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    _task: JoinSet<()>,
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics on {address}")]
pub struct EndpointError {
    address: SocketAddr,
    source: std::io::Error,
}

impl Endpoint {
    /// Begins to answer on the socket of this process. Call it only while holding the lock that makes this process the only
    /// one of its name on the data root.
    ///
    /// A failure is logged, and not an error: the process works without.
    pub fn start(layout: &Layout, process: &str) -> Self {
        match listen(layout, process) {
            Ok(listener) => Self::answering(Listener::Socket(listener)),
            Err(error) => {
                tracing::warn!(error, "metrics cannot be scraped");
                metrics().start();
                Self { _task: JoinSet::new() }
            }
        }
    }

    /// Begins to answer everybody who reaches this address.
    ///
    /// # Errors
    ///
    /// The address is taken, or is not one of this host.
    pub async fn listen(address: SocketAddr) -> Result<Self, EndpointError> {
        let error = |source| EndpointError { address, source };
        let listener = TcpListener::bind(address).await.map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        tracing::info!(%address, "serving metrics");
        Ok(Self::answering(Listener::Address(listener)))
    }

    fn answering(listener: Listener) -> Self {
        metrics().start();
        let mut task = JoinSet::new();
        task.spawn(answer_all(listener));
        Self { _task: task }
    }
}

fn listen(layout: &Layout, process: &str) -> Result<SocketListener, String> {
    modes::create_private_directory(&layout.metrics()).map_err(|error| error_chain(&error))?;
    SocketListener::bind(&layout.metrics_socket(process)).map_err(|error| error_chain(&error))
}

#[derive(Debug)]
enum Listener {
    Socket(SocketListener),
    Address(TcpListener),
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<C: AsyncRead + AsyncWrite + Send + Unpin> Connection for C {}

impl Listener {
    async fn accept(&self) -> Result<Box<dyn Connection>, String> {
        match self {
            Self::Socket(socket) => match socket.accept().await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(error_chain(&error)),
            },
            Self::Address(address) => match address.accept().await {
                Ok((stream, _)) => Ok(Box::new(stream)),
                Err(error) => Err(error_chain(&error)),
            },
        }
    }

    fn answered_within(&self) -> Duration {
        match self {
            Self::Socket(_) => ANSWERED_WITHIN,
            Self::Address(_) => ANSWERED_WITHIN_OVER_NETWORK,
        }
    }
}

async fn answer_all(listener: Listener) {
    let mut connections = JoinSet::new();
    let mut accepts = true;
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok(stream) => {
                    accepts = true;
                    connections.spawn(timeout(listener.answered_within(), answer(stream)));
                }
                Err(error) => {
                    // Logged once, as the failure may last.
                    if std::mem::replace(&mut accepts, false) {
                        tracing::warn!(error, "cannot accept scrapes");
                    }
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            },
            // Whoever has sent no request, or reads no answer, needs none.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(mut stream: Box<dyn Connection>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).await?;
        request.extend_from_slice(&buffer[..read]);
        if read == 0 || request.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
    }
    let (status, body) = if asks_for_metrics(&request) {
        ("200 OK", metrics().encode())
    } else {
        ("404 Not Found", "the metrics are at /metrics\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn asks_for_metrics(request: &[u8]) -> bool {
    let target =
        request.strip_prefix(b"GET ").and_then(|rest| rest.split(|byte| b" ?".contains(byte)).next());
    target == Some(b"/metrics")
}

/// A process did not answer a scrape.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("connection to {path} broke off")]
    Io { path: String, source: std::io::Error },
    #[error("answer of {path} is not HTTP with status 200")]
    Answer { path: String },
}

/// Asks the process that listens on `socket` what it has counted. Has no timeout of its own.
///
/// # Errors
///
/// No process listens there, or it does not answer.
pub async fn scrape(socket: &Path) -> Result<String, ScrapeError> {
    let path = || socket.display().to_string();
    let io = |source| ScrapeError::Io { path: path(), source };
    let mut stream = connect(socket).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.map_err(io)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await.map_err(io)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(ScrapeError::Answer { path: path() }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use mysimbdp_platform::files;

    use super::*;

    #[tokio::test]
    async fn a_scrape_is_answered_on_a_private_socket_that_replaces_a_leftover() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path().join("d".repeat(120)));
        let socket = layout.metrics_socket("test");
        modes::create_private_directory(&layout.metrics()).expect("directory");
        std::mem::forget(SocketListener::bind(&socket).expect("a socket that nobody removes"));
        let endpoint = Endpoint::start(&layout, "test");
        let mode = |path: &Path| files::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&layout.metrics()), mode(&socket)), (0o700, 0o600));
        let text = scrape(&socket).await.expect("answer");
        assert!(text.contains("mysimbdp_build_info{version="), "{text}");
        assert!(text.contains("# TYPE mysimbdp_process_start_time_seconds gauge\n"), "{text}");

        let others = ["POST /metrics", "GET /", "GET /metrics/x", "get /metrics", ""];
        let others = others.map(|request| format!("{request} HTTP/1.1\r\n\r\n"));
        for request in others.iter().chain([&"x".repeat(REQUEST_BYTES_MAX + 1)]) {
            let mut stream = connect(&socket).await.expect("connect");
            // The rest of what is too long may meet a closed connection.
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 404 "), "{request}: {answer:?}");
        }
        // Those that send nothing keep nobody from being answered.
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX + 1 {
            silent.push(connect(&socket).await.expect("connect"));
        }
        assert!(timeout(ANSWERED_WITHIN * 5, scrape(&socket)).await.expect("in time").is_ok());
        drop(endpoint);
        let ended = async {
            while scrape(&socket).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(ANSWERED_WITHIN, ended).await.expect("nobody answers any more");
    }

    #[tokio::test]
    async fn an_address_is_served_until_the_end_and_a_taken_one_is_an_error_that_names_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let taken = Endpoint::listen(address).await.expect_err("it is taken");
        assert_eq!(taken.to_string(), format!("cannot serve metrics on {address}"));
        drop(listener);
        let endpoint = Endpoint::listen(address).await.expect("it is free");
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connect");
        stream.write_all(b"GET /metrics?x=1 HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\nmysimbdp_build_info{version="), "{answer}");
        drop(endpoint);
    }
}
