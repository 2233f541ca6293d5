//! Errors as `application/problem+json` (RFC 9457).

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mysimbdp_model::error_chain;
use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_platform::files::FileError;
use mysimbdp_query::QueryError;
use mysimbdp_store::CoredmsError;
use mysimbdp_stream_manager::control::client::ControlError;
use serde::Serialize;
use utoipa::openapi::{self, ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

/// After this time it is worth trying again: a restarted process or an elected primary takes about as long.
pub(crate) const RETRY_AFTER_SECONDS: u32 = 5;

/// The result of a handler.
pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// Why a request failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: `code` tells the kind of problem.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    code: ProblemCode,
    /// What is wrong with this request, and what is allowed.
    detail: String,
}

/// The kind of a problem, for programs. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProblemCode {
    /// A parameter, header or body is not allowed. 400.
    InvalidRequest,
    /// No valid token. 401.
    Unauthorized,
    /// The token does not allow this, or a web page of another site sent the request. 403.
    Forbidden,
    /// No such client, file, record, stream or path. 404.
    NotFound,
    /// The path has no such method. 405.
    MethodNotAllowed,
    /// None of the accepted media types is available. 406.
    NotAcceptable,
    /// The state or the config does not allow this now. 409.
    Conflict,
    /// The body has not arrived in time. 408.
    Timeout,
    /// The body does not have its `Content-Digest`. 400.
    DigestMismatch,
    /// The body is larger than allowed. 413.
    TooLarge,
    /// The body is compressed, or not of the expected type. 415.
    UnsupportedMediaType,
    /// The range is not within the object. 416.
    RangeNotSatisfiable,
    /// What is stored is damaged, or the file would be refused. 422.
    InvalidData,
    /// A fault of the platform. 500.
    Internal,
    /// Reading or writing a file failed. 500.
    Io,
    /// Broker, store or a manager is unavailable; try again. 503.
    Unavailable,
}

impl ProblemCode {
    fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest | Self::DigestMismatch => StatusCode::BAD_REQUEST,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::InvalidData => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal | Self::Io => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<ErrorKind> for ProblemCode {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidRequest => Self::InvalidRequest,
            ErrorKind::InvalidData => Self::InvalidData,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::NotPermitted => Self::Forbidden,
            ErrorKind::Internal => Self::Internal,
            ErrorKind::Io => Self::Io,
            ErrorKind::Temporary | ErrorKind::Configuration => Self::Conflict,
        }
    }
}

impl Problem {
    pub(crate) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        let status = code.status();
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code,
            detail: detail.into(),
        }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::InvalidRequest, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::NotFound, detail)
    }

    fn of(kind: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Self {
        let (code, detail) = (kind.into(), error_chain(error));
        // Paths and addresses of this host are not for every caller.
        if matches!(code, ProblemCode::Internal | ProblemCode::Io) {
            tracing::error!(error = detail, "request failed");
            return Self::new(code, "a fault of the platform: the log of the HTTP server has the details");
        }
        Self::new(code, detail)
    }
}

/// Describes it as the answer of every handler to a request that fails.
impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let problem = ResponseBuilder::new()
            .description("The request failed")
            .content("application/problem+json", content)
            .build();
        BTreeMap::from([("default".to_owned(), problem.into())])
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (code, status) = (self.code, self.code.status());
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match code {
            ProblemCode::Unavailable => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
            }
            ProblemCode::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Store(error) => error.into(),
            error => Self::of(error.kind(), &error),
        }
    }
}

impl From<CoredmsError> for Problem {
    fn from(error: CoredmsError) -> Self {
        if error.is_retryable() {
            tracing::debug!(error = error_chain(&error), "the store is unavailable");
            return Self::new(
                ProblemCode::Unavailable,
                "the store is unavailable: /readyz?verbose tells why",
            );
        }
        match error {
            CoredmsError::Incomplete { .. } => Self::of(ErrorKind::InvalidData, &error),
            _ => Self::of(ErrorKind::Internal, &error),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error.kind() {
            // It hangs, or waits for broker or store.
            ErrorKind::Temporary => Self::of(ErrorKind::Unavailable, &error),
            kind => Self::of(kind, &error),
        }
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        Self::of(ErrorKind::Io, &error)
    }
}
