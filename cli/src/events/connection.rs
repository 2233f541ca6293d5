//! Listens to the events of a server, and again after an outage, from where it was.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_platform::backoff::Backoff;
use ureq::http::{Method, header};

use super::parser::{Event, EventParser};
use crate::api_client::{ApiClient, ApiError, Timeouts};
use crate::error::CommandError;

/// The server sends something at least every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// A server that does not even accept a connection within this time is tried again.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How soon a server that refuses is asked again: its tokens may be edited.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 << 10;

/// The waits of a client that listens.
pub const TIMEOUTS: Timeouts = Timeouts { connect: CONNECT_WITHIN, silence: Some(SILENCE_MAX) };

/// What a listener is told.
#[derive(Debug)]
pub enum ConnectionEvent {
    /// The server answers. What happens from now on, or has happened since the last event, is told.
    Connected,
    Event(Event),
    /// There is no connection, or it has broken.
    Lost(ConnectionLoss),
}

/// Why there is no connection.
#[derive(Debug)]
pub struct ConnectionLoss {
    pub error: CommandError,
    /// Whether the server has answered that this caller may not listen, or to no such client.
    pub is_refusal: bool,
}

/// Whether to go on listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Listen,
    Stop,
}

/// Listens to this client's events, or to all, until `tell` says to stop or the sender of `stop` is dropped. Blocks.
pub fn listen(
    api: &ApiClient,
    client: Option<&ClientId>,
    stop: &Receiver<()>,
    mut tell: impl FnMut(ConnectionEvent) -> Next,
) {
    let mut connection = Connection { api, path: path(client), last_id: None };
    let mut backoff = Backoff::default();
    loop {
        let ended = connection.listen(|event| {
            backoff.reset();
            tell(event)
        });
        let Err(outage) = ended else { return };
        let wait = if outage.is_refusal { REFUSED_AGAIN_AFTER } else { backoff.wait() };
        if tell(ConnectionEvent::Lost(outage)) == Next::Stop {
            return;
        }
        if stop.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn path(client: Option<&ClientId>) -> String {
    client.map_or_else(|| "/events".to_owned(), |client| format!("/events?client={client}"))
}

struct Connection<'a> {
    api: &'a ApiClient,
    path: String,
    /// The last event that was told; `None` before the first connection.
    last_id: Option<String>,
}

impl Connection<'_> {
    /// Listens until it is told to stop, or the connection breaks.
    fn listen(&mut self, mut tell: impl FnMut(ConnectionEvent) -> Next) -> Result<(), ConnectionLoss> {
        // An unknown id makes the server begin with `resync`, and so name its present event: also a listener that has heard
        // no event yet can go on from there.
        let is_first = self.last_id.is_none();
        let request = self
            .api
            .request(Method::GET, &self.path)
            .map_err(ConnectionLoss::from)?
            .header(header::ACCEPT, "text/event-stream")
            .header("last-event-id", self.last_id.as_deref().unwrap_or("none"))
            .body(());
        let mut body = self.api.run(request).map_err(ConnectionLoss::from)?.into_reader();
        if tell(ConnectionEvent::Connected) == Next::Stop {
            return Ok(());
        }
        let mut parser = EventParser::default();
        let mut buffer = vec![0; READ_BYTES];
        let mut is_beginning = is_first;
        loop {
            let count = body.read(&mut buffer).map_err(|error| ConnectionLoss::broken(&error.to_string()))?;
            if count == 0 {
                return Err(ConnectionLoss::broken("the server has ended the connection"));
            }
            let events = parser
                .push(&buffer[..count])
                .map_err(|_| ConnectionLoss::broken("the answer is not a list of events"))?;
            for event in events {
                self.last_id = Some(event.id.clone());
                let is_answer = std::mem::take(&mut is_beginning) && event.kind == "resync";
                if !is_answer && tell(ConnectionEvent::Event(event)) == Next::Stop {
                    return Ok(());
                }
            }
        }
    }
}

impl ConnectionLoss {
    fn broken(reason: &str) -> Self {
        Self { error: CommandError::new(exit::UNAVAILABLE, reason), is_refusal: false }
    }
}

impl From<ApiError> for ConnectionLoss {
    fn from(ApiError { was_answered, error }: ApiError) -> Self {
        let is_temporary = matches!(error.code, exit::UNAVAILABLE | exit::TEMPORARY | exit::SOFTWARE);
        Self { is_refusal: was_answered && !is_temporary, error }
    }
}
