//! What happens, as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use serde::Deserialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval, sleep, timeout};
use utoipa::IntoParams;

use crate::access;
use crate::events::Subscription;
use crate::extract::{Allowed, Query, Read};
use crate::problem::{Problem, ProblemCode, Result};
use crate::server::Server;
use crate::windows::live;

/// A comment is sent after this time without an event, so that both sides notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// Only what concerns this client.
    client: Option<String>,
}

/// What happens
///
/// Server-sent events. `waiting`, `staged`, `progress`, `held`, `discarded`, `ingested` and `purged` have a file as in
/// `/api/files`, `scaled` has a stream as in `/api/streams` and the number of instances `before`, `arrival` has a contract as in
/// `/api/arrivals` of which a due time was judged, `window` has a closed window
/// of a view that publishes them. A client that reconnects with `Last-Event-ID`, as browsers do, gets what it has missed; if that is not
/// kept any more, its first event is `resync`: read the lists again. A client that reads too slowly is disconnected, and so is
/// one whose token no longer allows it.
#[utoipa::path(
    get,
    path = "/events",
    operation_id = "listen",
    tag = "events",
    params(Parameters, ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was received")),
    responses(
        (status = 200, description = "Events, without end", body = String, content_type = "text/event-stream"),
        Problem,
    )
)]
pub(crate) async fn listen(
    State(server): State<Arc<Server>>,
    allowed: Allowed<Read>,
    Query(parameters): Query<Parameters>,
    request_headers: HeaderMap,
) -> Result<Response> {
    let only = allowed.client(parameters.client.as_deref())?.map(|client| client.to_string());
    let last_seen = request_headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let subscription = server.events.subscribe(last_seen, only).ok_or_else(|| {
        let detail = "too many event streams are open: see serving.event_streams_max";
        Problem::new(ProblemCode::Unavailable, detail)
    })?;
    let within = server.config().settings.serving.query_timeout.duration();
    let looking = async {
        server.events.looking().await;
        live::publishing(&server).await;
    };
    if timeout(within, looking).await.is_err() {
        let detail =
            format!("changes could not be looked for within {within:?}: the store may be unavailable");
        return Err(Problem::new(ProblemCode::Unavailable, detail));
    }
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    let is_caller = move || access::caller(&server, &request_headers).is_ok_and(|now| now == allowed.caller);
    Ok((headers, body(subscription, is_caller)).into_response())
}

/// How often it is checked whether the listener may still listen.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// What a listener is sent.
struct Messages {
    subscription: Subscription,
    may_listen: Box<dyn Fn() -> bool + Send>,
    checks: Interval,
    keep_alive: Duration,
    silence: Pin<Box<Sleep>>,
    sent_at: Instant,
}

impl Messages {
    fn new(
        subscription: Subscription,
        keep_alive: Duration,
        may_listen: impl Fn() -> bool + Send + 'static,
    ) -> Self {
        let silence = Box::pin(sleep(keep_alive));
        let mut checks = interval(CHECK_EVERY);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let may_listen = Box::new(may_listen);
        Self { subscription, may_listen, checks, keep_alive, silence, sent_at: Instant::now() }
    }

    /// Events, or a comment if there are none for some time. `None` at the end, and if the listener may no longer listen.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                biased;
                _ = self.checks.tick() => {
                    if !(self.may_listen)() {
                        return None;
                    }
                }
                events = self.subscription.next() => {
                    self.sent_at = Instant::now();
                    return events;
                }
                () = &mut self.silence => {
                    // Moved here and not with each event, of which there are many more.
                    let is_due = self.sent_at.elapsed() >= self.keep_alive;
                    if is_due {
                        self.sent_at = Instant::now();
                    }
                    self.silence.as_mut().reset(self.sent_at + self.keep_alive);
                    if is_due {
                        return Some(Bytes::from_static(b":\n\n"));
                    }
                }
            }
        }
    }
}

fn body(subscription: Subscription, may_listen: impl Fn() -> bool + Send + 'static) -> Body {
    // With the id of the event before the next one: a listener that is cut off now goes on from here.
    let resync = subscription
        .must_resync
        .then(|| Bytes::from(format!("id: {}\nevent: resync\ndata: {{}}\n\n", subscription.last_id())));
    let messages = Messages::new(subscription, KEEP_ALIVE, may_listen);
    let messages = stream::unfold(messages, async |mut messages| {
        let message = messages.next().await?;
        Some((message, messages))
    });
    Body::from_stream(stream::iter(resync).chain(messages).map(Ok::<_, Infallible>))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Events;

    #[tokio::test]
    async fn a_listener_without_events_is_sent_a_comment_now_and_then() {
        let keep_alive = Duration::from_millis(20);
        let events = Arc::new(Events::new(1));
        let subscription = events.subscribe(None, None).expect("a subscription");
        let mut messages = Messages::new(subscription, keep_alive, || true);
        let started = Instant::now();
        for number in 1..4 {
            assert_eq!(messages.next().await.as_deref(), Some(b":\n\n".as_slice()));
            assert!(started.elapsed() >= keep_alive * number);
        }
        events.close();
        assert_eq!(messages.next().await, None);
    }

    #[tokio::test]
    async fn a_listener_that_may_no_longer_listen_is_sent_nothing_more() {
        let events = Arc::new(Events::new(1));
        let subscription = events.subscribe(None, None).expect("a subscription");
        let mut messages = Messages::new(subscription, Duration::from_millis(20), || false);
        assert_eq!(messages.next().await, None);
    }
}
