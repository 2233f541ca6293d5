//! `mysimbdp drop --to`: sends files to the HTTP server of a platform on another host.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_model::{error_chain, exit};
use mysimbdp_platform::files;
use mysimbdp_serving::percent_encoded;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::crypto::ring;
use ureq::http::{Request, Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

use super::{COPY_BYTES, name_of, open, progress_bar, some_are_bad};
use crate::args::DropFiles;
use crate::error::CommandError;
use crate::output::Foreign;

/// The environment variable with the token.
const TOKEN_VARIABLE: &str = "MYSIMBDP_TOKEN";

/// The time between two questions about a file.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// The server answers the head of a request at once, or after its own `query_timeout`.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// An answer is a small document.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A platform on another host.
struct Remote<'a> {
    agent: Agent,
    url: &'a str,
    /// The value of the header, if there is a token.
    authorization: Option<String>,
}

/// The answer to a drop.
#[derive(Deserialize)]
struct Dropped {
    path: String,
    /// Where to ask what becomes of it.
    status: String,
}

/// What has become of a file.
#[derive(Deserialize)]
struct Status {
    state: String,
    has_ended: bool,
    received: Option<u64>,
    stored: Option<u64>,
    duplicates: Option<u64>,
    rejected: Option<u64>,
    seconds: Option<f64>,
    ingestion: String,
    reasons: Vec<String>,
}

/// A refusal of the server.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

/// Sends the files. Blocks.
pub fn run(args: &DropFiles, url: &str) -> Result<(), CommandError> {
    let remote = Remote::new(url, args.token_file.as_deref())?;
    // All files are checked before the first one is sent.
    for file in &args.files {
        open(file)?;
    }
    let mut dropped = Vec::new();
    for file in &args.files {
        let one = remote.send(args, file).inspect_err(|_| {
            dropped.iter().for_each(|one: &Dropped| eprintln!("{} is dropped", Foreign(&one.path)));
        })?;
        dropped.push(one);
    }
    if !args.wait {
        for Dropped { path, status } in &dropped {
            println!(
                "{}: dropped, {}{} tells what becomes of it",
                Foreign(path),
                remote.url,
                Foreign(status)
            );
        }
        return Ok(());
    }
    let deadline = Instant::now() + args.timeout;
    let mut bad = 0;
    for one in &dropped {
        let status = remote.wait(args, one, deadline)?;
        println!("{}: {}", Foreign(&one.path), shown(&status));
        bad += u32::from(status.state != "ingested" || status.rejected != Some(0));
    }
    some_are_bad(bad, dropped.len())
}

impl<'a> Remote<'a> {
    fn new(url: &'a str, token_file: Option<&Path>) -> Result<Self, CommandError> {
        let is_http = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"))
            .is_some_and(|host| !host.is_empty());
        if !is_http {
            let problem = format!("invalid address {url:?}: expected https://<host>[:<port>] or http://…");
            return Err(CommandError::new(exit::USAGE, problem));
        }
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
            .timeout_connect(Some(ANSWER_WITHIN))
            .timeout_recv_response(Some(ANSWER_WITHIN))
            .build();
        let authorization = token.map(|token| format!("Bearer {token}"));
        Ok(Self { agent: agent.into(), url: url.trim_end_matches('/'), authorization })
    }

    fn send(&self, args: &DropFiles, file: &Path) -> Result<Dropped, CommandError> {
        let name = name_of(file)?;
        let (mut source, bytes) = open(file)?;
        let digest = digest(&mut source)?;
        let (source, _) = open(file)?;
        let lane = if args.backfill { "?lane=backfill" } else { "" };
        let url = format!(
            "{}/api/clients/{}/files/{}{lane}",
            self.url,
            args.client,
            percent_encoded(name.as_encoded_bytes())
        );
        let bar = progress_bar(bytes, &name.to_string_lossy());
        let mut reader = bar.wrap_read(source);
        let request = self
            .request("PUT", &url)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, bytes)
            // A refusal comes before the content is sent, and is not lost in a connection that breaks meanwhile.
            .header(header::EXPECT, "100-continue")
            .header("content-digest", format!("sha-256=:{digest}:"))
            .body(SendBody::from_reader(&mut reader));
        let answer = self.run(request);
        bar.finish_and_clear();
        let dropped = answer?.json::<Dropped>()?;
        let expected = format!("/{}", name.to_string_lossy());
        if !dropped.path.ends_with(&expected) {
            let name = name.to_string_lossy();
            eprintln!(
                "{} already exists and is not taken yet: dropped as {}",
                Foreign(&name),
                Foreign(&dropped.path)
            );
        }
        Ok(dropped)
    }

    /// Asks what has become of a file until it has ended.
    fn wait(&self, args: &DropFiles, dropped: &Dropped, deadline: Instant) -> Result<Status, CommandError> {
        let url = format!("{}{}", self.url, dropped.status);
        loop {
            let asked = self.run(self.request("GET", &url).body(())).and_then(Answer::json::<Status>);
            match asked {
                Ok(status) if status.has_ended => return Ok(status),
                Ok(_) => {}
                // It may be restarted, or wait for the store.
                Err(error) if error.code == exit::UNAVAILABLE && Instant::now() < deadline => {}
                Err(error) => {
                    eprintln!("{} is dropped, and cannot be waited for", Foreign(&dropped.path));
                    return Err(error);
                }
            }
            if Instant::now() >= deadline {
                let problem = format!(
                    "{} has not ended within {:?}; {url} tells where it is",
                    Foreign(&dropped.path),
                    args.timeout
                );
                return Err(CommandError::new(exit::TEMPORARY, problem));
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    fn request(&self, method: &str, url: &str) -> ureq::http::request::Builder {
        let request = Request::builder().method(method).uri(url);
        match &self.authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }

    /// Sends a request; an answer other than a success is an error.
    fn run(
        &self,
        request: Result<Request<impl ureq::AsSendBody>, ureq::http::Error>,
    ) -> Result<Answer, CommandError> {
        let request = request.map_err(|error| {
            CommandError::new(exit::USAGE, format!("invalid address {:?}: {error}", self.url))
        })?;
        let response = self.agent.run(request).map_err(|error| {
            let was_sent = !matches!(
                error,
                ureq::Error::ConnectionFailed | ureq::Error::HostNotFound | ureq::Error::Rustls(_)
            ) && !matches!(&error, ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused);
            let advice = if was_sent { "; what was sent may have arrived, and may be sent again" } else { "" };
            let problem = format!("{} does not answer: {}{advice}", self.url, error_chain(&error));
            CommandError::new(exit::UNAVAILABLE, problem)
        })?;
        if response.status().is_success() {
            return Ok(Answer { response });
        }
        let status = response.status();
        let code = match status.as_u16() {
            401 | 403 => exit::NO_PERMISSION,
            404 => exit::NO_INPUT,
            408 | 409 => exit::TEMPORARY,
            400 | 413 | 415 | 422 => exit::DATA,
            502..=504 => exit::UNAVAILABLE,
            _ => exit::SOFTWARE,
        };
        let problem = match (Answer { response }).json::<Problem>() {
            Ok(Problem { code, detail }) => format!("{} refuses ({code}): {}", self.url, Foreign(&detail)),
            Err(_) => format!("{} answers {status}: is it the address of mysimbdp's HTTP server?", self.url),
        };
        Err(CommandError::new(code, problem))
    }
}

/// The answer to a request.
struct Answer {
    response: Response<Body>,
}

impl Answer {
    fn json<T: for<'de> Deserialize<'de>>(mut self) -> Result<T, CommandError> {
        let failure =
            |error: String| CommandError::new(exit::SOFTWARE, format!("cannot parse the answer: {error}"));
        let body = self.response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let content =
            body.read_to_vec().map_err(|error| CommandError::new(exit::UNAVAILABLE, error_chain(&error)))?;
        serde_json::from_slice(&content).map_err(|error| failure(error.to_string()))
    }
}

/// Returns the SHA-256 of the content in Base64.
fn digest(source: &mut impl Read) -> Result<String, CommandError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match source.read(&mut buffer).map_err(|error| CommandError::of(exit::IO, &error))? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hasher.finalize()))
}

/// Describes on one line how a file ended.
fn shown(status: &Status) -> String {
    if status.state != "ingested" {
        return format!("{}: {}", Foreign(&status.state), Foreign(&status.reasons.join("; ")));
    }
    let count = |count: Option<u64>| count.unwrap_or(0);
    let mut text = format!(
        "ingested: received {}, stored {}, duplicates {}, rejected {} in {:.2} s",
        count(status.received),
        count(status.stored),
        count(status.duplicates),
        count(status.rejected),
        status.seconds.unwrap_or(0.0)
    );
    if count(status.rejected) > 0 {
        text.push_str(&format!(
            "; /api/ingestions/{}/rejected lists what was rejected",
            Foreign(&status.ingestion)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component_of_a_path() {
        assert_eq!(percent_encoded("a b%/ü.csv".as_bytes()), "a%20b%25%2F%C3%BC.csv");
    }
}
