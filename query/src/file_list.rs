//! All files of all clients, page by page: in the order of their states, then of clients and ids; runs of the history with the
//! latest first.
//!
//! The states follow the way of a file, so a file that moves on while the pages are read is listed at least once, perhaps in
//! two states.

pub(crate) mod on_disk;

use std::pin::pin;

use futures::TryStreamExt;
use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_model::reason::ReasonCode;
use mysimbdp_store::CoredmsError;
use mysimbdp_store::history::History;
use serde::{Deserialize, Serialize};

use crate::error::QueryError;

/// How many entries are examined for one page: a filter that few of them pass must not read everything at once.
const EXAMINED_MAX: usize = 10_000;

/// Where a file is, in the order of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// In the drop directory.
    Waiting,
    /// In the queue, or being ingested.
    Staged,
    /// Its app gave up on it.
    Held,
    /// Refused by validation.
    Discarded,
    /// A run in the history.
    Ingested,
    /// A run in the history: it was held, and then removed.
    Purged,
}

impl FileState {
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Staged, Self::Held, Self::Discarded, Self::Ingested, Self::Purged];

    /// The name in lists and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Staged => "staged",
            Self::Held => "held",
            Self::Discarded => "discarded",
            Self::Ingested => "ingested",
            Self::Purged => "purged",
        }
    }
}

/// Which files are listed.
#[derive(Clone, Debug, Default)]
pub struct FileFilter {
    /// `None`: all clients, and files that belong to none.
    pub client: Option<ClientId>,
    /// Empty: all states.
    pub states: Vec<FileState>,
    /// A part of the file's name.
    pub name_contains: Option<String>,
    /// When the file was received, at the earliest.
    pub since: Option<Timestamp>,
    /// When the file was received, before this time.
    pub until: Option<Timestamp>,
}

/// A file and its state.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedFile {
    pub state: FileState,
    /// `None` if no client's rules claimed it.
    pub client: Option<String>,
    /// What identifies it in its state: the path of a waiting file, the ingestion of a staged or held one, the name of a
    /// discarded one's directory, the run of an ingested one.
    pub id: String,
    pub ingestion: Option<String>,
    pub name: String,
    pub lane: Option<Lane>,
    pub bytes: u64,
    pub received_at: Option<Timestamp>,
    /// When it was held, discarded or ingested.
    pub ended_at: Option<Timestamp>,
    pub progress: Option<UnitProgress>,
    /// Of an ingested file.
    pub counts: Option<RecordCounts>,
    pub reasons: Vec<String>,
    pub codes: Vec<ReasonCode>,
}

/// How much of a staged file is ingested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitProgress {
    pub records: u64,
    pub micro_batches: usize,
    pub units_done: usize,
}

/// The records of a run by result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordCounts {
    pub received: u64,
    pub stored: u64,
    pub duplicates: u64,
    pub rejected: u64,
}

/// A position in the list: that of the last file examined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FilePosition {
    state: FileState,
    /// A client, or `_unrouted`; empty for a run.
    owner: String,
    id: String,
    /// When a run ended, in milliseconds since 1970.
    ended_at: Option<i64>,
}

/// Some files, and where the next page begins. A page may have fewer files than were asked for, even none, and not be the
/// last one.
#[derive(Debug, Default)]
pub struct FilePage {
    pub files: Vec<ListedFile>,
    /// `None` if this is the last page.
    pub next: Option<FilePosition>,
}

impl FileFilter {
    fn wants(&self, state: FileState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    fn accepts(&self, file: &ListedFile) -> bool {
        let is_named = self.name_contains.as_ref().is_none_or(|part| file.name.contains(part.as_str()));
        let since = self.since.is_none_or(|since| file.received_at.is_some_and(|at| at >= since));
        let until = self.until.is_none_or(|until| file.received_at.is_some_and(|at| at < until));
        is_named && since && until
    }
}

/// A page while it is being collected.
struct Collected<'a> {
    filter: &'a FileFilter,
    limit: usize,
    files: Vec<ListedFile>,
    examined: usize,
    last: Option<FilePosition>,
}

impl Collected<'_> {
    fn is_full(&self) -> bool {
        self.files.len() >= self.limit || self.examined >= EXAMINED_MAX
    }

    /// Records that this position has been examined, and the file that was found there.
    fn add(&mut self, position: FilePosition, file: Option<ListedFile>) {
        self.examined += 1;
        self.last = Some(position);
        self.files.extend(file.filter(|file| self.filter.accepts(file)));
    }
}

/// Returns the files after `after`, at most `limit`.
///
/// # Errors
///
/// A directory cannot be read, or the store is unavailable.
pub async fn page<'a>(
    config: &Config,
    history: impl Future<Output = Result<&'a History, CoredmsError>>,
    filter: &FileFilter,
    after: Option<FilePosition>,
    limit: usize,
) -> Result<FilePage, QueryError> {
    let (config, on_disk_filter, on_disk_after) = (config.clone(), filter.clone(), after.clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut collected =
            Collected { filter: &on_disk_filter, limit, files: Vec::new(), examined: 0, last: None };
        on_disk::collect(&config, on_disk_after.as_ref(), &mut collected)?;
        let Collected { files, examined, last, .. } = collected;
        Ok::<_, QueryError>((files, examined, last))
    });
    let (files, examined, last) = read.await.map_err(|error| QueryError::TryLater(error.to_string()))??;
    let mut collected = Collected { filter, limit, files, examined, last };
    let wants_history = filter.wants(FileState::Ingested) || filter.wants(FileState::Purged);
    if wants_history && !collected.is_full() {
        let after = after.filter(|after| after.state >= FileState::Ingested);
        if collect_runs(history.await?, after, &mut collected).await? {
            return Ok(FilePage { files: collected.files, next: None });
        }
    }
    let next =
        collected.last.filter(|_| collected.files.len() >= limit || collected.examined >= EXAMINED_MAX);
    Ok(FilePage { files: collected.files, next })
}

/// Adds runs of the history. Returns true if there are no more of them.
async fn collect_runs(
    history: &History,
    after: Option<FilePosition>,
    collected: &mut Collected<'_>,
) -> Result<bool, QueryError> {
    let after = after
        .as_ref()
        .and_then(|after| Some((bson::DateTime::from_millis(after.ended_at?), after.id.as_str())));
    let mut runs = pin!(history.latest(collected.filter.client.as_ref(), after).await?);
    while !collected.is_full() {
        let Some(run) = runs.try_next().await? else { return Ok(true) };
        let position = FilePosition {
            state: FileState::Ingested,
            owner: String::new(),
            id: run.id.clone(),
            ended_at: Some(run.finished_at.timestamp_millis()),
        };
        let state = state_of(run.state).filter(|state| collected.filter.wants(*state));
        collected.add(position, state.map(|state| of_run(state, run)));
    }
    Ok(false)
}

/// The state of a run's file. A held one is listed from its directory.
pub(crate) fn state_of(state: FinalState) -> Option<FileState> {
    match state {
        FinalState::Ingested => Some(FileState::Ingested),
        FinalState::Purged => Some(FileState::Purged),
        FinalState::Held | FinalState::Discarded => None,
    }
}

pub(crate) fn of_run(state: FileState, run: Run) -> ListedFile {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    ListedFile {
        state,
        client: Some(run.client),
        id: run.id,
        ingestion: Some(run.ingestion),
        name: run.file,
        lane: Some(run.lane),
        bytes: run.bytes,
        received_at: Timestamp::from_millisecond(run.received_at.timestamp_millis()).ok(),
        ended_at: Timestamp::from_millisecond(run.finished_at.timestamp_millis()).ok(),
        progress: None,
        counts: Some(RecordCounts {
            received: count(run.received),
            stored: count(run.stored),
            duplicates: count(run.duplicates),
            rejected: count(run.rejected),
        }),
        reasons: run.reasons,
        codes: run.codes,
    }
}
