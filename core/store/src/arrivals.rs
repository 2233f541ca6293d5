//! What became of the due times of arrival contracts: a document for each, in the platform's database.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use jiff::Timestamp;
use mysimbdp_model::arrival::{ArrivalOutcome, DiscardedArrival};
use mysimbdp_model::client::ClientId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::date::date;
use crate::{Coredms, CoredmsError, Order, Removal, Selection};

/// More due times than a contract ever has open.
const OPEN_MAX: u64 = 5_000;
/// More contracts than a config ever has.
const CONTRACTS_MAX: i64 = 100_000;
/// Documents that are removed at a time.
const REMOVED_AT_ONCE: u64 = 1_000;

/// The verdicts about due times, and what has been judged for good. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Arrivals {
    platform: Arc<dyn Coredms>,
}

/// What became of a due time of a contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArrivalRecord {
    #[serde(rename = "_id")]
    id: String,
    pub client: String,
    pub contract: String,
    pub app: String,
    pub due: bson::DateTime,
    pub state: ArrivalOutcome,
    /// When it got this state.
    pub changed_at: bson::DateTime,
    /// The last state that was certain: that was logged and counted.
    #[serde(default)]
    pub reported: ArrivalOutcome,
    /// Whether a person was told of a problem with it.
    pub warned: bool,
    /// The file that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<ArrivedFile>,
    /// The last file that was discarded, if none has satisfied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discarded: Option<DiscardedFile>,
}

/// The file that decided what became of a due time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArrivedFile {
    pub file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingestion: Option<String>,
    pub received_at: bson::DateTime,
    /// How far it is.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<i64>,
}

/// A file that was discarded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiscardedFile {
    pub file: String,
    pub received_at: bson::DateTime,
    pub reasons: Vec<String>,
    pub codes: Vec<mysimbdp_model::reason::ReasonCode>,
}

/// How far the due times of a contract are judged for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractRecord {
    #[serde(rename = "_id")]
    id: String,
    pub client: String,
    pub contract: String,
    /// Which files are expected when. With other terms it is another contract.
    pub terms: String,
    /// When it was first seen.
    pub since: bson::DateTime,
    pub closed_due: bson::DateTime,
    pub closed_until: bson::DateTime,
}

impl ArrivalRecord {
    pub fn new(client: &ClientId, contract: &str, app: &str, due: Timestamp) -> Self {
        Self {
            id: format!("{client}/{contract}/{due}"),
            client: client.to_string(),
            contract: contract.to_owned(),
            app: app.to_owned(),
            due: date(due),
            state: ArrivalOutcome::Expected,
            changed_at: date(due),
            reported: ArrivalOutcome::Expected,
            warned: false,
            arrived: None,
            discarded: None,
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }
}

impl From<DiscardedArrival> for DiscardedFile {
    fn from(file: DiscardedArrival) -> Self {
        let DiscardedArrival { file, received_at, reasons, codes } = file;
        Self { file, received_at: date(received_at), reasons, codes }
    }
}

impl ContractRecord {
    pub fn new(
        client: &ClientId,
        contract: &str,
        terms: String,
        since: Timestamp,
        closed_due: Timestamp,
    ) -> Self {
        Self {
            id: format!("{client}/{contract}"),
            client: client.to_string(),
            contract: contract.to_owned(),
            terms,
            since: date(since),
            closed_due: date(closed_due),
            closed_until: date(closed_due),
        }
    }
}

impl Arrivals {
    pub const COLLECTION: &str = "arrivals";
    pub const CONTRACTS: &str = "arrival_contracts";

    pub(crate) fn new(platform: Arc<dyn Coredms>) -> Self {
        Self { platform }
    }

    /// Creates the indexes by which documents are read here.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn ensure_index(&self) -> Result<(), CoredmsError> {
        for fields in [&["client", "contract", "due", "_id"][..], &["changed_at", "_id"], &["due", "_id"]] {
            self.platform.ensure_index(Self::COLLECTION, fields).await?;
        }
        Ok(())
    }

    /// Writes what became of a due time, in place of what was written before.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn put(&self, record: &ArrivalRecord) -> Result<(), CoredmsError> {
        let document = bson::serialize_to_document(record).map_err(CoredmsError::NotADocument)?;
        self.platform.put(Self::COLLECTION, document).await
    }

    /// Writes how far a contract is judged, in place of what was written before.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn put_contract(&self, record: &ContractRecord) -> Result<(), CoredmsError> {
        let document = bson::serialize_to_document(record).map_err(CoredmsError::NotADocument)?;
        self.platform.put(Self::CONTRACTS, document).await
    }

    /// Returns how far all contracts are judged, also those that are no longer in the config.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn contracts(&self) -> Result<Vec<ContractRecord>, CoredmsError> {
        let found = self.platform.find(Self::CONTRACTS, Document::new(), CONTRACTS_MAX).await?;
        Ok(found.into_iter().filter_map(readable).collect())
    }

    /// Forgets how far a contract is judged: if it comes back, it begins anew.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn forget_contract(&self, record: &ContractRecord) -> Result<(), CoredmsError> {
        let id = Bson::from(record.id.as_str());
        self.platform.remove(Self::CONTRACTS, Removal::ByAnyIds(vec![id])).await.map(drop)
    }

    /// Returns what became of the due times of a contract from this one on, in their order.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn since(
        &self,
        client: &ClientId,
        contract: &str,
        due: Timestamp,
    ) -> Result<Vec<ArrivalRecord>, CoredmsError> {
        let selection = Selection {
            filter: doc! { "client": client.as_str(), "contract": contract },
            from: Some(date(due).into()),
            limit: Some(OPEN_MAX),
            ..Selection::ordered_by("due")
        };
        self.select(selection).await
    }

    /// Returns what became of the latest due times of a contract, the latest first.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn latest(
        &self,
        client: &ClientId,
        contract: &str,
        limit: u64,
    ) -> Result<Vec<ArrivalRecord>, CoredmsError> {
        let selection = Selection {
            filter: doc! { "client": client.as_str(), "contract": contract },
            order: Order::Descending,
            limit: Some(limit),
            ..Selection::ordered_by("due")
        };
        self.select(selection).await
    }

    /// Returns what has last changed, the latest first.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn changed(&self, limit: u64) -> Result<Vec<ArrivalRecord>, CoredmsError> {
        let selection =
            Selection { order: Order::Descending, limit: Some(limit), ..Selection::ordered_by("changed_at") };
        self.select(selection).await
    }

    /// Removes what became of due times before this one, and returns how many were removed.
    ///
    /// # Errors
    ///
    /// The store is unavailable or refuses the operation.
    pub async fn remove_before(&self, due: Timestamp) -> Result<u64, CoredmsError> {
        let mut removed = 0;
        loop {
            let selection = Selection {
                until: Some(date(due).into()),
                fields: Some(vec!["due".to_owned()]),
                limit: Some(REMOVED_AT_ONCE),
                ..Selection::ordered_by("due")
            };
            let found: Vec<_> =
                self.platform.select(Self::COLLECTION, selection).await?.try_collect().await?;
            let ids = found.iter().filter_map(|raw| Bson::try_from(raw.get("_id").ok()??).ok());
            let ids: Vec<Bson> = ids.collect();
            if ids.is_empty() {
                return Ok(removed);
            }
            removed += self.platform.remove(Self::COLLECTION, Removal::ByAnyIds(ids)).await?;
        }
    }

    async fn select(&self, selection: Selection) -> Result<Vec<ArrivalRecord>, CoredmsError> {
        let found: Vec<_> = self.platform.select(Self::COLLECTION, selection).await?.try_collect().await?;
        let documents = found.iter().filter_map(|raw| Document::try_from(raw.as_ref()).ok());
        Ok(documents.filter_map(readable).collect())
    }
}

/// A document that this build cannot read is as good as none.
fn readable<T: DeserializeOwned>(document: Document) -> Option<T> {
    bson::deserialize_from_document(document).ok()
}
