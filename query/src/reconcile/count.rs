//! Counts what coredms holds of an ingestion.

use mysimbdp_config::{App, Client, REJECTED};
use mysimbdp_model::app::Ids;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_store::{Coredms, CoredmsError, object_length};

use super::compare::Counted;

/// The field path of the ingestion in documents with key ids.
pub(super) const INGESTION: &str = "_ingest.ingestion";

/// Counts what coredms holds of an ingestion that `app` has stored. Documents with keys are counted elsewhere, for many
/// ingestions at once: `keyed` is their number.
pub(super) async fn of_content(
    store: &dyn Coredms,
    (client, app): (&Client, &App),
    ingestion: IngestionId,
    keyed: u64,
) -> Result<Counted, CoredmsError> {
    let expires = client.expires(&app.collection);
    match app.settings.ids {
        Ids::Platform => {
            let documents = records(store, &app.collection, ingestion).await?;
            Ok(if expires { Counted::Unexpired(documents) } else { Counted::Platform(documents) })
        }
        Ids::Key => Ok(if expires { Counted::UnexpiredKey(keyed) } else { Counted::Key(keyed) }),
        Ids::None => Ok(Counted::Unaudited),
        Ids::Object => {
            let length = object_length(store, &app.collection, ingestion).await?;
            let extent = store.extent(&app.collection, ingestion, 0..u64::MAX).await?;
            Ok(Counted::Object { length, extent })
        }
    }
}

/// Counts the records that are listed as rejected.
pub(super) async fn rejects(store: &dyn Coredms, ingestion: IngestionId) -> Result<u64, CoredmsError> {
    records(store, REJECTED, ingestion).await
}

/// Counts all documents whose `_id` belongs to the ingestion, including numbers that none of its records has.
async fn records(store: &dyn Coredms, collection: &str, ingestion: IngestionId) -> Result<u64, CoredmsError> {
    store.count_ids(collection, ingestion.record_id(0), ingestion.record_id(u64::MAX)).await
}
