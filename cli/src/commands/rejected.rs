//! `mysimbdp rejected`: shows the rejected records of a file to people, or writes them in the file's own format, so
//! that they can be repaired and dropped.
//!
//! For a held file the records are read from the file in `held/`; for an ingested one from the client's database.

use bson::doc;
use mysimbdp_config::{Config, REJECTED};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::Format;
use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_platform::files;
use mysimbdp_query::open_history;
use mysimbdp_spool::staging::content::{Content, RecordFinder};
use mysimbdp_spool::staging::{self, StagingError};
use mysimbdp_store::rejected::RejectedBytes;
use mysimbdp_store::{Coredms, Order};

use crate::args::Rejected;
use crate::error::CommandError;
use crate::output::{Foreign, print_content};

/// How many documents are read at a time; each may have 16 MiB.
const PAGE: i64 = 32;

/// How many bytes of a record are shown to a person.
const SHOWN_BYTES_MAX: usize = 400;

pub async fn run(config: &Config, args: &Rejected) -> Result<(), CommandError> {
    let (layout, ingestion) = (&config.layout, args.ingestion);
    // Users other than the platform's may not be allowed to read these directories, but may be allowed to read the
    // store.
    let owners = staging::owners(layout).unwrap_or_default();
    if let Some(client) = owners.iter().find(|client| files::exists(&layout.held(client, ingestion))) {
        return of_held(config, client, args);
    }
    if owners.iter().any(|client| files::exists(&layout.staged(client, ingestion))) {
        let problem =
            format!("{ingestion} is being ingested: its rejected records are known when it has ended");
        return Err(CommandError::new(exit::TEMPORARY, problem));
    }
    let runs = runs_of(config, ingestion).await?;
    let run = last_run(&runs, ingestion)?;
    let later = unlisted(&runs, run);
    let client = run.client.parse().ok().and_then(|id| config.client(&id)).ok_or_else(|| {
        let problem = format!("client {} of this file is no longer in the config", Foreign(&run.client));
        CommandError::new(exit::NO_INPUT, problem)
    })?;
    let store = mysimbdp_store::open(&config.coredms_url, &client.database).await?;
    let listed = of_ingested(store.as_ref(), run, args, later.is_none()).await;
    store.close().await;
    listed?;
    later.map_or(Ok(()), |problem| Err(CommandError::new(exit::NO_INPUT, problem)))
}

async fn runs_of(config: &Config, ingestion: IngestionId) -> Result<Vec<Run>, CommandError> {
    let history = open_history(config).await?;
    let runs = history.runs_of(ingestion).await;
    history.close().await;
    Ok(runs?)
}

/// Returns the last run that has ingested the content. What other runs rejected is not in the store.
fn last_run(runs: &[Run], ingestion: IngestionId) -> Result<&Run, CommandError> {
    let last = runs.iter().max_by_key(|run| (run.state == FinalState::Ingested, run.finished_at));
    let last = last.ok_or_else(|| unknown(ingestion))?;
    match last.state {
        FinalState::Ingested => Ok(last),
        FinalState::Purged => {
            Err(CommandError::new(exit::NO_INPUT, format!("{ingestion} was purged, with all its records")))
        }
        FinalState::Held | FinalState::Discarded => {
            let problem = format!(
                "according to the history {ingestion} is held, but it is not in held/, or this user cannot read held/"
            );
            Err(CommandError::new(exit::NO_INPUT, problem))
        }
    }
}

/// Returns a warning if a later run was held: what that one rejected cannot be shown any more.
fn unlisted(runs: &[Run], ingested: &Run) -> Option<String> {
    let later = runs.iter().filter(|run| run.staged_at > ingested.staged_at);
    let state = match later.max_by_key(|run| run.staged_at)?.state {
        FinalState::Purged => "has been purged",
        FinalState::Held => "is no longer in held/, or this user cannot read held/",
        FinalState::Ingested | FinalState::Discarded => return None,
    };
    let ingestion = &ingested.ingestion;
    Some(format!(
        "a later run of {ingestion} was held and {state}: its rejected records cannot be shown, and these are only those of the last ingested run"
    ))
}

fn unknown(ingestion: IngestionId) -> CommandError {
    CommandError::new(
        exit::NO_INPUT,
        format!(
            "no held or ingested file has the id {ingestion}; `mysimbdp status` and the history list the ids"
        ),
    )
}

fn of_held(config: &Config, client: &ClientId, args: &Rejected) -> Result<(), CommandError> {
    let failed = |error: StagingError| CommandError::of(exit::IO, &error);
    let unreadable = |error| CommandError::of(exit::IO, &error);
    let held = staging::read_held(&config.layout, client, args.ingestion).map_err(failed)?;
    let (directory, manifest) = (&held.directory, &held.manifest);
    let prefix = Content::prefix(directory, manifest);
    let prefix = prefix.read(0, prefix.bytes()).map_err(unreadable)?;
    let mut listing = Listing::begin(args.content, manifest.format, &prefix)?;
    let mut finder = RecordFinder::new(directory);
    for index in held.outcomes.values().filter(|one| one.counts.rejected > 0).map(|one| one.index) {
        for reject in staging::read_rejects(directory, index)? {
            let reject = reject.map_err(failed)?;
            let content = finder.find(manifest, reject.record).map_err(unreadable)?;
            let bytes = content.read(0, content.bytes()).map_err(unreadable)?;
            listing.add(reject.record, &reject.reason, Some(&bytes))?;
        }
    }
    listing.end(true)
}

/// Lists the records in the client's database. `is_all` is false if a later run has rejected records that cannot be
/// shown.
async fn of_ingested(
    store: &dyn Coredms,
    run: &Run,
    args: &Rejected,
    is_all: bool,
) -> Result<(), CommandError> {
    let (mut first, end) = (args.ingestion.record_id(0), args.ingestion.record_id(u64::MAX));
    let rejected = u64::try_from(run.rejected).unwrap_or(0);
    // Checked first: if all records are missing, not even the beginning of an export is printed.
    if store.count_ids(REJECTED, first, end).await? == 0 {
        require_all(rejected, 0)?;
    }
    let files = format!("{REJECTED}.files");
    let id = bson::Binary {
        subtype: bson::spec::BinarySubtype::Generic,
        bytes: args.ingestion.as_bytes().to_vec(),
    };
    let described = store.find(&files, doc! { "_id": id }, 1).await?;
    let format = described.first().and_then(|prefix| {
        let name = prefix.get_document("metadata").ok()?.get_str("format").ok()?;
        [Format::Csv, Format::Ndjson, Format::Json, Format::Binary]
            .into_iter()
            .find(|format| format.as_str() == name)
    });
    let prefix = store.object(REJECTED, args.ingestion).await?.unwrap_or_default();
    let format = format.unwrap_or_else(|| Format::of_file_name(&run.file));
    let mut listing = Listing::begin(args.content, format, &prefix)?;
    loop {
        let page = store.find_ids(REJECTED, first, end, Order::Ascending, PAGE).await?;
        let is_last = (page.len() as i64) < PAGE;
        for reject in page {
            let record = mysimbdp_store::whole(reject.get("record"));
            first = args.ingestion.record_id(record + 1);
            let bytes = match RejectedBytes::of(&reject, "content") {
                RejectedBytes::Inline(bytes) => Some(bytes),
                RejectedBytes::Object(id) => store.object(REJECTED, id).await?,
                RejectedBytes::NotKept => None,
            };
            listing.add(record, reject.get_str("reason").unwrap_or_default(), bytes.as_deref())?;
        }
        if is_last {
            let listed = listing.records;
            listing.end(is_all)?;
            return require_all(rejected, listed);
        }
    }
}

/// Checks that all rejected records were listed.
///
/// # Errors
///
/// Somebody has removed some of them from the collection.
fn require_all(rejected: u64, listed: u64) -> Result<(), CommandError> {
    if listed >= rejected {
        return Ok(());
    }
    let left = if listed == 0 { "none".to_owned() } else { listed.to_string() };
    let problem =
        format!("{rejected} records were rejected, but the collection {REJECTED} has {left} of them");
    Err(CommandError::new(exit::DATA, problem))
}

/// The listing that is being printed.
struct Listing {
    content: bool,
    format: Format,
    records: u64,
    /// Records without bytes: an earlier version stored them, and did not keep their bytes.
    without: u64,
}

impl Listing {
    fn begin(content: bool, format: Format, prefix: &[u8]) -> Result<Self, CommandError> {
        if content {
            match format {
                Format::Csv => print_content(&[prefix, if is_line(prefix) { b"" } else { b"\n" }])?,
                Format::Ndjson => print_content(&[prefix])?,
                Format::Json => print_content(&[b"["])?,
                Format::Binary => {}
            }
        }
        Ok(Self { content, format, records: 0, without: 0 })
    }

    fn add(&mut self, record: u64, reason: &str, bytes: Option<&[u8]>) -> Result<(), CommandError> {
        self.without += u64::from(bytes.is_none());
        if !self.content {
            println!("record {record}: {}", Foreign(reason));
            println!("    {}", bytes.map_or_else(|| "(its bytes were not kept)".to_owned(), excerpt));
        } else if let Some(bytes) = bytes {
            match self.format {
                Format::Csv | Format::Ndjson => print_content(&[bytes, b"\n"])?,
                Format::Json if self.records == 0 => print_content(&[b"\n", bytes])?,
                Format::Json => print_content(&[b",\n", bytes])?,
                Format::Binary => print_content(&[bytes])?,
            }
        }
        self.records += 1;
        Ok(())
    }

    /// Ends the listing. Without `is_all` it does not say that no record was rejected.
    fn end(self, is_all: bool) -> Result<(), CommandError> {
        if self.content && self.format == Format::Json {
            print_content(&[b"\n]\n"])?;
        }
        if !self.content && self.records == 0 && is_all {
            println!("no record of it was rejected");
        }
        match self.without {
            0 => Ok(()),
            count if self.content => Err(CommandError::new(
                exit::DATA,
                format!(
                    "{count} of {} records were listed by a version that did not keep their bytes",
                    self.records
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn is_line(bytes: &[u8]) -> bool {
    bytes.last().is_none_or(|byte| matches!(byte, b'\n' | b'\r'))
}

/// Returns the beginning of a record, on one line.
fn excerpt(bytes: &[u8]) -> String {
    let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]);
    match bytes.len().checked_sub(SHOWN_BYTES_MAX) {
        None | Some(0) => Foreign(&begin).to_string(),
        Some(more) => format!("{} … and {more} more bytes", Foreign(&begin)),
    }
}
