//! The arrival contracts, as `mysimbdp status` shows them.

use jiff::Timestamp;
use mysimbdp_model::arrival::ArrivalOutcome;
use mysimbdp_query::arrivals::ContractStatus;
use serde::Serialize;

use crate::output::Foreign;
use crate::table;

/// All contracts, or why they cannot be read.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum ArrivalsShown {
    Contracts(Vec<ContractShown>),
    Unknown { error: String },
}

/// A contract, and what became of the due time that matters now.
#[derive(Debug, Serialize)]
pub(super) struct ContractShown {
    client: String,
    contract: String,
    files: String,
    state: ArrivalOutcome,
    due: Timestamp,
    /// When it got this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    next_due: Timestamp,
    /// The file that decided it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The last file that was discarded, and why, if none has satisfied it.
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<String>,
}

impl From<Result<Vec<ContractStatus>, String>> for ArrivalsShown {
    fn from(contracts: Result<Vec<ContractStatus>, String>) -> Self {
        match contracts {
            Ok(contracts) => Self::Contracts(contracts.into_iter().map(ContractShown::from).collect()),
            Err(error) => Self::Unknown { error },
        }
    }
}

impl From<ContractStatus> for ContractShown {
    fn from(status: ContractStatus) -> Self {
        let record = status.record;
        let changed_at = record.as_ref().map(|record| record.changed_at.timestamp_millis());
        let (arrived, discarded) = record.map_or((None, None), |record| (record.arrived, record.discarded));
        Self {
            client: status.client.to_string(),
            contract: status.contract,
            files: status.settings.files,
            state: status.state,
            due: status.due,
            since: changed_at.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
            next_due: status.next_due,
            file: arrived.map(|arrived| arrived.file),
            discarded: discarded
                .map(|discarded| format!("{}: {}", discarded.file, discarded.reasons.join("; "))),
        }
    }
}

impl ArrivalsShown {
    pub(super) fn print(&self) {
        let contracts = match self {
            Self::Contracts(contracts) => contracts,
            Self::Unknown { error } => {
                println!("arrival contracts cannot be read: {}", Foreign(error));
                return;
            }
        };
        let rows = contracts.iter().map(|contract| {
            let text = |text: &Option<String>| {
                text.as_deref().map_or_else(String::new, |text| Foreign(text).to_string())
            };
            let since = contract.since.map_or_else(String::new, |since| format!("{since:.0}"));
            let file = match (&contract.file, &contract.discarded) {
                (None, Some(_)) => format!("discarded {}", text(&contract.discarded)),
                (file, _) => text(file),
            };
            vec![
                contract.client.clone(),
                contract.contract.clone(),
                contract.files.clone(),
                contract.state.as_str().to_owned(),
                contract.due.to_string(),
                since,
                contract.next_due.to_string(),
                file,
            ]
        });
        let header = ["client", "contract", "files", "arrival", "due", "since", "next due", "file"];
        println!("{}", table::render(&header, rows));
    }
}
