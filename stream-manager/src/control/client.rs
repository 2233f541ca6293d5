//! Asks the manager of this host: what the command line does.

use std::time::Duration;

use mysimbdp_model::exit;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::socket::{self, SocketError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Answer, MESSAGE_BYTES_MAX, Outcome, Refusal, Request, Response};

/// The manager answers when a request expires, so it is given a moment longer than that.
const MARGIN: Duration = Duration::from_secs(2);

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no stream-manager runs for {root}: start mysimbdp up, or mysimbdp stream-manager")]
    NoManager {
        root: String,
        #[source]
        source: SocketError,
    },
    #[error("the stream-manager runs as another user")]
    NotPermitted(#[source] SocketError),
    #[error("cannot talk to the stream-manager")]
    Connection(#[from] std::io::Error),
    #[error("cannot reach the stream-manager")]
    Socket(#[source] SocketError),
    #[error("the stream-manager did not answer within {seconds} s")]
    TimedOut { seconds: u64 },
    #[error("the stream-manager's answer cannot be read; is it of another version?")]
    Garbled(#[source] serde_json::Error),
    #[error(transparent)]
    Refused(Refusal),
}

impl ControlError {
    /// The exit code of the command.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoManager { .. } => exit::UNAVAILABLE,
            Self::NotPermitted(_) => exit::NO_PERMISSION,
            Self::Connection(_) | Self::Socket(_) => exit::IO,
            Self::TimedOut { .. } => exit::TEMPORARY,
            Self::Garbled(_) => exit::SOFTWARE,
            Self::Refused(refusal) => refusal.exit_code(),
        }
    }
}

/// Asks the manager of this data root, and waits for its answer until `request` has expired.
///
/// `timeout` is what the request was made with.
///
/// # Errors
///
/// No manager runs, or it refuses, or it does not answer in time.
pub async fn request(layout: &Layout, request: &Request, timeout: Duration) -> Result<Answer, ControlError> {
    let path = layout.stream_manager_socket();
    let stream = socket::connect(&path).await.map_err(|source| match source {
        source if source.is_nobody() => {
            ControlError::NoManager { root: layout.root().display().to_string(), source }
        }
        source if source.is_permission_denied() => ControlError::NotPermitted(source),
        source => ControlError::Socket(source),
    })?;
    let limit = timeout.saturating_add(MARGIN);
    match self::timeout(limit, exchange(stream, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(ControlError::TimedOut { seconds: limit.as_secs() }),
    }
}

async fn exchange(mut stream: UnixStream, request: &Request) -> Result<Answer, ControlError> {
    let mut line = serde_json::to_vec(request).map_err(ControlError::Garbled)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(MESSAGE_BYTES_MAX as u64)).read_until(b'\n', &mut answer).await?;
    if answer.is_empty() {
        return Err(
            std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it ended before it answered").into()
        );
    }
    let response: Response = serde_json::from_slice(&answer).map_err(ControlError::Garbled)?;
    match response.outcome {
        Outcome::Answer(answer) => Ok(answer),
        Outcome::Refused { refusal, .. } => Err(ControlError::Refused(refusal)),
    }
}
