//! Stores rejected records in the client's collection `rejected`: number, reason, and bytes.
//!
//! The platform itself cuts the bytes out of the staged file, by the number that the app has reported, so that apps in
//! any language report no more than this. All of it is durable before the file is removed, and is the same however
//! often it is written.
//!
//! 1. the prefix of the file (a CSV's header line) is stored as an object with the id of the ingestion;
//! 2. a record that is too large for a document is stored as an object with an id derived from the record's;
//! 3. then the documents are stored, a page at a time.

use std::sync::Arc;

use bson::{Document, RawDocumentBuf, doc};
use mysimbdp_config::REJECTED;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::outcome::Outcome;
use mysimbdp_platform::failpoint;
use mysimbdp_spool::staging::content::{Content, RecordFinder};
use mysimbdp_spool::staging::{Reject, StagingError, read_rejects};
use mysimbdp_store::date::date;
use mysimbdp_store::rejected::{INLINE_BYTES_MAX, RejectedBytes, object_id_for, put_object};
use mysimbdp_store::{Coredms, Object};

use crate::blocking::blocking;
use crate::context::Context;
use crate::finish::error::FinishError;
use crate::observe::Work;

/// Records of a page at most.
const PAGE_RECORDS: usize = 1000;
/// A page ends when it holds this many bytes, which one record may exceed.
const PAGE_BYTES: u64 = 8 << 20;

/// Stores all records that the units have rejected.
pub(crate) async fn store_all(
    context: &Context,
    work: &Arc<Work>,
    outcomes: &[Outcome],
) -> Result<(), FinishError> {
    let store = context.stores.client(work.client()).await?;
    let manifest = &work.manifest;
    let prefix = Content::prefix(&work.directory, manifest);
    let metadata = doc! {
        "format": manifest.format.as_str(),
        "encoding": work.client().settings.files.encoding.as_str(),
    };
    put(store.as_ref(), manifest.ingestion, work, prefix, metadata).await?;
    failpoint::hit("batch-manager.reject-prefix-stored");
    for outcome in outcomes.iter().filter(|outcome| outcome.counts.rejected > 0) {
        let mut pages = RejectPages::open(work, outcome)?;
        loop {
            let (next, page) = blocking(move || pages.next()).await?;
            pages = next;
            if page.records.is_empty() {
                break;
            }
            for (id, content) in page.large {
                put(store.as_ref(), id, work, content, Document::new()).await?;
                failpoint::hit("batch-manager.reject-stored-beside");
            }
            insert(store.as_ref(), manifest.replace, page.documents, &page.records).await?;
        }
    }
    Ok(())
}

async fn put(
    store: &dyn Coredms,
    id: IngestionId,
    work: &Work,
    content: Content,
    metadata: Document,
) -> Result<(), FinishError> {
    let object = Object { id, name: work.manifest.file.clone(), bytes: content.bytes(), metadata };
    put_object(store, REJECTED, &object, |offset, length| {
        let content = content.clone();
        async move { Ok::<_, FinishError>(blocking(move || content.read(offset, length)).await?) }
    })
    .await
}

async fn insert(
    store: &dyn Coredms,
    replaces: bool,
    documents: Vec<RawDocumentBuf>,
    records: &[u64],
) -> Result<(), FinishError> {
    let written = if replaces {
        store.replace_many(REJECTED, documents).await?
    } else {
        store.insert_many(REJECTED, documents).await?
    };
    match written.rejected.into_iter().next() {
        None => Ok(()),
        Some((position, reason)) => Err(FinishError::RejectRefused { record: records[position], reason }),
    }
}

/// The rejects of a unit, read page by page.
struct RejectPages {
    work: Arc<Work>,
    outcome: Outcome,
    rejects: Box<dyn Iterator<Item = Result<Reject, StagingError>> + Send>,
    finder: RecordFinder,
}

/// Rejects that are inserted together.
#[derive(Default)]
struct RejectPage {
    records: Vec<u64>,
    documents: Vec<RawDocumentBuf>,
    /// Records that are stored as objects, before the documents.
    large: Vec<(IngestionId, Content)>,
}

impl RejectPages {
    fn open(work: &Arc<Work>, outcome: &Outcome) -> Result<Self, FinishError> {
        Ok(Self {
            work: Arc::clone(work),
            outcome: outcome.clone(),
            rejects: Box::new(read_rejects(&work.directory, outcome.index)?),
            finder: RecordFinder::new(&work.directory),
        })
    }

    /// Returns itself with the next page, which is empty after the last one.
    fn next(mut self) -> Result<(Self, RejectPage), FinishError> {
        let (mut page, mut bytes) = (RejectPage::default(), 0);
        while page.records.len() < PAGE_RECORDS && bytes < PAGE_BYTES {
            let Some(reject) = self.rejects.next().transpose()? else { break };
            let content = self.finder.find(&self.work.manifest, reject.record)?;
            let length = content.bytes();
            let kept = if length <= INLINE_BYTES_MAX {
                bytes += length;
                RejectedBytes::Inline(content.read(0, length)?)
            } else {
                let id = object_id_for(&self.work.manifest.ingestion.record_id(reject.record).0);
                page.large.push((id, content));
                RejectedBytes::Object(id)
            };
            page.documents.push(self.document(&reject, kept, length)?);
            page.records.push(reject.record);
        }
        Ok((self, page))
    }

    fn document(
        &self,
        reject: &Reject,
        kept: RejectedBytes,
        bytes: u64,
    ) -> Result<RawDocumentBuf, FinishError> {
        let manifest = &self.work.manifest;
        let mut document = doc! {
            "_id": bson::Binary::from(manifest.ingestion.record_id(reject.record)),
            "ingestion": manifest.ingestion.to_string(),
            "file": manifest.file.as_str(),
            "record": i64::try_from(reject.record).unwrap_or(i64::MAX),
            "reason": reject.reason.as_str(),
            "rejected_at": date(self.outcome.finished_at),
        };
        kept.describe(&mut document, "content", bytes);
        let malformed = |source| FinishError::RejectMalformed { record: reject.record, source };
        RawDocumentBuf::try_from(&document).map_err(malformed)
    }
}
