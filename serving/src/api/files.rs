//! All files and their states.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use mysimbdp_query::file_list::{self, FileFilter, FilePosition, FileState, ListedFile};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

use crate::api::{FileStateSchema, file_state_names};
use crate::extract::{Allowed, Query, Read, number, time};
use crate::page::{self, Page};
use crate::problem::{Problem, Result};
use crate::representation::{Item, Representation};
use crate::server::Server;

/// A file and its state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileItem {
    #[schema(value_type = FileStateSchema)]
    state: FileState,
    /// Absent if no client's rules claimed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// Identifies it in its state: the path of a waiting file, the ingestion of a staged or held one, the directory of a
    /// discarded one, the run of an ingested or purged one.
    id: String,
    /// Identifies its content; absent if that has not been read.
    #[serde(skip_serializing_if = "Option::is_none")]
    ingestion: Option<String>,
    name: String,
    /// The queue: live, backfill or retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    lane: Option<mysimbdp_model::manifest::Lane>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    received_at: Option<Timestamp>,
    /// When it was held, discarded, ingested or purged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// Records in the file, once they have been counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    micro_batches: Option<u64>,
    /// Micro-batches of a staged file that are ingested.
    #[serde(skip_serializing_if = "Option::is_none")]
    micro_batches_done: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<u64>,
    /// Records that were already stored before.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<u64>,
    /// Why it is held or discarded, or what a staged file waits for.
    reasons: Vec<String>,
    /// The kind of each reason of a held or discarded file, for programs.
    #[schema(value_type = Vec<String>)]
    codes: Vec<mysimbdp_model::reason::ReasonCode>,
}

impl Item for FileItem {
    const COLUMNS: &'static [&'static str] = &[
        "state",
        "client",
        "id",
        "ingestion",
        "name",
        "lane",
        "bytes",
        "received_at",
        "ended_at",
        "records",
        "micro_batches",
        "micro_batches_done",
        "stored",
        "duplicates",
        "rejected",
        "reasons",
        "codes",
    ];
}

fn states_schema() -> RefOr<Schema> {
    let one = file_state_names().join("|");
    let pattern = format!("^({one})(,({one}))*$");
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).into()
}

/// Which files are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Parameters {
    /// Only the files of this client.
    client: Option<String>,
    /// Only files in these states, with commas between them: waiting, staged, held, discarded, ingested, purged.
    #[param(schema_with = states_schema)]
    state: Option<String>,
    /// Only files whose name contains this.
    name: Option<String>,
    /// Only files received at this time or later.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only files received before this time.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Files in a page.
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// `next` of the previous page.
    cursor: Option<String>,
}

/// All files and their states
///
/// In the order of their way: waiting in the drop directory, staged, held, discarded, ingested. A file that moves on while
/// the pages are read is listed at least once. A page may have fewer files than `limit`, even none, and not be the last:
/// the last one has no `next`.
#[utoipa::path(
    get,
    path = "/api/files",
    operation_id = "list_files",
    tag = "files",
    params(Parameters),
    responses(
        (status = 200, description = "A page of files", content(
            (Page<FileItem> = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        Problem,
    )
)]
pub(crate) async fn list(
    State(server): State<Arc<Server>>,
    allowed: Allowed<Read>,
    Query(parameters): Query<Parameters>,
    representation: Representation,
) -> Result<Response> {
    let filter = FileFilter {
        client: allowed.client(parameters.client.as_deref())?,
        states: parameters.state.as_deref().map(states).transpose()?.unwrap_or_default(),
        name_contains: parameters.name,
        since: parameters.since,
        until: parameters.until,
    };
    let limit = page::limit(parameters.limit)?;
    let after = parameters.cursor.as_deref().map(page::position::<FilePosition>).transpose()?;
    let page = file_list::page(&allowed.config, server.history(), &filter, after, limit).await?;
    representation.page(Page {
        items: page.files.into_iter().map(item).collect(),
        next: page.next.as_ref().map(page::cursor),
    })
}

fn states(text: &str) -> Result<Vec<FileState>> {
    let parse = |name: &str| serde_json::from_value(serde_json::Value::from(name));
    text.split(',').map(parse).collect::<Result<_, _>>().map_err(|_| {
        let expected = file_state_names().join(",");
        Problem::invalid(format!("invalid state {text:?}: expected one or more of {expected}"))
    })
}

pub(crate) fn item(file: ListedFile) -> FileItem {
    let (progress, counts) = (file.progress, file.counts);
    FileItem {
        state: file.state,
        client: file.client,
        id: file.id,
        ingestion: file.ingestion,
        name: file.name,
        lane: file.lane,
        bytes: file.bytes,
        received_at: file.received_at,
        ended_at: file.ended_at,
        records: progress.map(|progress| progress.records).or(counts.map(|counts| counts.received)),
        micro_batches: progress.map(|progress| progress.micro_batches as u64),
        micro_batches_done: progress.map(|progress| progress.units_done as u64),
        stored: counts.map(|counts| counts.stored),
        duplicates: counts.map(|counts| counts.duplicates),
        rejected: counts.map(|counts| counts.rejected),
        reasons: file.reasons,
        codes: file.codes,
    }
}
