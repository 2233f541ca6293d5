//! Judges all contracts, and records what has changed.
//!
//! What is kept in memory a restart reads again: how far each contract is judged, what became of the due times after that, and which
//! expected files are in the history. The latter is read again if an expected file has ended, one that was on disk is gone, or a due
//! time has passed: nothing is found to be missing by what was read before.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use mysimbdp_config::{ArrivalContract, Client, Config};
use mysimbdp_model::arrival::display::DueTimes;
use mysimbdp_model::arrival::judge::{ArrivedFiles, Closed, JUDGED_MAX, Judgement, Terms, judge};
use mysimbdp_model::arrival::{Arrival, ArrivalOutcome, ArrivedState, DiscardedArrival};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::outcome::FinalState;
use mysimbdp_platform::files::FileError;
use mysimbdp_platform::{clock, failpoint};
use mysimbdp_store::CoredmsError;
use mysimbdp_store::arrivals::{ArrivalRecord, Arrivals, ContractRecord};
use mysimbdp_store::history::{History, ReceivedFile};

use super::gather::{Found, KnownReasons, StagedFiles, gather};
use super::record::{self, Change};
use super::report;
use crate::blocking::blocking;
use crate::history::date;
use crate::stores::Stores;

/// How long it is kept what became of a due time. Due times before that are not judged any more.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);
const REMOVE_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// Why contracts cannot be judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JudgeError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] CoredmsError),
}

type Key = (ClientId, String);

/// Judges contracts again and again.
#[derive(Debug, Default)]
pub(crate) struct ArrivalJudge {
    /// `None` before they were read.
    contracts: Option<BTreeMap<Key, Open>>,
    reasons: Option<KnownReasons>,
    /// The config that `reasons` and the arrivals in `contracts` were read with.
    config_hash: String,
    removed_at: Option<Timestamp>,
}

/// The due times of a contract that are not judged for good.
#[derive(Debug)]
struct Open {
    record: ContractRecord,
    /// What is recorded about them, by due time in milliseconds.
    records: BTreeMap<i64, ArrivalRecord>,
    /// The expected files in the history; `None` if they have to be read again.
    ended: Option<Vec<Arrival>>,
    /// The ingestions that were on disk.
    on_disk: BTreeSet<String>,
    judged_at: Timestamp,
}

impl ArrivalJudge {
    pub(crate) fn has_contracts(&self) -> bool {
        self.contracts.as_ref().is_some_and(|contracts| !contracts.is_empty())
    }

    /// What was read of the history may not be up to date.
    pub(crate) fn read_history_again(&mut self) {
        self.contracts.iter_mut().flat_map(BTreeMap::values_mut).for_each(|open| open.ended = None);
    }

    /// Judges all contracts of this config. Returns the first of their next due times.
    pub(crate) async fn judge(
        &mut self,
        stores: &Stores,
        config: &Arc<Config>,
        staged: Arc<StagedFiles>,
        changed: &BTreeSet<ClientId>,
    ) -> Result<Option<Timestamp>, JudgeError> {
        let history = stores.history().await?;
        let arrivals = history.arrivals();
        self.open(config, &history, &arrivals).await?;
        let mut reasons = self.reasons.take().unwrap_or_default();
        let mut next_due: Option<Timestamp> = None;
        for client in config.clients.values().filter(|client| !client.contracts.is_empty()) {
            let since = self.oldest(&client.id);
            let (gathering, staged, id) = (Arc::clone(config), Arc::clone(&staged), client.id.clone());
            let gathered = blocking(move || {
                let found = gather(&gathering, &gathering.clients[&id], &staged, &mut reasons, since);
                (found, reasons)
            });
            let found;
            (found, reasons) = gathered.await;
            let found = found?;
            for contract in &client.contracts {
                let key = (client.id.clone(), contract.name.clone());
                let Some(open) = self.contracts.as_mut().and_then(|contracts| contracts.get_mut(&key)) else {
                    continue;
                };
                if changed.contains(&client.id) {
                    open.ended = None;
                }
                let found = of_contract(client, contract, &found);
                let due = open.judge(&history, &arrivals, client, contract, &found).await?;
                next_due = next_due.into_iter().chain(due).min();
            }
        }
        reasons.forget_others();
        self.reasons = Some(reasons);
        self.remove_old(&arrivals).await?;
        Ok(next_due)
    }

    /// Makes `contracts` those of the config: those that are new, or have other terms, begin now.
    async fn open(
        &mut self,
        config: &Config,
        history: &History,
        arrivals: &Arrivals,
    ) -> Result<(), JudgeError> {
        if self.config_hash != config.hash() {
            // Other files may be expected.
            self.reasons = None;
            self.read_history_again();
            config.hash().clone_into(&mut self.config_hash);
        }
        if self.contracts.is_none() {
            history.ensure_arrival_index().await?;
            arrivals.ensure_index().await?;
            let mut contracts = BTreeMap::new();
            for record in arrivals.contracts().await? {
                let Ok(client) = record.client.parse::<ClientId>() else { continue };
                let known = arrivals.since(&client, &record.contract, time(record.closed_due)).await?;
                report::configured(&client, &record.contract);
                contracts.insert((client, record.contract.clone()), Open::new(record, known));
            }
            self.contracts = Some(contracts);
        }
        let contracts = self.contracts.get_or_insert_default();
        let is_configured = |(client, contract): &Key, open: &Open| {
            let mut of = config.client(client).into_iter().flat_map(|client| &client.contracts);
            of.any(|of| of.name == *contract && of.terms() == open.record.terms)
        };
        let gone: Vec<Key> = contracts
            .iter()
            .filter(|(key, open)| !is_configured(key, open))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            arrivals.forget_contract(&contracts[&key].record).await?;
            contracts.remove(&key);
            report::forget(&key.0, &key.1);
            tracing::info!(client = %key.0, contract = key.1, "an arrival contract was removed or changed");
        }
        let now = clock::now();
        for client in config.clients.values() {
            for contract in &client.contracts {
                let key = (client.id.clone(), contract.name.clone());
                if contracts.contains_key(&key) {
                    continue;
                }
                // At the end of the calendar nothing is due.
                let Some(last) = contract.schedule.last(now) else { continue };
                let record = ContractRecord::new(&client.id, &contract.name, contract.terms(), now, last);
                arrivals.put_contract(&record).await?;
                let known = arrivals.since(&client.id, &contract.name, last).await?;
                report::configured(&client.id, &contract.name);
                contracts.insert(key, Open::new(record, known));
            }
        }
        Ok(())
    }

    /// What was received before belongs to due times of this client that are judged for good.
    fn oldest(&self, client: &ClientId) -> Timestamp {
        let of_client = self.contracts.iter().flatten().filter(|((of, _), _)| of == client);
        of_client.map(|(_, open)| open.closed().until).min().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    async fn remove_old(&mut self, arrivals: &Arrivals) -> Result<(), JudgeError> {
        let now = clock::now();
        if self.removed_at.is_none_or(|at| now.duration_since(at).abs() >= REMOVE_EVERY) {
            let removed = arrivals.remove_before(now - KEPT_FOR).await?;
            if removed > 0 {
                tracing::info!(count = removed, "removed what became of old due times");
            }
            self.removed_at = Some(now);
        }
        Ok(())
    }
}

impl Open {
    fn new(record: ContractRecord, known: Vec<ArrivalRecord>) -> Self {
        let records = known.into_iter().map(|record| (record.due.timestamp_millis(), record)).collect();
        let judged_at = time(record.closed_due);
        Self { record, records, ended: None, on_disk: BTreeSet::new(), judged_at }
    }

    fn closed(&self) -> Closed {
        Closed { due: time(self.record.closed_due), until: time(self.record.closed_until) }
    }

    /// Judges the contract. Returns its next due time.
    async fn judge(
        &mut self,
        history: &History,
        arrivals: &Arrivals,
        client: &Client,
        contract: &ArrivalContract,
        found: &[Found],
    ) -> Result<Option<Timestamp>, JudgeError> {
        loop {
            let now = clock::now();
            self.follow_clock(arrivals, client, contract, now).await?;
            if self.must_read(contract, found, now) {
                self.ended = Some(read_history(history, client, contract, self.closed().until).await?);
            }
            let files = merge(found, self.ended.as_deref().unwrap_or_default());
            let terms = Terms { schedule: &contract.schedule, records_min: contract.records_min };
            let judgements = judge(&terms, self.closed(), &files, now);
            self.record(arrivals, client, contract, &judgements, now).await?;
            self.judged_at = now;
            let is_open = judgements.last().is_some_and(|last| last.due > now);
            if is_open || judgements.len() < JUDGED_MAX {
                self.on_disk = on_disk(found);
                return Ok(self.show(client, contract, now));
            }
        }
    }

    /// Due times that are in the future again, because the clock was set back, are judged again; those of long ago never.
    async fn follow_clock(
        &mut self,
        arrivals: &Arrivals,
        client: &Client,
        contract: &ArrivalContract,
        now: Timestamp,
    ) -> Result<(), JudgeError> {
        let closed = self.closed();
        let earliest = now - KEPT_FOR;
        let begin = match closed.due {
            due if due > now => contract.schedule.last(now),
            due if due < earliest => contract.schedule.last(earliest).filter(|last| *last > due),
            _ => None,
        };
        if let Some(begin) = begin {
            let known = arrivals.since(&client.id, &contract.name, begin).await?;
            let mut record = self.record.clone();
            (record.closed_due, record.closed_until) = (date(begin), date(begin));
            *self = Self::new(record, known);
        }
        Ok(())
    }

    /// Whether the history may have expected files that are not known.
    fn must_read(&self, contract: &ArrivalContract, found: &[Found], now: Timestamp) -> bool {
        let has_passed = contract.schedule.last(now).is_some_and(|last| last > self.judged_at);
        self.ended.is_none() || has_passed || now < self.judged_at || !self.on_disk.is_subset(&on_disk(found))
    }

    /// Records what has changed, and then reports it.
    async fn record(
        &mut self,
        arrivals: &Arrivals,
        client: &Client,
        contract: &ArrivalContract,
        judgements: &[Judgement],
        now: Timestamp,
    ) -> Result<(), JudgeError> {
        let changes: Vec<Change> = judgements
            .iter()
            .filter_map(|judgement| {
                let before = self.records.get(&judgement.due.as_millisecond());
                record::change(&client.id, contract, judgement, before, now)
            })
            .collect();
        let summary = report::summary(&changes);
        for change in changes {
            arrivals.put(&change.record).await?;
            failpoint::hit("arrivals.recorded");
            report::change(contract, &change, summary.is_some());
            self.records.insert(change.record.due.timestamp_millis(), change.record);
        }
        if let Some(summary) = summary {
            summary.log(&client.id, contract);
        }
        let finals = judgements.iter().take_while(|judgement| judgement.is_final);
        if let Some(last) = finals.last() {
            let mut record = self.record.clone();
            (record.closed_due, record.closed_until) = (date(last.due), date(last.until));
            arrivals.put_contract(&record).await?;
            self.record = record;
            // The last one is still shown.
            self.records = self.records.split_off(&last.due.as_millisecond());
            let until = last.until;
            self.ended.iter_mut().for_each(|ended| ended.retain(|arrival| arrival.received_at > until));
        }
        Ok(())
    }

    /// Shows in the metrics how the contract is. Returns its next due time.
    fn show(&self, client: &Client, contract: &ArrivalContract, now: Timestamp) -> Option<Timestamp> {
        let due_times = DueTimes::around(&contract.schedule, Some(time(self.record.since)), now)?;
        let outcome = |due: Timestamp| self.records.get(&due.as_millisecond()).map(|record| record.state);
        let (_, shown) = due_times.shown(outcome, now);
        report::show(&client.id, &contract.name, due_times.next, shown == ArrivalOutcome::Missing);
        Some(due_times.next)
    }
}

fn of_contract(client: &Client, contract: &ArrivalContract, found: &[Found]) -> Vec<Found> {
    let file = |found: &&Found| match found {
        Found::Arrived(arrival) => client.expects(contract, &arrival.file),
        Found::Discarded(discarded) => client.expects(contract, &discarded.file),
    };
    found.iter().filter(file).cloned().collect()
}

fn on_disk(found: &[Found]) -> BTreeSet<String> {
    let name = |found: &Found| match found {
        Found::Arrived(arrival) => {
            Some(arrival.ingestion.clone().unwrap_or_else(|| format!("name {}", arrival.file)))
        }
        Found::Discarded(_) => None,
    };
    found.iter().filter_map(name).collect()
}

/// Returns the expected files in the history that were received after this time.
async fn read_history(
    history: &History,
    client: &Client,
    contract: &ArrivalContract,
    after: Timestamp,
) -> Result<Vec<Arrival>, JudgeError> {
    let mut received = pin!(history.received(&client.id, date(after)).await?);
    let mut ended = Vec::new();
    while let Some(file) = received.try_next().await? {
        if file.lane != Lane::Backfill && client.expects(contract, &file.file) {
            ended.extend(as_arrival(file));
        }
    }
    Ok(ended)
}

fn as_arrival(file: ReceivedFile) -> Option<Arrival> {
    let state = match file.state {
        FinalState::Ingested => ArrivedState::Ingested { records: u64::try_from(file.received).unwrap_or(0) },
        FinalState::Held | FinalState::Purged => ArrivedState::Held,
        FinalState::Discarded => return None,
    };
    Some(Arrival {
        received_at: time(file.received_at),
        file: file.file,
        ingestion: Some(file.ingestion),
        state,
    })
}

/// Each file once: the same content that was received at the same time is the same file, wherever it was seen.
fn merge(found: &[Found], ended: &[Arrival]) -> ArrivedFiles {
    let mut arrivals: BTreeMap<(Timestamp, String), Arrival> = BTreeMap::new();
    let mut waiting = Vec::new();
    let mut discarded: Vec<DiscardedArrival> = Vec::new();
    for found in found.iter().cloned() {
        match found {
            Found::Arrived(mut arrival) => {
                arrival.received_at = whole_millis(arrival.received_at);
                match arrival.ingestion.clone() {
                    Some(ingestion) => _ = arrivals.insert((arrival.received_at, ingestion), arrival),
                    None => waiting.push(arrival),
                }
            }
            Found::Discarded(mut file) => {
                file.received_at = whole_millis(file.received_at);
                discarded.push(file);
            }
        }
    }
    for arrival in ended {
        let key = (arrival.received_at, arrival.ingestion.clone().unwrap_or_default());
        // One that is staged again has been ingested all the same.
        match arrival.state {
            ArrivedState::Ingested { .. } => _ = arrivals.insert(key, arrival.clone()),
            _ => _ = arrivals.entry(key).or_insert_with(|| arrival.clone()),
        }
    }
    let mut arrivals: Vec<Arrival> = arrivals.into_values().collect();
    let is_same = |waiting: &Arrival, (file, at): (&String, Timestamp)| {
        *file == waiting.file && at == waiting.received_at
    };
    waiting.retain(|waiting| {
        !arrivals.iter().any(|arrival| is_same(waiting, (&arrival.file, arrival.received_at)))
            && !discarded.iter().any(|file| is_same(waiting, (&file.file, file.received_at)))
    });
    arrivals.append(&mut waiting);
    ArrivedFiles { arrivals, discarded }
}

/// As the store keeps times.
fn whole_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

pub(super) fn time(date: bson::DateTime) -> Timestamp {
    Timestamp::from_millisecond(date.timestamp_millis()).unwrap_or_default()
}
