//! Sends requests to the manager on this host, for the command line.

use std::time::Duration;

use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::socket::{self, SocketError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{
    Answer, ControlCommand, MESSAGE_BYTES_MAX, Refusal, Request, RequestOutcome, Response, StreamStatus,
};

/// The manager answers at the latest when a request expires, so its answer is awaited a moment longer.
const MARGIN: Duration = Duration::from_secs(2);

/// Draining takes as long as the broker still delivers; most large backlogs are delivered within this time.
const ASK_TIMEOUT: Duration = Duration::from_secs(120);

/// A list is answered at once.
const LIST_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no stream-manager is running for {root}: start mysimbdp up, or mysimbdp stream-manager")]
    NoManager {
        root: String,
        #[source]
        source: SocketError,
    },
    #[error("the stream-manager runs as another user")]
    NotPermitted(#[source] SocketError),
    #[error("connection to the stream-manager failed")]
    Connection(#[from] std::io::Error),
    #[error("cannot reach the stream-manager")]
    Socket(#[source] SocketError),
    #[error("the stream-manager did not answer within {seconds} s")]
    TimedOut { seconds: u64 },
    #[error("cannot parse the stream-manager's answer; it may be of another version")]
    InvalidAnswer(#[source] serde_json::Error),
    #[error("unexpected answer of the stream-manager to a list: {0:?}")]
    NotAList(Box<Answer>),
    #[error(transparent)]
    Refused(Refusal),
}

impl ControlError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoManager { .. } => ErrorKind::Unavailable,
            Self::NotPermitted(_) => ErrorKind::NotPermitted,
            Self::Connection(_) | Self::Socket(_) => ErrorKind::Io,
            Self::TimedOut { .. } => ErrorKind::Temporary,
            Self::InvalidAnswer(_) | Self::NotAList(_) => ErrorKind::Internal,
            Self::Refused(refusal) => refusal.kind(),
        }
    }
}

/// Sends a request to the manager of this data root, and waits for the answer until `request` has expired.
///
/// `timeout` is the one that the request was created with.
///
/// # Errors
///
/// If no manager runs, or it refuses the request, or it does not answer in time.
pub async fn request(layout: &Layout, request: &Request, timeout: Duration) -> Result<Answer, ControlError> {
    let path = layout.stream_manager_socket();
    let stream = socket::connect(&path).await.map_err(|source| match source {
        source if source.is_not_listening() => {
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

/// Sends a command to the manager of this data root. It first requests a short list of the same client, so that no caller
/// waits long for a manager that hangs.
///
/// # Errors
///
/// As [`request`].
pub async fn ask(layout: &Layout, command: ControlCommand) -> Result<Answer, ControlError> {
    let list = ControlCommand::List { client: command.client().cloned() };
    let listed = ask_within(layout, list.clone(), LIST_TIMEOUT).await?;
    if command == list { Ok(listed) } else { ask_within(layout, command, ASK_TIMEOUT).await }
}

async fn ask_within(
    layout: &Layout,
    command: ControlCommand,
    timeout: Duration,
) -> Result<Answer, ControlError> {
    request(layout, &Request::new(command, timeout), timeout).await
}

/// Returns all streams with their instances.
///
/// # Errors
///
/// As [`request`].
pub async fn list(layout: &Layout) -> Result<Vec<StreamStatus>, ControlError> {
    match ask(layout, ControlCommand::List { client: None }).await? {
        Answer::Listed { streams } => Ok(streams),
        other => Err(ControlError::NotAList(Box::new(other))),
    }
}

async fn exchange(mut stream: UnixStream, request: &Request) -> Result<Answer, ControlError> {
    let mut line = serde_json::to_vec(request).map_err(ControlError::InvalidAnswer)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(MESSAGE_BYTES_MAX as u64)).read_until(b'\n', &mut answer).await?;
    if answer.is_empty() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            "the stream-manager ended before it answered",
        )
        .into());
    }
    let response: Response = serde_json::from_slice(&answer).map_err(ControlError::InvalidAnswer)?;
    match response.outcome {
        RequestOutcome::Answer(answer) => Ok(answer),
        RequestOutcome::Refused { refusal, .. } => Err(ControlError::Refused(refusal)),
    }
}
