//! Stores batches: a stream app on the SDK, with `ids: "key"` and the key `hour`, `batch`. A batch that arrives again, with
//! any number, becomes the same document.

use std::process::ExitCode;

use mysimbdp_sdk::Rejection;
use mysimbdp_sdk::record::Fields;
use mysimbdp_sdk::stream::{self, Message};

use crate::batch::Batch;
use crate::stored::{DAY, OPEN};

pub fn run() -> ExitCode {
    stream::run(&|message: &Message, fields: &mut Fields| document(message, fields))
}

/// Writes the batch unchanged, with its day and the mark that its hour is open.
fn document(message: &Message, fields: &mut Fields) -> Result<(), Rejection> {
    let batch: Batch =
        serde_json::from_slice(&message.payload).map_err(|error| format!("not a batch: {error}"))?;
    batch.check()?;
    stream::from_json(message, fields)?;
    if let Some(name) = [DAY, OPEN].into_iter().find(|name| fields.get(name).is_some()) {
        return Err(format!("field {name:?} is not allowed in a batch").into());
    }
    fields.string(DAY, batch.hour.day());
    fields.bool(OPEN, true);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::{hour, reading};

    fn stored(payload: Vec<u8>) -> Result<bson::Document, Rejection> {
        let message = Message { topic: "t".to_owned(), payload: payload.into(), user_properties: Vec::new() };
        let mut fields = Fields::new();
        document(&message, &mut fields)?;
        bson::Document::from_reader(fields.to_document().as_slice()).map_err(|error| error.to_string().into())
    }

    #[test]
    fn a_batch_is_stored_unchanged_and_anything_else_is_refused() {
        let batch = Batch {
            hour: hour(25),
            previous: None,
            batch: 0,
            batches: 1,
            readings: vec![reading("EWR", Some(39.02))],
        };
        let document = stored(serde_json::to_vec(&batch).expect("JSON")).expect("a batch");
        assert_eq!(document.get_str(DAY).ok(), Some("2013-01-02"));
        assert_eq!(document.get_bool(OPEN).ok(), Some(true));
        let back: Batch = bson::deserialize_from_document(document).expect("a batch");
        assert_eq!(back, batch);
        let text = serde_json::to_string(&batch).expect("JSON");
        let invalid = text.replacen('{', "{\"open\":false,", 1);
        for bad in [&invalid, "{", "{}", "[]", "{\"hour\":\"now\"}"] {
            assert!(stored(bad.into()).is_err(), "{bad}");
        }
    }
}
