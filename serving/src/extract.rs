//! What handlers take from a request: the caller, the client in the path, parameters and JSON bodies.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::header;
use axum::http::request::Parts;
use bytes::Bytes;
use jiff::Timestamp;
use mysimbdp_config::{Client, Config};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_platform::files;
use mysimbdp_query::QueryError;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::problem::{Problem, ProblemCode};
use crate::server::Server;
use crate::tokens::{Caller, Right};

/// A right that a handler requires.
pub(crate) trait Requires {
    const RIGHT: Right;
}

/// See files, records, objects and streams.
#[derive(Debug)]
pub(crate) struct Read;
/// Drop files.
#[derive(Debug)]
pub(crate) struct DropFiles;
/// Retry files; start, stop and scale streams.
#[derive(Debug)]
pub(crate) struct Operate;

impl Requires for Read {
    const RIGHT: Right = Right::Read;
}
impl Requires for DropFiles {
    const RIGHT: Right = Right::Drop;
}
impl Requires for Operate {
    const RIGHT: Right = Right::Operate;
}

/// The client `{client}` of the path, for a caller that has this right to it.
#[derive(Debug)]
pub(crate) struct Tenant<R> {
    pub(crate) config: Arc<Config>,
    pub(crate) id: ClientId,
    right: PhantomData<R>,
}

impl<R> Tenant<R> {
    pub(crate) fn client(&self) -> &Client {
        &self.config.clients[&self.id]
    }
}

impl<R: Requires + Send> FromRequestParts<Arc<Server>> for Tenant<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
        let Allowed { config, caller, .. } = Allowed::<R>::from_request_parts(parts, server).await?;
        let given = path_parameter(parts, server, "client").await?;
        let id = given.parse::<ClientId>().ok();
        // A caller that may not use the client is not told whether it exists.
        let id = id.filter(|id| config.client(id).is_some() && caller.may(R::RIGHT, id));
        match id {
            Some(id) => Ok(Self { config, id, right: PhantomData }),
            None if caller.only_client().is_none() => Err(QueryError::unknown_client(&config, &given).into()),
            None => Err(Problem::new(
                ProblemCode::Forbidden,
                format!("the token is not one for client {given:?}"),
            )),
        }
    }
}

/// A caller that has this right to at least one client.
#[derive(Debug)]
pub(crate) struct Allowed<R> {
    pub(crate) config: Arc<Config>,
    pub(crate) caller: Caller,
    right: PhantomData<R>,
}

impl<R: Requires> Allowed<R> {
    /// The client that is asked for, or the only one that the caller may use; `None`: all clients.
    ///
    /// # Errors
    ///
    /// There is no such client, or the caller may not use it.
    pub(crate) fn client(&self, asked: Option<&str>) -> Result<Option<ClientId>, Problem> {
        let own = self.caller.only_client();
        let Some(asked) = asked else { return Ok(own.cloned()) };
        let unknown = || Problem::from(QueryError::unknown_client(&self.config, asked));
        match (asked.parse::<ClientId>(), own) {
            (Ok(id), None) if self.config.client(&id).is_some() => Ok(Some(id)),
            (Ok(id), Some(own)) if id == *own => Ok(Some(id)),
            (_, None) => Err(unknown()),
            (_, Some(own)) => Err(Problem::new(
                ProblemCode::Forbidden,
                format!("the token is for client {own}, and not for {asked:?}"),
            )),
        }
    }

    /// Whether an ingestion is staged or held for the caller's only client.
    pub(crate) fn owns(&self, ingestion: IngestionId) -> bool {
        let layout = &self.config.layout;
        self.caller.only_client().is_some_and(|own| {
            files::exists(&layout.staged(own, ingestion)) || files::exists(&layout.held(own, ingestion))
        })
    }

    /// Whether the caller may see what belongs to this client.
    pub(crate) fn may_see(&self, client: &str) -> bool {
        self.caller.only_client().is_none_or(|own| own.as_str() == client)
    }
}

impl<R: Requires + Send> FromRequestParts<Arc<Server>> for Allowed<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
        // The layer in front of all handlers has inserted it.
        let caller = parts.extensions.get::<Caller>().cloned();
        let caller = caller.filter(|caller| caller.may_for_some(R::RIGHT)).ok_or_else(|| {
            let right = format!("{:?}", R::RIGHT).to_lowercase();
            Problem::new(ProblemCode::Forbidden, format!("the token does not have the right {right:?}"))
        })?;
        Ok(Self { config: server.config(), caller, right: PhantomData })
    }
}

/// A decoded parameter of the path.
async fn path_parameter(parts: &mut Parts, server: &Arc<Server>, name: &str) -> Result<String, Problem> {
    let parameters = RawPathParams::from_request_parts(parts, server)
        .await
        .map_err(|_| Problem::invalid("the path is not UTF-8: expected percent-encoded UTF-8"))?;
    let value = parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    value.ok_or_else(|| Problem::new(ProblemCode::Internal, format!("the route has no parameter {name}")))
}

/// The parameters of the path, which must be UTF-8.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Server>> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, server).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(error) => Err(Problem::not_found(error.body_text())),
        }
    }
}

/// The parameters of the query. Each is known and given once.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Server>> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Server>) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
        serde_path_to_error::deserialize(pairs).map(Self).map_err(|error| {
            let name = match error.path().to_string() {
                path if path == "." => "query".to_owned(),
                name => name,
            };
            Problem::invalid(format!("invalid {name}: {}", error.into_inner()))
        })
    }
}

/// Reads a time of the query.
pub(crate) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| {
        let expected = "expected RFC 3339, such as 2026-01-31T12:00:00Z, with %2B for the + of an offset";
        D::Error::custom(format!("{text:?}: {expected}"))
    })
}

/// Reads a whole number of the query.
pub(crate) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| D::Error::custom(format!("{text:?}: expected a whole number")))
}

/// Reads a whole number in either of the forms that JSON has for it: `3` and `3.0`.
pub(crate) fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
        return Ok(number as u32);
    }
    Err(D::Error::custom(format!("invalid number {number}: expected a whole number from 0 to {}", u32::MAX)))
}

/// A JSON body.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Server>> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, server: &Arc<Server>) -> Result<Self, Problem> {
        let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).map(str::trim);
        if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json")) {
            let detail = "unsupported Content-Type: expected application/json";
            return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
        }
        let body = Bytes::from_request(request, server).await.map_err(|error| {
            let code = match error.status() {
                axum::http::StatusCode::PAYLOAD_TOO_LARGE => ProblemCode::TooLarge,
                _ => ProblemCode::InvalidRequest,
            };
            Problem::new(code, error.body_text())
        })?;
        let mut json = serde_json::Deserializer::from_slice(&body);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            Problem::invalid(format!("invalid JSON body at {}: {}", error.path(), error.inner()))
        })?;
        json.end().map_err(|error| Problem::invalid(format!("invalid JSON body: {error}")))?;
        Ok(Self(value))
    }
}
