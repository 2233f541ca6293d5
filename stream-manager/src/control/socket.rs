//! Receives requests over the socket: a JSON line in, a JSON line out, one request per connection.

use std::time::Duration;

use mysimbdp_model::error_chain;
use mysimbdp_platform::socket::SocketListener;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Call, MESSAGE_BYTES_MAX, Refusal, Request, RequestOutcome, Response};

/// How many connections are served at a time; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 32;

/// A local program writes its line at once.
const READ_DEADLINE: Duration = Duration::from_secs(5);
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// Serves until it is dropped, and its connections with it.
pub(crate) async fn serve(listener: SocketListener, calls: mpsc::Sender<Call>) {
    let mut connections = JoinSet::new();
    let mut accepts = true;
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok(stream) => {
                    accepts = true;
                    connections.spawn(serve_connection(stream, calls.clone()));
                }
                Err(error) => {
                    // Logged once, as the failure may last.
                    if std::mem::replace(&mut accepts, false) {
                        tracing::warn!(error = %error_chain(&error), "cannot accept control connections");
                    }
                    // File descriptors may be exhausted: they become available when something closes, not by retrying sooner.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "control connection failed");
                }
            }
        }
    }
}

async fn serve_connection(mut stream: UnixStream, calls: mpsc::Sender<Call>) {
    if let Some(response) = answer(&mut stream, &calls).await {
        // These types have nothing that JSON cannot represent.
        let mut line = serde_json::to_vec(&response).unwrap_or_default();
        line.push(b'\n');
        // The client may have disconnected; then nobody needs the answer.
        let _ = timeout(WRITE_DEADLINE, stream.write_all(&line)).await;
    }
}

/// `None` if nobody waits for an answer.
async fn answer(stream: &mut UnixStream, calls: &mpsc::Sender<Call>) -> Option<Response> {
    let mut line = Vec::new();
    let mut reader = BufReader::new((&mut *stream).take(MESSAGE_BYTES_MAX as u64));
    let read = timeout(READ_DEADLINE, reader.read_until(b'\n', &mut line)).await;
    if line.is_empty() || !matches!(read, Ok(Ok(_))) {
        return None;
    }
    let Some(request) = Request::parse(&line) else {
        return Some(Response { id: String::new(), outcome: Refusal::NotARequest.into() });
    };
    let (reply, answered) = oneshot::channel();
    let id = request.id.clone();
    if calls.send(Call { request, reply }).await.is_err() {
        return Some(Response { id, outcome: Refusal::ShuttingDown.into() });
    }
    let outcome = answered.await.unwrap_or_else(|_| RequestOutcome::from(Refusal::ShuttingDown));
    Some(Response { id, outcome })
}
