//! What has changed since the last look: files that have moved on, streams that were scaled, and due times that were judged.
//!
//! Nothing notifies of all this, and whatever did might be lost. So [`Watch::poll`] compares what is there with what was there
//! before, as batch-manager does with staging. A file that passes through two states between two looks is reported in the later
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use futures::TryStreamExt;
use mysimbdp_config::Config;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::files;
use mysimbdp_store::history::History;
use mysimbdp_stream_manager::control::StreamStatus;
use mysimbdp_stream_manager::control::client as stream_manager;

use crate::arrivals::{self, ContractStatus};
use crate::error::QueryError;
use crate::file_list::on_disk::{OnDisk, STATES, describe, entries, owners};
use crate::file_list::{FileState, ListedFile, of_run, state_of};

/// How many of the latest runs are compared: more than end between two looks.
const RUNS: usize = 500;
/// How many of the latest verdicts.
const VERDICTS: u64 = 200;

/// Something that has changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// A file has reached another state, or more of a staged one is ingested.
    File(Box<ListedFile>),
    /// A stream is to have another number of instances.
    Scaled { stream: Box<StreamStatus>, before: u32 },
    /// What became of a due time of an arrival contract.
    Arrival(Box<ContractStatus>),
}

/// Looks at files and streams again and again.
#[derive(Debug, Default)]
pub struct Watch {
    /// `None` before the first look.
    files: Option<Arc<BTreeMap<OnDisk, usize>>>,
    /// The ids of the latest runs; `None` before the history was read for the first time.
    runs: Option<BTreeSet<String>>,
    /// How many instances each stream was to have.
    streams: BTreeMap<(String, String), u32>,
    /// The latest verdicts; `None` before they were read for the first time.
    verdicts: Option<BTreeSet<String>>,
}

/// What the last look could not see.
#[derive(Debug, Default)]
pub struct Poll {
    pub changes: Vec<Change>,
    /// Why the history could not be read. The runs that ended meanwhile are reported once it can.
    pub without_history: Option<QueryError>,
}

impl Watch {
    /// Returns what has changed since the last call; nothing at the first one.
    ///
    /// # Errors
    ///
    /// A directory cannot be read.
    pub async fn poll(&mut self, config: &Arc<Config>, history: &History) -> Result<Poll, QueryError> {
        let (scanned, previous) = (Arc::clone(config), self.files.clone());
        let task = tokio::task::spawn_blocking(move || {
            let files = scan(&scanned)?;
            let changed = previous.map(|previous| changed(&previous, &files)).unwrap_or_default();
            let described: Vec<ListedFile> =
                changed.iter().filter_map(|file| describe(&scanned, file)).collect();
            Ok::<_, QueryError>((files, described))
        });
        let (files, described) = task.await.map_err(|error| QueryError::TryLater(error.to_string()))??;
        self.files = Some(Arc::new(files));
        let mut poll = Poll::default();
        poll.changes.extend(described.into_iter().map(|file| Change::File(Box::new(file))));
        match self.new_runs(history).await {
            Ok(ended) => poll.changes.extend(ended.into_iter().map(|file| Change::File(Box::new(file)))),
            Err(error) => poll.without_history = Some(error),
        }
        match Box::pin(self.new_verdicts(config, history)).await {
            Ok(judged) => {
                poll.changes.extend(judged.into_iter().map(|status| Change::Arrival(Box::new(status))))
            }
            Err(error) => poll.without_history = Some(error),
        }
        self.add_scaled(config, &mut poll).await;
        Ok(poll)
    }

    async fn new_runs(&mut self, history: &History) -> Result<Vec<ListedFile>, QueryError> {
        let mut latest = pin!(history.latest(None, None).await?);
        let (mut ids, mut new) = (BTreeSet::new(), Vec::new());
        while ids.len() < RUNS
            && let Some(run) = latest.try_next().await?
        {
            // A held run that is retried ends again under the same id.
            let id = format!("{} {}", run.id, run.state.as_str());
            let is_new = self.runs.as_ref().is_some_and(|known| !known.contains(&id));
            ids.insert(id);
            if is_new && let Some(state) = state_of(run.state) {
                new.push(of_run(state, run));
            }
        }
        self.runs = Some(ids);
        // The latest come first.
        new.reverse();
        Ok(new)
    }

    /// The contracts of which a due time was judged.
    async fn new_verdicts(
        &mut self,
        config: &Config,
        history: &History,
    ) -> Result<Vec<ContractStatus>, QueryError> {
        if !arrivals::has_contracts(config) {
            self.verdicts = Some(BTreeSet::new());
            return Ok(Vec::new());
        }
        let recorded = history.arrivals();
        let (mut known, mut judged) = (BTreeSet::new(), BTreeSet::new());
        for record in recorded.changed(VERDICTS).await? {
            let id = format!("{} {}", record.id(), record.state.as_str());
            if self.verdicts.as_ref().is_some_and(|before| !before.contains(&id)) {
                judged.insert((record.client.clone(), record.contract.clone()));
            }
            known.insert(id);
        }
        let mut found = Vec::new();
        for (client, contract) in judged {
            found.extend(arrivals::contract(config, &recorded, &client, &contract).await?);
        }
        self.verdicts = Some(known);
        Ok(found)
    }

    async fn add_scaled(&mut self, config: &Config, poll: &mut Poll) {
        // Without a stream-manager nothing is scaled.
        let Ok(streams) = stream_manager::list(&config.layout).await else { return };
        for stream in streams {
            let name = (stream.client.to_string(), stream.stream.clone());
            let before = self.streams.insert(name, stream.desired);
            if let Some(before) = before.filter(|before| *before != stream.desired) {
                poll.changes.push(Change::Scaled { stream: Box::new(stream), before });
            }
        }
    }
}

/// All files whose state is their directory, and of staged ones how many units are done.
fn scan(config: &Config) -> Result<BTreeMap<OnDisk, usize>, QueryError> {
    let mut found = BTreeMap::new();
    let owners = owners(config, None)?;
    for state in STATES {
        for owner in &owners {
            let published = |file: &OnDisk| !file.name.as_encoded_bytes().starts_with(b".");
            for file in entries(config, state, owner)?.into_iter().filter(published) {
                let done = if state == FileState::Staged { units_done(config, &file) } else { 0 };
                found.insert(file, done);
            }
        }
    }
    Ok(found)
}

fn units_done(config: &Config, file: &OnDisk) -> usize {
    let directory = config.layout.staging().join(&file.owner).join(&file.id).join(Layout::OUTCOMES);
    // Those of an ingestion that ends meanwhile are no longer there.
    let names = files::names(&directory).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| name.to_str()?.strip_suffix(".json"))
        .filter(|name| !name.contains('.'))
        .count()
}

/// The files that are new where they are, or of which more units are done.
fn changed(before: &BTreeMap<OnDisk, usize>, now: &BTreeMap<OnDisk, usize>) -> Vec<OnDisk> {
    let is_new = |(file, done): &(&OnDisk, &usize)| before.get(file).is_none_or(|earlier| earlier < done);
    let mut changed: Vec<OnDisk> = now.iter().filter(is_new).map(|(file, _)| file.clone()).collect();
    // In the order of a file's way.
    changed.sort_by_key(|file| file.state);
    changed
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::manifest::Lane;

    use super::*;

    #[test]
    fn what_is_new_or_has_progressed_is_a_change() {
        let file = |state, id: &str| OnDisk {
            state,
            owner: "a".to_owned(),
            id: id.to_owned(),
            lane: Lane::Live,
            name: id.into(),
        };
        let before = BTreeMap::from([
            (file(FileState::Waiting, "1"), 0),
            (file(FileState::Staged, "2"), 1),
            (file(FileState::Staged, "3"), 1),
        ]);
        let now = BTreeMap::from([
            (file(FileState::Held, "1"), 0),
            (file(FileState::Staged, "2"), 1),
            (file(FileState::Staged, "3"), 2),
            (file(FileState::Waiting, "4"), 0),
        ]);
        let expected =
            [file(FileState::Waiting, "4"), file(FileState::Staged, "3"), file(FileState::Held, "1")];
        assert_eq!(changed(&before, &now), expected);
        assert!(changed(&now, &now).is_empty());
    }
}
