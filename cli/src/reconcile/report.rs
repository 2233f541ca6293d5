//! What reconciling has found: tables of runs, sources and messages, totals by client, and the differences.

use std::collections::BTreeMap;
use std::fmt::Write;

use mysimbdp_config::Stream;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_store::sequences::Known;
use serde::Serialize;

use super::compare::{Content, Counted, Later, Numbers};
use super::disk::Disk;
use crate::output::Foreign;
use crate::table;

/// Rows, and differences, that are kept; more are counted.
const KEPT_MAX: usize = 1000;

/// The result of reconciling.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    clients: BTreeMap<String, Totals>,
    /// The latest run of each content.
    runs: Vec<RunRow>,
    sources: Vec<SourceRow>,
    messages: Vec<MessagesRow>,
    /// Rows that balance and were left out.
    left_out: u64,
    differences: Vec<String>,
    differences_in_all: u64,
}

#[derive(Debug, Default, Serialize)]
struct Totals {
    contents: u64,
    received: i64,
    stored: i64,
    duplicates: i64,
    rejected: i64,
    in_coredms: u64,
    superseded: u64,
    expired: u64,
    /// Files.
    staged: usize,
    held: usize,
    discarded: usize,
    /// Numbers of its sources.
    lost: u64,
}

#[derive(Debug, Serialize)]
struct RunRow {
    client: String,
    run: String,
    file: String,
    state: FinalState,
    received: i64,
    stored: i64,
    duplicates: i64,
    rejected: i64,
    /// `null` where it cannot be counted.
    in_coredms: Option<u64>,
    superseded: u64,
    expired: u64,
    verdict: &'static str,
}

#[derive(Debug, Serialize)]
struct SourceRow {
    client: String,
    collection: String,
    source: String,
    epoch: String,
    through: u64,
    beyond: u64,
    gaps: u64,
    /// `null` where it cannot be counted.
    accounted: Option<u64>,
    lost: u64,
    verdict: &'static str,
}

/// What a stream has stored.
#[derive(Debug, Serialize)]
struct MessagesRow {
    client: String,
    stream: String,
    collection: String,
    documents: u64,
    /// Of numbered sources, which are compared; `null` where that cannot be told from the `_id`.
    numbered: Option<u64>,
    /// Others, which are only counted.
    unnumbered: Option<u64>,
}

impl Report {
    /// Whether nothing differs and nothing is lost.
    pub fn balances(&self) -> bool {
        self.differences_in_all == 0
    }

    /// All that is not as it must be, as far as it was kept.
    pub fn differences(&self) -> &[String] {
        &self.differences
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = self.client_table();
        if !self.runs.is_empty() {
            let _ = write!(text, "\n{}", self.run_table());
        }
        if !self.sources.is_empty() {
            let _ = write!(text, "\n{}", self.source_table());
        }
        if !self.messages.is_empty() {
            let _ = write!(text, "\n{}", self.message_table());
            if self.messages.iter().any(|row| row.unnumbered != Some(0)) {
                text.push_str(
                    "\nunnumbered messages are counted and not compared: nobody has counted what was sent",
                );
            }
        }
        if self.left_out > 0 {
            let _ = write!(text, "\nand {} more, which balance", self.left_out);
        }
        for difference in &self.differences {
            let _ = write!(text, "\ndiffers: {}", Foreign(difference));
        }
        let more = self.differences_in_all - self.differences.len() as u64;
        if more > 0 {
            let _ = write!(text, "\nand {more} differences more");
        }
        text
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
            self.difference(format!("client {client}: {path} does not say what it holds"));
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
        if self.has_room(self.runs.len(), differs) {
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

    pub(super) fn source(&mut self, client: &ClientId, known: &Known, numbers: &Numbers, gaps: u64) {
        self.clients.entry(client.to_string()).or_default().lost += numbers.lost;
        let (name, epoch) = (known.source.name.to_string(), known.source.epoch.to_string());
        let differences = numbers.differences();
        let verdict = match (differences.is_empty(), numbers.accounted) {
            (false, _) => "differs",
            (true, None) => "not counted",
            (true, Some(_)) => "balances",
        };
        if self.has_room(self.sources.len(), !differences.is_empty()) {
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

    /// Rows that balance leave room for those that do not.
    fn has_room(&mut self, rows: usize, differs: bool) -> bool {
        let has_room = rows < if differs { 2 * KEPT_MAX } else { KEPT_MAX };
        self.left_out += u64::from(!has_room && !differs);
        has_room
    }

    fn client_table(&self) -> String {
        let header = [
            "client",
            "contents",
            "received",
            "stored",
            "duplicates",
            "rejected",
            "in coredms",
            "superseded",
            "expired",
            "staged",
            "held",
            "discarded",
            "lost",
        ];
        let rows = self.clients.iter().map(|(client, totals)| {
            vec![
                client.clone(),
                totals.contents.to_string(),
                totals.received.to_string(),
                totals.stored.to_string(),
                totals.duplicates.to_string(),
                totals.rejected.to_string(),
                totals.in_coredms.to_string(),
                totals.superseded.to_string(),
                totals.expired.to_string(),
                totals.staged.to_string(),
                totals.held.to_string(),
                totals.discarded.to_string(),
                totals.lost.to_string(),
            ]
        });
        table::render(&header, rows)
    }

    fn run_table(&self) -> String {
        let header = [
            "client",
            "file",
            "run",
            "received",
            "stored",
            "duplicates",
            "rejected",
            "in coredms",
            "superseded",
            "expired",
            "",
        ];
        let rows = self.runs.iter().map(|row| {
            vec![
                row.client.clone(),
                // Names come from outside.
                row.file.escape_debug().to_string(),
                row.run.clone(),
                row.received.to_string(),
                row.stored.to_string(),
                row.duplicates.to_string(),
                row.rejected.to_string(),
                or_dash(row.in_coredms),
                row.superseded.to_string(),
                row.expired.to_string(),
                row.verdict.to_owned(),
            ]
        });
        table::render(&header, rows)
    }

    fn source_table(&self) -> String {
        let header =
            ["client", "collection", "source", "epoch", "through", "beyond", "gaps", "accounted", "lost", ""];
        let rows = self.sources.iter().map(|row| {
            vec![
                row.client.clone(),
                row.collection.clone(),
                row.source.clone(),
                row.epoch.clone(),
                row.through.to_string(),
                row.beyond.to_string(),
                row.gaps.to_string(),
                or_dash(row.accounted),
                row.lost.to_string(),
                row.verdict.to_owned(),
            ]
        });
        table::render(&header, rows)
    }

    fn message_table(&self) -> String {
        let header = ["client", "stream", "collection", "documents", "numbered", "unnumbered"];
        let rows = self.messages.iter().map(|row| {
            vec![
                row.client.clone(),
                row.stream.clone(),
                row.collection.clone(),
                row.documents.to_string(),
                or_dash(row.numbered),
                or_dash(row.unnumbered),
            ]
        });
        table::render(&header, rows)
    }
}

fn or_dash(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}
