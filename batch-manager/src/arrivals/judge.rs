//! Judges all contracts, and records what has changed.
//!
//! What is kept in memory a restart reads again: how far each contract is judged, what became of the due times after that, and which
//! expected files are in the history. The latter is read again if an expected file has ended, one that was on disk is gone, or a due
//! time has passed: nothing is found to be missing by what was read before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_platform::clock;
use mysimbdp_platform::files::FileError;
use mysimbdp_store::CoredmsError;
use mysimbdp_store::arrivals::{Arrivals, ContractRecord};
use mysimbdp_store::date::time;
use mysimbdp_store::history::History;

use super::files::of_contract;
use super::gather::{KnownReasons, StagedFiles, gather};
use super::open::Open;
use super::report;
use crate::blocking::blocking;
use crate::stores::Stores;

/// How long it is kept what became of a due time. Due times before that are not judged any more.
pub(super) const KEPT_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);
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
        let (mut next_due, mut failed): (Option<Timestamp>, Option<FileError>) = (None, None);
        for client in config.clients.values().filter(|client| !client.contracts.is_empty()) {
            let since = self.oldest(&client.id);
            let (gathering, staged, id) = (Arc::clone(config), Arc::clone(&staged), client.id.clone());
            let now = clock::now();
            let gathered = blocking(move || {
                let found = gather(&gathering, &gathering.clients[&id], &staged, &mut reasons, since);
                (found, reasons)
            });
            let found;
            (found, reasons) = gathered.await;
            let found = match found {
                Ok(found) => found,
                // What is wrong with the directories of one client is no reason to leave out the others.
                Err(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            for contract in &client.contracts {
                let key = (client.id.clone(), contract.name.clone());
                let Some(open) = self.contracts.as_mut().and_then(|contracts| contracts.get_mut(&key)) else {
                    continue;
                };
                if changed.contains(&client.id) {
                    open.ended = None;
                }
                let found = of_contract(client, contract, &found);
                let due = open.judge(&history, &arrivals, client, contract, &found, now).await?;
                next_due = next_due.into_iter().chain(due).min();
            }
        }
        reasons.forget_others();
        self.reasons = Some(reasons);
        self.remove_old(&arrivals).await?;
        failed.map_or(Ok(next_due), |error| Err(error.into()))
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
