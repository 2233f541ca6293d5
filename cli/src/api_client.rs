//! Requests to the HTTP server of a platform, on this host or another one, with the token of the caller.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_config::Config;
use mysimbdp_config::address::ServerState;
use mysimbdp_model::{error_chain, exit};
use mysimbdp_platform::files;
use serde::Deserialize;
use tokio_rustls::rustls::crypto::ring;
use ureq::http::{Method, Request, Response, StatusCode, header, request};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, AsSendBody, Body};

use crate::error::CommandError;
use crate::output::Foreign;

/// The environment variable with the token.
const TOKEN_VARIABLE: &str = "MYSIMBDP_TOKEN";

/// The server answers the head of a request at once, or after its own `query_timeout`.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// An answer is a document, or a page of a list.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Where a server is.
#[derive(Clone, Debug)]
pub enum ServerAddress {
    /// At the address that was asked for, without a slash at its end.
    Named(String),
    /// At the address that the server of this host has written to this file. It may be another one after a restart.
    WrittenTo(PathBuf),
}

/// A client of the HTTP API. Clones share their connections.
#[derive(Clone, Debug)]
pub struct ApiClient {
    agent: Agent,
    address: ServerAddress,
    /// The value of the header, if there is a token.
    authorization: Option<String>,
}

/// How long a client waits.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the next bytes of an answer that has begun; `None` for as long as it takes.
    pub silence: Option<Duration>,
}

/// Why a request has no result.
#[derive(Debug)]
pub struct ApiError {
    /// Whether the server has answered: it refuses, or cannot answer this.
    pub was_answered: bool,
    pub error: CommandError,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    response: Response<Body>,
}

/// A refusal of the server.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

impl ServerAddress {
    /// The address that the caller has given.
    ///
    /// # Errors
    ///
    /// It is not the address of an HTTP server.
    pub fn named(url: &str) -> Result<Self, CommandError> {
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        if host.is_none_or(str::is_empty) {
            let problem = format!("invalid address {url:?}: expected https://<host>[:<port>] or http://…");
            return Err(CommandError::new(exit::USAGE, problem));
        }
        Ok(Self::Named(url.trim_end_matches('/').to_owned()))
    }

    /// The address of the server of this data root.
    pub fn of_data_root(config: &Config) -> Self {
        Self::WrittenTo(config.layout.serving_state())
    }

    fn url(&self) -> Result<String, CommandError> {
        let path = match self {
            Self::Named(url) => return Ok(url.clone()),
            Self::WrittenTo(path) => path,
        };
        let missing = |problem: &str| {
            let advice = "start mysimbdp up, or mysimbdp serve; or name the server of another host with --to";
            CommandError::new(exit::UNAVAILABLE, format!("{problem}: {advice}"))
        };
        match ServerState::read(path).map_err(|error| CommandError::of(exit::UNAVAILABLE, &error))? {
            Some(state) if state.process.alive() => Ok(state.url),
            Some(_) => Err(missing("the HTTP server of this data root has ended")),
            None => Err(missing("no HTTP server has been started for this data root")),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: ANSWER_WITHIN, silence: None }
    }
}

impl ApiClient {
    /// Creates a client that sends the token of this file, or else that of the environment, if there is one.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn new(
        address: ServerAddress,
        token_file: Option<&Path>,
        timeouts: Timeouts,
    ) -> Result<Self, CommandError> {
        let token = match token_file {
            Some(file) => Some(files::read_to_string(file)?),
            None => std::env::var(TOKEN_VARIABLE).ok(),
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let roots = rustls_native_certs::load_native_certs().certs;
        let roots: Vec<_> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(Some(timeouts.connect))
            .timeout_connect(Some(timeouts.connect))
            .timeout_recv_response(Some(ANSWER_WITHIN))
            .timeout_per_read(timeouts.silence)
            .build();
        let authorization = token.map(|token| format!("Bearer {token}"));
        Ok(Self { agent: agent.into(), address, authorization })
    }

    /// Begins a request for a path of the server.
    ///
    /// # Errors
    ///
    /// There is no server.
    pub fn request(&self, method: Method, path: &str) -> Result<request::Builder, ApiError> {
        let url = self.address.url().map_err(ApiError::unanswered)?;
        let request = Request::builder().method(method).uri(format!("{url}{path}"));
        Ok(match &self.authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        })
    }

    /// Asks for a document, or a page of a list.
    pub fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, ApiError> {
        self.run(self.request(Method::GET, path)?.body(()))?.json()
    }

    /// Sends a request; an answer other than a success is an error.
    pub fn run(
        &self,
        request: Result<Request<impl AsSendBody>, ureq::http::Error>,
    ) -> Result<Answer, ApiError> {
        self.run_accepting(request, |_| false)
    }

    /// Sends a request; an answer other than a success, or one of these, is an error.
    pub fn run_accepting(
        &self,
        request: Result<Request<impl AsSendBody>, ureq::http::Error>,
        accepts: impl Fn(StatusCode) -> bool,
    ) -> Result<Answer, ApiError> {
        let request = request.map_err(|error| {
            ApiError::unanswered(CommandError::new(exit::USAGE, format!("invalid address: {error}")))
        })?;
        let server = origin(request.uri());
        let changes_something = request.method() != Method::GET;
        let response = self
            .agent
            .run(request)
            .map_err(|error| ApiError::unanswered(unavailable(&server, &error, changes_something)))?;
        let status = response.status();
        if status.is_success() || accepts(status) {
            return Ok(Answer { response });
        }
        let code = exit_code(status);
        let problem = match (Answer { response }).json::<Problem>() {
            Ok(Problem { code, detail }) => {
                format!("{server} refuses ({}): {}", Foreign(&code), Foreign(&detail))
            }
            Err(_) => format!("{server} answers {status}: is it the address of mysimbdp's HTTP server?"),
        };
        Err(ApiError { was_answered: true, error: CommandError::new(code, problem) })
    }

    /// Ends all requests, also those that others wait for: they fail, and so does every later one.
    pub fn shutdown(&self) {
        self.agent.clone().shutdown();
    }
}

impl ApiError {
    fn unanswered(error: CommandError) -> Self {
        Self { was_answered: false, error }
    }

    fn invalid(problem: String) -> Self {
        let problem = format!("cannot parse the answer: {problem}");
        Self { was_answered: true, error: CommandError::new(exit::SOFTWARE, problem) }
    }
}

impl From<ApiError> for CommandError {
    fn from(error: ApiError) -> Self {
        error.error
    }
}

impl Answer {
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub fn json<T: for<'de> Deserialize<'de>>(mut self) -> Result<T, ApiError> {
        let body = self.response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let content = body.read_to_vec().map_err(|error| {
            ApiError::unanswered(CommandError::new(exit::UNAVAILABLE, error_chain(&error)))
        })?;
        serde_json::from_slice(&content).map_err(|error| ApiError::invalid(error.to_string()))
    }

    /// Returns the body, to be read while it arrives.
    pub fn into_reader(self) -> impl std::io::Read {
        self.response.into_body().into_reader()
    }
}

/// Scheme and host of an address.
fn origin(uri: &ureq::http::Uri) -> String {
    format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority().map_or("", |host| host.as_str()))
}

fn unavailable(server: &str, error: &ureq::Error, changes_something: bool) -> CommandError {
    let was_not_sent = matches!(
        error,
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound | ureq::Error::Rustls(_)
    ) || matches!(error, ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused);
    let advice = match changes_something && !was_not_sent {
        true => "; what was sent may have arrived, and may be sent again",
        false => "",
    };
    CommandError::new(
        exit::UNAVAILABLE,
        format!("{server} does not answer: {}{advice}", Foreign(&error_chain(error))),
    )
}

fn exit_code(status: StatusCode) -> u8 {
    match status.as_u16() {
        401 | 403 => exit::NO_PERMISSION,
        404 => exit::NO_INPUT,
        408 | 409 => exit::TEMPORARY,
        400 | 413 | 415 | 422 => exit::DATA,
        502..=504 => exit::UNAVAILABLE,
        _ => exit::SOFTWARE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        for (url, expected) in [
            ("https://ingest.example.org", Some("https://ingest.example.org")),
            ("http://127.0.0.1:8080/", Some("http://127.0.0.1:8080")),
            ("https://", None),
            ("ingest.example.org", None),
            ("ftp://ingest.example.org", None),
            ("", None),
        ] {
            let address = ServerAddress::named(url).and_then(|address| address.url());
            assert_eq!(address.as_deref().ok(), expected, "{url:?}");
            assert!(address.is_ok() || address.is_err_and(|error| error.code == exit::USAGE), "{url:?}");
        }
    }
}
