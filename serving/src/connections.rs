//! The connections: TLS, limits on their number and on their silence.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use mysimbdp_config::TlsFiles;
use mysimbdp_config::settings::Serving;
use mysimbdp_model::error_chain;
use mysimbdp_platform::files::{self, FileError};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};

use crate::listen::Listener;

/// How long a client may take for its TLS handshake, and for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long requests in progress may take after a shutdown has been requested.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(5);

/// How much may wait to be written to a connection: in this process, and again in the kernel. Listeners to events are many
/// and may be slow.
const UNSENT_BYTES_MAX: u32 = 64 << 10;

/// The wait after a failure to accept, such as a lack of descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{path} can be read by other users: expected a private key that only the platform's user can read"
    )]
    KeyIsOpen { path: String },
    #[error("cannot parse {path}: expected {expected} in PEM form")]
    Pem {
        path: String,
        expected: &'static str,
        #[source]
        source: pem::Error,
    },
    #[error("the certificate and the key of the HTTP server cannot be used")]
    Unusable(#[source] tokio_rustls::rustls::Error),
}

/// Reads certificate and key.
pub(crate) fn tls(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let pem = |path: &Path, expected| {
        let path = path.display().to_string();
        move |source| TlsError::Pem { path: path.clone(), expected, source }
    };
    let certificate = files::read(&files.certificate)?;
    let chain = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem(&files.certificate, "certificates"))?;
    if !files::is_private(&files::metadata(&files.key)?) {
        return Err(TlsError::KeyIsOpen { path: files.key.display().to_string() });
    }
    let key =
        PrivateKeyDer::from_pem_slice(&files::read(&files.key)?).map_err(pem(&files.key, "a private key"))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves connections until `shutdown`, then lets the requests in progress end.
pub(crate) async fn serve(
    listener: Listener,
    tls: Option<TlsAcceptor>,
    app: Router,
    settings: &Serving,
    mut shutdown: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(settings.connections_max as usize));
    let idle = settings.idle_timeout.duration();
    loop {
        let accepted = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                continue;
            }
        };
        let (tls, app, watcher) = (tls.clone(), app.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            let Some(stream) = secured(stream, tls).await else { return };
            let mut stream = Box::pin(TimeoutStream::new(stream));
            // A client that does not take its answer is dropped. One that sends nothing is noticed by the head's timeout,
            // and by whoever reads the body.
            stream.as_mut().set_write_timeout_pinned(Some(idle));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(UNSENT_BYTES_MAX as usize)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(error = error_chain(&error), "connection ended");
            }
        });
    }
    // Requests that take longer are cut off: none of them leaves anything half done.
    let _ = timeout(SHUTDOWN_WITHIN, graceful.shutdown()).await;
}

/// Accepts a connection, once there are fewer than the allowed number of them.
async fn accept(
    listener: &Listener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.socket.accept().await?;
    // Answers are written as a whole.
    let _ = stream.set_nodelay(true);
    // Unlike a smaller send buffer this does not slow down a client that is far away.
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
    Ok((stream, permit))
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// Returns the connection with TLS, if it is required; `None` if the client does not speak it.
async fn secured(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<std::pin::Pin<Box<dyn Stream>>> {
    let Some(tls) = tls else { return Some(Box::pin(stream)) };
    match timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::pin(stream)),
        Ok(Err(error)) => {
            tracing::debug!(error = error_chain(&error), "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}
