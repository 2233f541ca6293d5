//! Additions to a document that do not need to read it first: bits are set, a number is raised. The result is the same
//! whoever adds, how often, and in which order.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use mysimbdp_model::ingestion::RecordId;

use super::sequences::word_of;

/// The fields that a merge writes to.
const BITS: &str = "bits";
const THROUGH: &str = "through";

/// An addition to one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Merge {
    pub id: RecordId,
    /// The fields that the document gets if it is created.
    pub initial_fields: Document,
    /// Bits to set in the words of the field `bits`, by the position of the word.
    pub bits: BTreeMap<u8, u64>,
    /// The field `through` is raised to at least this.
    pub through: Option<i64>,
}

impl Merge {
    /// Returns MongoDB's update statement for this merge.
    pub(super) fn statement(&self) -> Document {
        let mut update = doc! { "$setOnInsert": &self.initial_fields };
        if !self.bits.is_empty() {
            let words = self.bits.iter();
            let words = words.map(|(at, word)| (format!("{BITS}.{at}"), doc! { "or": *word as i64 }.into()));
            update.insert("$bit", words.collect::<Document>());
        }
        if let Some(through) = self.through {
            update.insert("$max", doc! { THROUGH: through });
        }
        doc! { "q": { "_id": bson::Binary::from(self.id) }, "u": update, "upsert": true }
    }

    /// Returns the document after the merge, for a store without such statements.
    pub(super) fn apply(&self, existing: Option<Document>) -> Document {
        let mut document = existing.unwrap_or_else(|| {
            let mut new = doc! { "_id": bson::Binary::from(self.id) };
            new.extend(self.initial_fields.clone());
            new
        });
        if !self.bits.is_empty() {
            let mut words = document.get_document(BITS).cloned().unwrap_or_default();
            for (at, bits) in &self.bits {
                let word = words.get(at.to_string()).map_or(0, word_of) | bits;
                words.insert(at.to_string(), Bson::Int64(word as i64));
            }
            document.insert(BITS, words);
        }
        if let Some(through) = self.through {
            let known = document.get(THROUGH).map_or(i64::MIN, |value| word_of(value) as i64);
            document.insert(THROUGH, Bson::Int64(known.max(through)));
        }
        document
    }
}
