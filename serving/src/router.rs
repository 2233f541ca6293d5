//! All routes, and the OpenAPI document that describes them.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use tokio::time::timeout;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::openapi::schema::Array;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, OpenApi, Ref, RefOr, Schema};
use utoipa::{Modify, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access;
use crate::api::{
    access as caller_access, arrivals, clients, drops, events, files, health, ingestions, latest,
    measurements, metrics, objects, queues, records, rejected, streams, views, windows,
};
use crate::dashboard;
use crate::problem::{Problem, ProblemCode};
use crate::server::Server;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "mysimbdp",
        description = "Files, ingestions, records and streams of the ingestion platform. Errors are problem documents (RFC 9457) with a stable `code`. Lists come in pages: `next` of one is `cursor` of the next; as NDJSON or CSV its address is in a `Link` header.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    security(("token" = [])),
    components(schemas(Problem)),
    modifiers(&Token),
    tags(
        (name = "access", description = "What the caller may do"),
        (name = "clients", description = "The tenants"),
        (name = "files", description = "Dropped files and what became of them"),
        (name = "ingestions", description = "The content of a file, and its runs"),
        (name = "queues", description = "Staged files that wait for their apps"),
        (name = "arrivals", description = "Which files are expected when, and whether they came"),
        (name = "objects", description = "Files that are stored as a whole"),
        (name = "records", description = "The stored records of both layers in the order of time"),
        (name = "streams", description = "Stream apps and their instances"),
        (name = "events", description = "What happens, as it happens"),
        (name = "health", description = "For probes; these need no token"),
    ),
)]
struct Document;

/// Describes the tokens.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description =
            Some("A token of `serving.tokens_file`; needed only if the config names one.".to_owned());
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Makes pages refer to the schemas of their items. The derived ones repeat them, so that generated clients would have two
/// types for the same thing.
fn refer_to_items(document: &mut OpenApi) {
    let schemas = document.components.get_or_insert_with(Components::new).schemas.iter_mut();
    for (name, schema) in schemas {
        if let (Some(item), RefOr::T(Schema::Object(page))) = (name.strip_prefix("Page_"), schema) {
            page.properties.insert("items".to_owned(), Array::new(Ref::from_schema_name(item)).into());
        }
    }
}

/// The routes, by what they need.
struct Routes {
    /// A token, and an answer in time.
    queries: OpenApiRouter<Arc<Server>>,
    /// A token; they take as long as their body, or as what they wait for.
    long: OpenApiRouter<Arc<Server>>,
    /// Nothing.
    open: OpenApiRouter<Arc<Server>>,
}

fn routes() -> Routes {
    let queries = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(caller_access::get))
        .routes(routes!(clients::list))
        .routes(routes!(metrics::get))
        .routes(routes!(measurements::get))
        .routes(routes!(files::list))
        .routes(routes!(drops::status))
        .routes(routes!(ingestions::get))
        .routes(routes!(ingestions::retry))
        .routes(routes!(rejected::list))
        .routes(routes!(rejected::content))
        .routes(routes!(objects::get))
        .routes(routes!(queues::list))
        .routes(routes!(arrivals::list))
        .routes(routes!(views::list))
        .routes(routes!(records::list))
        .routes(routes!(latest::list))
        .routes(routes!(latest::get))
        .routes(routes!(windows::list))
        .routes(routes!(streams::list));
    let long = OpenApiRouter::new()
        .routes(routes!(drops::put))
        .routes(routes!(events::listen))
        .routes(routes!(streams::scale))
        .routes(routes!(streams::start))
        .routes(routes!(streams::stop));
    let open = OpenApiRouter::new()
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::version));
    Routes { queries, long, open }
}

/// The OpenAPI document, as `/api/openapi.json` serves it.
pub fn openapi() -> OpenApi {
    let Routes { queries, long, open } = routes();
    let mut document = queries.merge(long).merge(open).into_openapi();
    refer_to_items(&mut document);
    document
}

pub(crate) fn router(server: Arc<Server>) -> Router {
    let Routes { queries, long, open } = routes();
    let body_bytes_max = server.config().settings.serving.body_bytes_max.as_u64();
    let check = middleware::from_fn_with_state(Arc::clone(&server), access::check);
    let in_time = middleware::from_fn_with_state(Arc::clone(&server), in_time);
    Router::from(queries)
        .layer(in_time)
        .merge(Router::from(long))
        .fallback(|| async { Problem::not_found("no such path: /api/openapi.json lists all of them") })
        .method_not_allowed_fallback(no_such_method)
        .layer(check)
        .merge(Router::from(open).method_not_allowed_fallback(no_such_method))
        .route("/api/openapi.json", routing::get(document))
        .route("/", routing::get(dashboard::page))
        .route("/assets/{*path}", routing::get(dashboard::asset))
        .layer(DefaultBodyLimit::max(usize::try_from(body_bytes_max).unwrap_or(usize::MAX)))
        .layer(overriding(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(unless_present(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"))
        .layer(unless_present(header::CACHE_CONTROL, "no-store"))
        .layer(CompressionLayer::new().compress_when(DefaultPredicate::new().and(is_compressible)))
        .with_state(server)
}

async fn no_such_method() -> Problem {
    Problem::new(ProblemCode::MethodNotAllowed, "the path has no such method")
}

/// Answers for a handler that has not answered in time.
async fn in_time(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let within = server.config().settings.serving.query_timeout.duration();
    match timeout(within, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail =
                format!("no answer within {within:?}: the store may be unavailable, or the query too large");
            Problem::new(ProblemCode::Unavailable, detail).into_response()
        }
    }
}

async fn document(State(_): State<Arc<Server>>) -> Response {
    let json = openapi().to_pretty_json().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// Whether the answer may be compressed: not an object, whose bytes have numbers that a later request may begin from.
fn is_compressible(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    !headers.contains_key(header::ACCEPT_RANGES)
}

/// A header of all answers, for browsers.
fn overriding(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}

/// The same for answers that do not have the header yet.
fn unless_present(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

#[cfg(test)]
mod tests {
    /// `mysimbdp openapi > docs/openapi.json` writes it again.
    #[test]
    fn the_document_in_the_docs_is_the_one_that_is_served() {
        let written = include_str!("../../docs/openapi.json");
        assert_eq!(written.trim_end(), super::openapi().to_pretty_json().expect("JSON"));
    }
}
