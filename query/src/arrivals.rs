//! What became of the files that arrival contracts expect, as batch-manager has recorded it.

use jiff::Timestamp;
use mysimbdp_config::{ArrivalContract, Client, Config};
use mysimbdp_model::arrival::ArrivalOutcome;
use mysimbdp_model::arrival::display::DueTimes;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_platform::clock;
use mysimbdp_store::arrivals::{ArrivalRecord, Arrivals, ContractRecord};
use mysimbdp_store::history::History;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::error::QueryError;
use crate::snapshot;

/// How many due times of a contract are returned.
pub const RECENT_MAX: usize = 14;

/// The due times that may be recorded although they are in the future: the next one, and others if the clock was set back.
const FUTURE: u64 = 10;

/// A contract, and what became of its latest due times.
#[derive(Clone, Debug, PartialEq)]
pub struct ContractStatus {
    pub client: ClientId,
    pub contract: String,
    pub app: String,
    pub settings: mysimbdp_config::settings::ArrivalContract,
    /// What became of `due`.
    pub state: ArrivalOutcome,
    /// The due time that matters now: the last one, or the next one.
    pub due: Timestamp,
    pub next_due: Timestamp,
    /// What is recorded about `due`.
    pub record: Option<ArrivalRecord>,
    /// What became of the latest due times, the latest first.
    pub recent: Vec<ArrivalRecord>,
}

/// Where a contract is in the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContractPosition {
    client: ClientId,
    contract: String,
}

/// Contracts in the order of clients and names.
#[derive(Debug)]
pub struct ContractPage {
    pub contracts: Vec<ContractStatus>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<ContractPosition>,
}

/// Returns the contracts of a client, or of all clients: those after `after`, at most `limit`.
///
/// # Errors
///
/// The store is unavailable.
pub async fn page(
    config: &Config,
    history: &History,
    only: Option<&ClientId>,
    after: Option<&ContractPosition>,
    limit: usize,
) -> Result<ContractPage, QueryError> {
    let (arrivals, now) = (history.arrivals(), clock::now());
    let seen = if has_contracts(config) { arrivals.contracts().await? } else { Vec::new() };
    let (mut contracts, mut next) = (Vec::new(), None);
    for (position, client, contract) in all(config, only) {
        if after.is_some_and(|after| position <= *after) {
            continue;
        }
        if contracts.len() == limit {
            return Ok(ContractPage { contracts, next });
        }
        contracts.extend(status(&arrivals, client, contract, &seen, now).await?);
        next = Some(position);
    }
    Ok(ContractPage { contracts, next: None })
}

/// Returns one contract; `None` if the config does not have it.
///
/// # Errors
///
/// The store is unavailable.
pub(crate) async fn contract(
    config: &Config,
    arrivals: &Arrivals,
    client: &str,
    contract: &str,
) -> Result<Option<ContractStatus>, QueryError> {
    let is_it =
        |position: &ContractPosition| position.client.as_str() == client && position.contract == contract;
    let Some((_, client, contract)) = all(config, None).into_iter().find(|(position, ..)| is_it(position))
    else {
        return Ok(None);
    };
    status(arrivals, client, contract, &arrivals.contracts().await?, clock::now()).await
}

/// Returns all contracts for a person, soon in any case; `None` if there are none. An error is why the store cannot be read.
pub async fn overview(config: &Config) -> Option<Result<Vec<ContractStatus>, String>> {
    if !has_contracts(config) {
        return None;
    }
    if !snapshot::store_exists(config) {
        return Some(Err("nothing has been judged yet".to_owned()));
    }
    let ask = async {
        let history = crate::open_history(config).await?;
        let page = page(config, &history, None, None, usize::MAX).await;
        history.close().await;
        page
    };
    Some(match timeout(snapshot::WITHIN, ask).await {
        Ok(Ok(page)) => Ok(page.contracts),
        Ok(Err(error)) => Err(error_chain(&error)),
        Err(_) => Err(format!("the store does not answer within {:?}", snapshot::WITHIN)),
    })
}

pub(crate) fn has_contracts(config: &Config) -> bool {
    config.clients.values().any(|client| !client.contracts.is_empty())
}

/// All contracts, in the order of their positions.
fn all<'a>(
    config: &'a Config,
    only: Option<&ClientId>,
) -> Vec<(ContractPosition, &'a Client, &'a ArrivalContract)> {
    let clients = config.clients.values().filter(|client| only.is_none_or(|only| *only == client.id));
    let mut all: Vec<_> = clients
        .flat_map(|client| client.contracts.iter().map(move |contract| (client, contract)))
        .map(|(client, contract)| {
            (
                ContractPosition { client: client.id.clone(), contract: contract.name.clone() },
                client,
                contract,
            )
        })
        .collect();
    all.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
    all
}

/// `None` only at the end of the calendar.
async fn status(
    arrivals: &Arrivals,
    client: &Client,
    contract: &ArrivalContract,
    seen: &[ContractRecord],
    now: Timestamp,
) -> Result<Option<ContractStatus>, QueryError> {
    let is_it = |record: &&ContractRecord| {
        record.client == client.id.as_str()
            && record.contract == contract.name
            && record.terms == contract.terms()
    };
    let since = seen.iter().find(is_it).map(|record| record.since.timestamp_millis());
    let since = since.and_then(|millis| Timestamp::from_millisecond(millis).ok());
    let Some(due_times) = DueTimes::around(&contract.schedule, since, now) else { return Ok(None) };
    let records = arrivals.latest(&client.id, &contract.name, RECENT_MAX as u64 + FUTURE).await?;
    let at =
        |due: Timestamp| records.iter().find(|record| record.due.timestamp_millis() == due.as_millisecond());
    let (due, state) = due_times.shown(|due| at(due).map(|record| record.state), now);
    let is_recent = |record: &&ArrivalRecord| {
        record.state != ArrivalOutcome::Expected
            && record.due.timestamp_millis() <= due_times.next.as_millisecond()
    };
    Ok(Some(ContractStatus {
        client: client.id.clone(),
        contract: contract.name.clone(),
        app: contract.app.clone(),
        settings: contract.settings.clone(),
        state,
        due,
        next_due: due_times.next,
        record: at(due).cloned(),
        recent: records.iter().filter(is_recent).take(RECENT_MAX).cloned().collect(),
    }))
}
