//! The remote drop: a file arrives by HTTP and goes the way of one that is dropped into the directory.

use std::ffi::OsStr;

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::StreamExt;
use jiff::SignedDuration;
use mysimbdp_config::{Client, Config};
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::{clock, files, space};
use mysimbdp_query::drop_file::DropTarget;
use mysimbdp_query::file_list::FileState;
use mysimbdp_query::file_outcome::{self, Dropped, FileOutcome, FileProgress};
use mysimbdp_spool::drop_directory::DropPath;
use mysimbdp_spool::staging;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use tokio::task::block_in_place;
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use crate::api::{Binary, FileStateSchema};
use crate::extract::{DropFiles, Path, Query, Read, Tenant};
use crate::page;
use crate::problem::{Problem, ProblemCode, Result};

/// Begins the names of files that are arriving.
pub(crate) const UNFINISHED: &str = ".http-drop-";

/// A file that has been taken is in no directory and in no history only while it is being staged.
const UNSEEN_MAX: SignedDuration = SignedDuration::from_mins(1);

/// The free space is checked each time that this much has arrived.
const CHECK_SPACE_EVERY: u64 = 64 << 20;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DropParameters {
    /// `live`, or `backfill`: then it waits for all live files of the client.
    #[param(value_type = Option<String>, pattern = "^(live|backfill)$")]
    lane: Option<DropLane>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DropLane {
    Live,
    Backfill,
}

/// A file that was dropped.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DroppedFile {
    /// Its path in the drop directory. If a file of this name was already waiting, the name has a number.
    path: String,
    /// Identifies its content.
    ingestion: String,
    bytes: u64,
    /// The address that tells what has become of it.
    status: String,
}

/// Drop a file
///
/// The body is the file. It becomes visible to the platform only when it is complete and durable, and is then validated,
/// split and ingested like a file that is dropped into the directory. Sending it again after a lost answer does no harm:
/// content that has been ingested before is recognised.
#[utoipa::path(
    put,
    path = "/api/clients/{client}/files/{name}",
    operation_id = "drop_file",
    tag = "files",
    params(
        ("client" = String, Path),
        ("name" = String, Path, description = "The name of the file"),
        DropParameters,
        (
            "Content-Digest" = Option<String>, Header, description = "Verified if it has sha-256 or sha-512 (RFC 9530)",
            pattern = "^sha-(256|512)=:[A-Za-z0-9+/]+={0,2}:$",
        ),
    ),
    request_body(content = Binary, content_type = "application/octet-stream"),
    responses(
        (status = 202, description = "It is dropped; `Location` tells what becomes of it", body = DroppedFile),
        Problem,
    )
)]
pub(crate) async fn put(
    tenant: Tenant<DropFiles>,
    Path((_, name)): Path<(String, String)>,
    Query(parameters): Query<DropParameters>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let (config, client) = (&tenant.config, tenant.client());
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        let detail = "a Content-Encoding is not supported: expected the bytes of the file itself";
        return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
    }
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(Problem::invalid("a Content-Range is not supported: expected the whole file"));
    }
    if headers.get_all(header::TRANSFER_ENCODING).iter().any(|encoding| encoding != "chunked") {
        let detail = "the Transfer-Encoding is not supported: expected chunked, or none";
        return Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
    }
    let bytes_max = bytes_max(config, client);
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    require_size(announced.unwrap_or(0), bytes_max)?;
    require_space(config, announced.unwrap_or(0))?;
    let mut digests = Digests::expected(&headers)?;
    let lane = match parameters.lane {
        Some(DropLane::Backfill) => Lane::Backfill,
        Some(DropLane::Live) | None => Lane::Live,
    };
    let mut target = DropTarget::open(config, &client.id, lane)?.with_prefix(UNFINISHED);
    let mut upload = block_in_place(|| target.begin(OsStr::new(&name)))?;
    let idle = config.settings.serving.idle_timeout.duration();
    let (mut body, mut count, mut checked) = (body.into_data_stream(), 0_u64, 0_u64);
    loop {
        let piece = match timeout(idle, body.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(Problem::invalid(format!("the body broke off: {error}"))),
            Err(_) => {
                let detail = format!("no byte of the body has arrived for {idle:?}");
                return Err(Problem::new(ProblemCode::Timeout, detail));
            }
        };
        count += piece.len() as u64;
        require_size(count, bytes_max)?;
        if count - checked >= CHECK_SPACE_EVERY {
            checked = count;
            require_space(config, 0)?;
        }
        block_in_place(|| {
            digests.update(&piece);
            upload.write(&piece)
        })?;
    }
    digests.verify()?;
    let dropped = upload.finish().await?;
    let status = format!("/api/clients/{}/drops/{}", client.id, page::cursor(&DropToken::of(&dropped)));
    let file = DroppedFile {
        path: dropped.target.to_string(),
        ingestion: dropped.ingestion.to_string(),
        bytes: dropped.bytes,
        status: status.clone(),
    };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, status)], Json(file)).into_response())
}

/// The most bytes that a file of this client may have.
fn bytes_max(config: &Config, client: &Client) -> u64 {
    let own = client.settings.files.file_bytes_max.map_or(u64::MAX, |max| max.as_u64());
    own.min(config.rules.file_bytes_max)
}

fn require_size(bytes: u64, bytes_max: u64) -> Result<()> {
    if bytes <= bytes_max {
        return Ok(());
    }
    let detail =
        format!("the file is larger than this client's files may be: expected at most {bytes_max} bytes");
    Err(Problem::new(ProblemCode::TooLarge, detail))
}

/// Refuses what would leave less free space than intake requires.
fn require_space(config: &Config, bytes: u64) -> Result<()> {
    let free_min = config.settings.fetchdata.free_space_min.as_u64();
    let free = space::of(&config.layout.staging())?.free_bytes;
    if free >= free_min.saturating_add(bytes) {
        return Ok(());
    }
    let detail =
        format!("the disk is too full for this file: {free} bytes are free, {free_min} must be left");
    Err(Problem::new(ProblemCode::Unavailable, detail))
}

/// The digests of a body that its sender has announced.
struct Digests {
    sha256: Option<(Sha256, Vec<u8>)>,
    sha512: Option<(Sha512, Vec<u8>)>,
}

impl Digests {
    /// Reads `Content-Digest`; other algorithms in it are ignored.
    fn expected(headers: &HeaderMap) -> Result<Self> {
        let mut digests = Self { sha256: None, sha512: None };
        let values = headers.get_all("content-digest").iter().filter_map(|value| value.to_str().ok());
        for member in values.flat_map(|value| value.split(',')).map(str::trim) {
            let Some((algorithm, value)) = member.split_once('=') else {
                return Err(Self::malformed(member));
            };
            let digest = || {
                // Parameters of a value mean nothing here.
                let value = value.split_once(";").map_or(value, |(value, _)| value);
                let encoded = value.strip_prefix(':').and_then(|value| value.strip_suffix(':'));
                encoded
                    .and_then(|encoded| STANDARD.decode(encoded).ok())
                    .ok_or_else(|| Self::malformed(member))
            };
            match algorithm {
                name if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                    return Err(Self::malformed(member));
                }
                "sha-256" => digests.sha256 = Some((Sha256::new(), digest()?)),
                "sha-512" => digests.sha512 = Some((Sha512::new(), digest()?)),
                _ => {}
            }
        }
        Ok(digests)
    }

    fn malformed(member: &str) -> Problem {
        Problem::invalid(format!(
            "invalid Content-Digest {member:?}: expected sha-256=:<Base64>: or sha-512=:<Base64>:"
        ))
    }

    fn update(&mut self, piece: &[u8]) {
        if let Some((hasher, _)) = &mut self.sha256 {
            hasher.update(piece);
        }
        if let Some((hasher, _)) = &mut self.sha512 {
            hasher.update(piece);
        }
    }

    fn verify(self) -> Result<()> {
        let sha256 = self.sha256.is_none_or(|(hasher, expected)| hasher.finalize().as_slice() == expected);
        let sha512 = self.sha512.is_none_or(|(hasher, expected)| hasher.finalize().as_slice() == expected);
        if sha256 && sha512 {
            return Ok(());
        }
        let detail = "the body does not have its Content-Digest: it was changed on the way, send it again";
        Err(Problem::new(ProblemCode::DigestMismatch, detail))
    }
}

/// What identifies a drop, in the address of its state.
#[derive(Debug, Serialize, Deserialize)]
struct DropToken {
    target: String,
    ingestion: IngestionId,
    bytes: u64,
    since_millis: i64,
    earlier_runs_millis: i64,
}

impl DropToken {
    fn of(dropped: &Dropped) -> Self {
        Self {
            target: URL_SAFE_NO_PAD.encode(dropped.target.as_bytes()),
            ingestion: dropped.ingestion,
            bytes: dropped.bytes,
            since_millis: dropped.since.as_millisecond(),
            earlier_runs_millis: dropped.earlier_runs.timestamp_millis(),
        }
    }

    fn dropped(self) -> Option<Dropped> {
        Some(Dropped {
            target: DropPath::of_bytes(&URL_SAFE_NO_PAD.decode(self.target).ok()?)?,
            ingestion: self.ingestion,
            bytes: self.bytes,
            since: jiff::Timestamp::from_millisecond(self.since_millis).ok()?,
            earlier_runs: bson::DateTime::from_millis(self.earlier_runs_millis),
            earlier_receipt: None,
        })
    }
}

/// What has become of a dropped file.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DropStatus {
    #[schema(value_type = FileStateSchema)]
    state: FileState,
    /// Whether the state is final: held, discarded or ingested.
    has_ended: bool,
    path: String,
    ingestion: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    micro_batches: Option<u64>,
    /// Micro-batches that are ingested.
    #[serde(skip_serializing_if = "Option::is_none")]
    micro_batches_done: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<u64>,
    /// Records that were already stored before.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<u64>,
    /// From the time that it had settled to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    /// Why it is held or discarded, or what a staged one waits for.
    reasons: Vec<String>,
}

/// What has become of a dropped file
///
/// The address is in the answer to the drop. Ask again until `has_ended`.
#[utoipa::path(
    get,
    path = "/api/clients/{client}/drops/{drop}",
    operation_id = "get_drop",
    tag = "files",
    params(("client" = String, Path), ("drop" = String, Path, description = "From `status` of a dropped file")),
    responses(
        (status = 200, description = "Its state", body = DropStatus),
        Problem,
    )
)]
pub(crate) async fn status(
    tenant: Tenant<Read>,
    Path((_, token)): Path<(String, String)>,
) -> Result<Json<DropStatus>> {
    let unknown = || Problem::not_found("no such drop: expected the address in the answer to the drop");
    let token = page::position::<DropToken>(&token).map_err(|_| unknown())?;
    let dropped = token.dropped().ok_or_else(unknown)?;
    // The path is of this client's folder, so nothing is told about other clients.
    let folders = [Lane::Live, Lane::Backfill].map(|lane| DropPath::of_client(&tenant.id, lane));
    if !folders.contains(&dropped.target.parent()) {
        return Err(unknown());
    }
    let progress = file_outcome::progress(&tenant.config, &tenant.id, &dropped).await?;
    let mut status = DropStatus {
        state: FileState::Waiting,
        has_ended: false,
        path: dropped.target.to_string(),
        ingestion: dropped.ingestion.to_string(),
        bytes: dropped.bytes,
        micro_batches: None,
        micro_batches_done: None,
        received: None,
        stored: None,
        duplicates: None,
        rejected: None,
        seconds: None,
        reasons: Vec::new(),
    };
    match progress {
        FileProgress::Dropped => {}
        FileProgress::Taken { hidden_because: Some(reason) } => {
            return Err(Problem::new(ProblemCode::Unavailable, reason));
        }
        FileProgress::Taken { hidden_because: None } => {
            let age = clock::now().duration_since(dropped.since);
            let is_staged = files::exists(&tenant.config.layout.staged(&tenant.id, dropped.ingestion));
            if !is_staged && age > UNSEEN_MAX {
                let detail =
                    "there is no trace of this file any more: it was removed before it was taken, or purged";
                return Err(Problem::not_found(detail));
            }
            status.state = FileState::Staged;
            if let Ok(staged) = staging::read(&tenant.config.layout, &tenant.id, dropped.ingestion) {
                status.micro_batches = Some(staged.manifest.micro_batches.len() as u64);
                status.micro_batches_done = Some(staged.outcomes.len() as u64);
                status.reasons.extend(staged.attempts.into_values().filter_map(|attempt| attempt.reason));
            }
        }
        FileProgress::Ended(outcome) => {
            status.has_ended = true;
            end(&mut status, outcome);
        }
    }
    Ok(Json(status))
}

fn end(status: &mut DropStatus, outcome: FileOutcome) {
    let count = |number: i64| Some(u64::try_from(number).unwrap_or(0));
    match outcome {
        FileOutcome::Ingested { run } => {
            status.state = FileState::Ingested;
            status.received = count(run.received);
            status.stored = count(run.stored);
            status.duplicates = count(run.duplicates);
            status.rejected = count(run.rejected);
            status.seconds = Some(run.seconds);
        }
        FileOutcome::Receipt { counts, seconds } => {
            status.state = FileState::Ingested;
            status.received = Some(counts.received);
            status.stored = Some(counts.stored);
            status.duplicates = Some(counts.duplicates);
            status.rejected = Some(counts.rejected);
            status.seconds = Some(seconds);
        }
        FileOutcome::Held(reasons) => (status.state, status.reasons) = (FileState::Held, reasons),
        FileOutcome::Discarded(reasons) => (status.state, status.reasons) = (FileState::Discarded, reasons),
    }
}
