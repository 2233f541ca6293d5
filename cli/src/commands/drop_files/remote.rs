//! `mysimbdp drop --to`: sends files to the HTTP server of a platform on another host.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use mysimbdp_model::exit;
use mysimbdp_serving::percent_encoded;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use ureq::SendBody;
use ureq::http::{Method, header};

use super::{COPY_BYTES, name_of, open, progress_bar, some_are_bad};
use crate::api_client::{ApiClient, ServerAddress, Timeouts};
use crate::args::DropFiles;
use crate::error::CommandError;
use crate::output::Foreign;

/// The time between two questions about a file.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// A platform on another host.
struct Remote<'a> {
    client: ApiClient,
    url: &'a str,
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

/// Sends the files. Blocks.
pub fn run(args: &DropFiles, url: &str) -> Result<(), CommandError> {
    let address = ServerAddress::named(url)?;
    let client = ApiClient::new(address, args.token_file.as_deref(), Timeouts::default())?;
    let remote = Remote { client, url: url.trim_end_matches('/') };
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

impl Remote<'_> {
    fn send(&self, args: &DropFiles, file: &Path) -> Result<Dropped, CommandError> {
        let name = name_of(file)?;
        let (mut source, bytes) = open(file)?;
        let digest = digest(&mut source)?;
        let (source, _) = open(file)?;
        let lane = if args.backfill { "?lane=backfill" } else { "" };
        let name_in_path = percent_encoded(name.as_encoded_bytes());
        let path = format!("/api/clients/{}/files/{name_in_path}{lane}", args.client);
        let bar = progress_bar(bytes, &name.to_string_lossy());
        let mut reader = bar.wrap_read(source);
        let request = self
            .client
            .request(Method::PUT, &path)?
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, bytes)
            // A refusal comes before the content is sent, and is not lost in a connection that breaks meanwhile.
            .header(header::EXPECT, "100-continue")
            .header("content-digest", format!("sha-256=:{digest}:"))
            .body(SendBody::from_reader(&mut reader));
        let answer = self.client.run(request);
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
        let Dropped { path, status } = dropped;
        loop {
            match self.client.get::<Status>(status).map_err(CommandError::from) {
                Ok(status) if status.has_ended => return Ok(status),
                Ok(_) => {}
                // It may be restarted, or wait for the store.
                Err(error) if error.code == exit::UNAVAILABLE && Instant::now() < deadline => {}
                Err(error) => {
                    eprintln!("{} is dropped, and cannot be waited for", Foreign(path));
                    return Err(error);
                }
            }
            if Instant::now() >= deadline {
                let problem = format!(
                    "{} has not ended within {:?}; {}{} tells where it is",
                    Foreign(path),
                    args.timeout,
                    self.url,
                    Foreign(status)
                );
                return Err(CommandError::new(exit::TEMPORARY, problem));
            }
            std::thread::sleep(ASK_EVERY);
        }
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
