//! What happens, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::IntoParams;

use crate::events::{Event, Subscription};
use crate::extract::{Allowed, Query, Read};
use crate::problem::{Problem, ProblemCode, Result};
use crate::server::Server;

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
/// `/api/files`, `scaled` has a stream as in `/api/streams` and the number of instances `before`. A client that reconnects with
/// `Last-Event-ID`, as browsers do, gets what it has missed; if that is not kept any more, its first event is `resync`: read the
/// lists again. A client that reads too slowly is disconnected.
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
    headers: HeaderMap,
) -> Result<Response> {
    let only = allowed.client(parameters.client.as_deref())?.map(|client| client.to_string());
    let last_seen = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let subscription = server.events.subscribe(last_seen).ok_or_else(|| {
        let detail = "too many event streams are open: see serving.event_streams_max";
        Problem::new(ProblemCode::Unavailable, detail)
    })?;
    let within = server.config().settings.serving.query_timeout.duration();
    if timeout(within, server.events.looking()).await.is_err() {
        let detail =
            format!("changes could not be looked for within {within:?}: the store may be unavailable");
        return Err(Problem::new(ProblemCode::Unavailable, detail));
    }
    let messages = messages(server, subscription, only);
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn messages(
    server: Arc<Server>,
    subscription: Subscription,
    only: Option<String>,
) -> impl Stream<Item = Result<Message, Infallible>> + Send {
    let Subscription { must_resync, missed, events, permit } = subscription;
    let resync = must_resync.then(|| Message::default().event("resync").data("{}"));
    // Ends when the listener is too far behind, or the server shuts down.
    let live = stream::unfold((events, permit), async |(mut events, permit)| {
        let event = events.recv().await.ok()?;
        Some((event, (events, permit)))
    });
    let concerns = move |event: &Arc<Event>| only.is_none() || event.client == only;
    let events = stream::iter(missed).chain(live);
    let messages = events.filter(move |event| std::future::ready(concerns(event))).map(move |event| {
        Message::default().id(server.events.id(&event)).event(event.name).data(&event.data)
    });
    stream::iter(resync).chain(messages).map(Ok)
}
