//! Where a record is from, as far as its document tells.
//!
//! | ids | what tells |
//! |---|---|
//! | `key` | `_ingest`: the layer, when it was received, and of a record of a file the ingestion and the record's number |
//! | `platform` of a file | the `_id`: the beginning of the ingestion, and the record's number |
//! | `platform` of a numbered message | the `_id`: the number, and the source if it is known |
//! | others | nothing but the collection |

use std::collections::HashMap;

use bson::RawDocument;
use bson::raw::RawBsonRef;
use bson::spec::BinarySubtype;
use mysimbdp_config::ViewLayer;
use mysimbdp_model::app::Ids;
use mysimbdp_model::ingestion::RecordId;
use mysimbdp_model::source::Source;

use super::{Layer, value};

/// Appends the origin as a JSON object.
pub(super) fn append(
    buffer: &mut Vec<u8>,
    document: &RawDocument,
    layer: Layer,
    written_by: &ViewLayer,
    sources: &HashMap<[u8; 8], Source>,
) -> bson::error::Result<()> {
    let provenance = match written_by.ids {
        Some(Ids::Key) => document.get_document("_ingest").ok(),
        _ => None,
    };
    let mut members = value::Members::begin(buffer);
    if let Some(provenance) = provenance {
        let name = provenance.get("layer")?;
        if let Some(name @ RawBsonRef::String(_)) = name {
            members.append("layer", name)?;
        }
        if let Some(RawBsonRef::String("batch")) = name {
            for field in ["ingestion", "record"] {
                if let Some(value) = provenance.get(field)? {
                    members.append(field, value)?;
                }
            }
        }
        if let Some(value) = provenance.get("received_at")? {
            members.append("received_at", value)?;
        }
        members.end();
        return Ok(());
    }
    if !written_by.is_shared {
        let name = match layer {
            Layer::Batch => "batch",
            Layer::Stream => "stream",
        };
        value::append_text(members.begin_member("layer"), name);
    }
    match (written_by.is_shared, layer, record_id(document, written_by)) {
        (false, Layer::Batch, Some(id)) => {
            value::append_text(members.begin_member("ingestion_prefix"), &value::hexadecimal(&id.0[..8]));
            value::append_number(members.begin_member("record"), id.number());
        }
        (false, Layer::Stream, Some(id)) => {
            if let Some(source) = id.0.first_chunk().and_then(|prefix| sources.get(prefix)) {
                value::append_text(members.begin_member("source"), source.name.as_str());
                // Beyond 2^53 many programs cannot read it as a number.
                value::append_text(members.begin_member("epoch"), &source.epoch.to_string());
            }
            value::append_number(members.begin_member("seq"), id.number());
        }
        _ => {}
    }
    members.end();
    Ok(())
}

/// Returns the `_id` of a record with ids `platform`; `None` if it is something else.
pub(super) fn record_id(document: &RawDocument, written_by: &ViewLayer) -> Option<RecordId> {
    if written_by.ids != Some(Ids::Platform) {
        return None;
    }
    match document.get("_id").ok()?? {
        RawBsonRef::Binary(id) if id.subtype == BinarySubtype::Generic => {
            Some(RecordId(id.bytes.try_into().ok()?))
        }
        _ => None,
    }
}
