//! Who sends a request: its token, and whether a web page of another site may have made a browser send it.
//!
//! A browser sends requests to this server for any page that its user opens. Without tokens these would be answered, so then
//! the request must name this server as its host (a page whose name was pointed at this address does not), and must not come
//! from a page of another site.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::{Problem, ProblemCode};
use crate::server::Server;
use crate::tokens::Caller;

/// What a browser says about a request that a page has caused, and no page can change.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Refuses the request, or lets it pass with its [`Caller`].
pub(crate) async fn check(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let checked = one_host(&request).and_then(|()| caller(&server, request.headers()));
    match checked {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Returns who sends a request with these headers.
pub(crate) fn caller(server: &Server, headers: &HeaderMap) -> Result<Caller, Problem> {
    let Some(tokens) = &server.tokens else {
        require_own_host(&server.config().settings.serving.host_names, headers)?;
        require_own_site(headers)?;
        return Ok(Caller::anyone());
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.and_then(|(_, token)| tokens.caller(token.trim())).ok_or_else(|| {
        let expected =
            "expected a header \"Authorization: Bearer <token>\" with a token of serving.tokens_file";
        Problem::new(ProblemCode::Unauthorized, format!("no valid token: {expected}"))
    })
}

/// Refuses a request that names two hosts: this server and whatever is in front of it might each believe another one.
fn one_host(request: &Request) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let of_target = request.uri().authority().map(Authority::as_str);
    if more.is_none() && of_target.is_none_or(|target| host.is_some_and(|host| host == target)) {
        return Ok(());
    }
    Err(Problem::invalid(
        "the request names more than one host: expected one Host header, and the same in its target",
    ))
}

fn require_own_host(names: &[String], headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let authority = host.parse::<Authority>().ok();
    let name = authority.as_ref().map_or(host, Authority::host);
    let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let is_named =
        names.iter().map(String::as_str).chain(["localhost"]).any(|own| own.eq_ignore_ascii_case(name));
    if is_address || is_named {
        return Ok(());
    }
    Err(Problem::new(
        ProblemCode::Forbidden,
        format!("unknown host {name:?}: expected an IP address, localhost or one of serving.host_names"),
    ))
}

fn require_own_site(headers: &HeaderMap) -> Result<(), Problem> {
    let value = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let (origin, host) = (value(header::ORIGIN), value(header::HOST).unwrap_or_default());
    let is_foreign = match origin.map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host)) {
        Some(origin) => !origin.eq_ignore_ascii_case(host),
        // Browsers send no Origin for what a page embeds, such as an image.
        None => {
            value(SEC_FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none"))
                && !is_followed_link(&value)
        }
    };
    if is_foreign {
        return Err(Problem::new(
            ProblemCode::Forbidden,
            "a page of another site sent this request: expected no Origin, or this server's",
        ));
    }
    Ok(())
}

/// Whether a person has followed a link of another site, which then learns nothing of the answer.
fn is_followed_link<'h>(value: &impl Fn(HeaderName) -> Option<&'h str>) -> bool {
    value(SEC_FETCH_MODE) == Some("navigate") && value(SEC_FETCH_DEST) == Some("document")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn only_requests_for_this_host_are_answered_without_a_token() {
        let names = ["ingest.example.org".to_owned()];
        for (host, expected) in [
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("localhost:8080", true),
            ("LOCALHOST", true),
            ("ingest.example.org:8080", true),
            ("example.org:8080", false),
            ("localhost.example.org", false),
            ("127.0.0.1.example.org", false),
            ("", false),
        ] {
            let answered = require_own_host(&names, &headers(&[(header::HOST, host)]));
            assert_eq!(answered.is_ok(), expected, "{host}");
        }
        assert!(require_own_host(&names, &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        let from = |origin| headers(&[(header::HOST, "127.0.0.1:8080"), (header::ORIGIN, origin)]);
        for (origin, expected) in [
            ("http://127.0.0.1:8080", true),
            ("https://example.org", false),
            ("null", false),
            ("http://127.0.0.1:8081", false),
        ] {
            assert_eq!(require_own_site(&from(origin)).is_ok(), expected, "{origin}");
        }
        assert!(require_own_site(&headers(&[(header::HOST, "x")])).is_ok());
        for (site, mode, destination, expected) in [
            ("same-origin", "cors", "empty", true),
            ("none", "navigate", "document", true),
            ("cross-site", "navigate", "document", true),
            ("cross-site", "navigate", "iframe", false),
            ("cross-site", "no-cors", "image", false),
            // Another port of this host.
            ("same-site", "no-cors", "script", false),
        ] {
            let sent = headers(&[
                (header::HOST, "127.0.0.1:8080"),
                (SEC_FETCH_SITE, site),
                (SEC_FETCH_MODE, mode),
                (SEC_FETCH_DEST, destination),
            ]);
            assert_eq!(require_own_site(&sent).is_ok(), expected, "{site} {mode} {destination}");
        }
    }
}
