//! The result of reconciling: rows of runs, sources and messages, totals by client, and the differences.

use std::collections::BTreeMap;

use mysimbdp_config::Stream;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_store::sequences::SourceWatermark;
use serde::Serialize;

use super::compare::{Content, Counted, Later, Numbers};
use super::disk::Disk;

/// The most differences that are listed; further ones are only counted. Rows that balance are listed until there are
/// this many rows, rows that differ until there are twice as many.
const KEPT_MAX: usize = 1000;

/// The result of reconciling.
#[derive(Debug, Default, Serialize)]
pub struct ReconcileReport {
    pub clients: BTreeMap<String, Totals>,
    /// One row for each ingestion.
    pub runs: Vec<RunRow>,
    pub sources: Vec<SourceRow>,
    pub messages: Vec<MessagesRow>,
    /// How many rows that balance were left out.
    pub left_out: u64,
    pub differences: Vec<String>,
    pub differences_in_all: u64,
}

/// The totals of all ingestions of a client.
#[derive(Debug, Default, Serialize)]
pub struct Totals {
    pub contents: u64,
    pub received: i64,
    pub stored: i64,
    pub duplicates: i64,
    pub rejected: i64,
    pub in_coredms: u64,
    pub superseded: u64,
    pub expired: u64,
    /// The number of staged files; `held` and `discarded` likewise.
    pub staged: usize,
    pub held: usize,
    pub discarded: usize,
    /// How many numbers of its sources are lost.
    pub lost: u64,
}

/// The latest ingested run of an ingestion, or its last run if none was ingested.
#[derive(Debug, Serialize)]
pub struct RunRow {
    pub client: String,
    pub run: String,
    pub file: String,
    pub state: FinalState,
    pub received: i64,
    pub stored: i64,
    pub duplicates: i64,
    pub rejected: i64,
    /// `null` if it cannot be counted.
    pub in_coredms: Option<u64>,
    pub superseded: u64,
    pub expired: u64,
    pub verdict: &'static str,
}

/// One epoch of a source.
#[derive(Debug, Serialize)]
pub struct SourceRow {
    pub client: String,
    pub collection: String,
    pub source: String,
    pub epoch: String,
    pub through: u64,
    pub beyond: u64,
    pub gaps: u64,
    /// `null` if it cannot be counted.
    pub accounted: Option<u64>,
    pub lost: u64,
    pub verdict: &'static str,
}

/// What a stream has stored.
#[derive(Debug, Serialize)]
pub struct MessagesRow {
    pub client: String,
    pub stream: String,
    pub collection: String,
    pub documents: u64,
    /// Documents of numbered sources, which are compared; `null` if the `_id` does not tell.
    pub numbered: Option<u64>,
    /// All other documents, which are only counted.
    pub unnumbered: Option<u64>,
}

impl ReconcileReport {
    /// Whether nothing differs and nothing is lost.
    pub fn balances(&self) -> bool {
        self.differences_in_all == 0
    }

    pub(super) fn difference(&mut self, difference: String) {
        self.differences_in_all += 1;
        if self.differences.len() < KEPT_MAX {
            self.differences.push(difference);
        }
    }

    pub(super) fn disk(&mut self, client: &ClientId, disk: &Disk) {
        let totals = self.clients.entry(client.to_string()).or_default();
        (totals.staged, totals.held, totals.discarded) = (disk.staged, disk.held, disk.discarded);
        for path in &disk.unreadable {
            self.difference(format!("client {client}: {path} has no readable manifest or reason"));
        }
    }

    pub(super) fn content(&mut self, content: &Content) {
        let Some(run) = content.latest().or(content.runs.last()) else { return };
        let differences = content.differences();
        let (superseded, expired) = (content.superseded(), content.expired());
        if run.state == FinalState::Ingested {
            let totals = self.clients.entry(run.client.clone()).or_default();
            totals.contents += 1;
            totals.received += run.received;
            totals.stored += run.stored;
            totals.duplicates += run.duplicates;
            totals.rejected += run.rejected;
            totals.in_coredms += content.in_coredms().unwrap_or(0);
            totals.superseded += superseded;
            totals.expired += expired;
        }
        let verdict = match content.counted {
            _ if !differences.is_empty() => "differs",
            _ if content.later == Later::Replaces => "being replaced",
            Counted::Unaudited => "unaudited",
            Counted::NotIngested => run.state.as_str(),
            Counted::Platform(_)
            | Counted::Unexpired(_)
            | Counted::Key(_)
            | Counted::UnexpiredKey(_)
            | Counted::Object { .. }
            | Counted::NoApp => "balances",
        };
        let differs = !differences.is_empty();
        for difference in differences {
            self.difference(format!("client {}: {:?}, run {}: {difference}", run.client, run.file, run.id));
        }
        let Run { received, stored, duplicates, rejected, state, .. } = *run;
        if self.may_keep(self.runs.len(), differs) {
            self.runs.push(RunRow {
                client: run.client.clone(),
                run: run.id.clone(),
                file: run.file.clone(),
                state,
                received,
                stored,
                duplicates,
                rejected,
                in_coredms: content.in_coredms(),
                superseded,
                expired,
                verdict,
            });
        }
    }

    pub(super) fn source(
        &mut self,
        client: &ClientId,
        known: &SourceWatermark,
        numbers: &Numbers,
        gaps: u64,
    ) {
        self.clients.entry(client.to_string()).or_default().lost += numbers.lost;
        let (name, epoch) = (known.source.name.to_string(), known.source.epoch.to_string());
        let differences = numbers.differences();
        let verdict = match (differences.is_empty(), numbers.accounted) {
            (false, _) => "differs",
            (true, None) => "not counted",
            (true, Some(_)) => "balances",
        };
        if self.may_keep(self.sources.len(), !differences.is_empty()) {
            self.sources.push(SourceRow {
                client: client.to_string(),
                collection: known.collection.clone(),
                source: name.clone(),
                epoch: epoch.clone(),
                through: numbers.through,
                beyond: numbers.beyond,
                gaps,
                accounted: numbers.accounted.map(|first| first + numbers.accounted_beyond.unwrap_or(0)),
                lost: numbers.lost,
                verdict,
            });
        }
        for difference in differences {
            self.difference(format!("client {client}: source {name}, epoch {epoch}: {difference}"));
        }
    }

    /// `numbered` is `None` if the documents of the collection do not tell.
    pub(super) fn messages(
        &mut self,
        client: &ClientId,
        stream: &Stream,
        documents: u64,
        numbered: Option<u64>,
    ) {
        self.messages.push(MessagesRow {
            client: client.to_string(),
            stream: stream.name.clone(),
            collection: stream.collection.clone(),
            documents,
            numbered,
            unnumbered: numbered.map(|numbered| documents.saturating_sub(numbered)),
        });
    }

    /// Rows that balance leave capacity for rows that differ.
    fn may_keep(&mut self, rows: usize, differs: bool) -> bool {
        let may_keep = rows < if differs { 2 * KEPT_MAX } else { KEPT_MAX };
        self.left_out += u64::from(!may_keep && !differs);
        may_keep
    }
}
