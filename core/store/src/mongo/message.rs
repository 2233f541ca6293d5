//! Decides which documents go together in one message.
//!
//! Messages are cut here and not by the driver, so that each has its own timeout, and no reply exceeds its limit.

use bson::{RawDocument, RawDocumentBuf};

/// Half of the limit for a command without its own payload section, such as an update; larger ones gain nothing.
const MESSAGE_BYTES: usize = 8 << 20;

/// Well below the server's limit; larger ones gain nothing.
const MESSAGE_DOCUMENTS: usize = 10_000;

/// All errors of a message must fit in the reply's 16 MiB: beyond that the server drops the connection, at every attempt.
const REPLY_BYTES: usize = 12 << 20;

/// Documents, or statements made of them, that go together, with their positions in the input.
pub(super) struct Message {
    pub(super) positions: Vec<usize>,
    pub(super) documents: Vec<RawDocumentBuf>,
    bytes: usize,
    /// The size of the reply if none of them is stored.
    reply_bytes: usize,
}

/// Splits documents into messages, in order.
pub(super) fn messages(documents: Vec<(usize, RawDocumentBuf)>, validator_bytes: usize) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    for (position, document) in documents {
        let bytes = document.as_bytes().len();
        let reply_bytes = error_bytes(&document, validator_bytes);
        match messages.last_mut() {
            Some(message)
                if message.documents.len() < MESSAGE_DOCUMENTS
                    && message.bytes + bytes <= MESSAGE_BYTES
                    && message.reply_bytes + reply_bytes <= REPLY_BYTES =>
            {
                message.positions.push(position);
                message.documents.push(document);
                message.bytes += bytes;
                message.reply_bytes += reply_bytes;
            }
            _ => messages.push(Message {
                positions: vec![position],
                documents: vec![document],
                bytes,
                reply_bytes,
            }),
        }
    }
    messages
}

/// Returns how large the error about a document may become.
///
/// The error about a duplicate names the key twice. The error of a validator has, for each broken rule, the rule, the
/// value and about 170 bytes around them: measured as 4 times the validator, and calculated as up to 8 times for one with
/// short names. The number of fields matters if one rule applies to many of them.
fn error_bytes(document: &RawDocument, validator_bytes: usize) -> usize {
    if validator_bytes == 0 {
        let id = document.iter_elements().next().and_then(Result::ok).map_or(0, |id| id.size());
        return 512 + 4 * id;
    }
    let fields = document.iter_elements().count();
    512 + 2 * document.as_bytes().len() + (10 * validator_bytes).max(300 * fields)
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn documents(count: usize, bytes: usize) -> Vec<(usize, RawDocumentBuf)> {
        let document = |position| doc! { "_id": position as i64, "text": "x".repeat(bytes) };
        let raw = |position| RawDocumentBuf::try_from(&document(position)).expect("encodable");
        (0..count).map(|position| (position, raw(position))).collect()
    }

    #[test]
    fn every_document_is_in_one_message_and_every_message_within_its_limits() {
        for (count, bytes, validator_bytes) in [
            (0, 0, 0),
            (1, 15 << 20, 0),
            (25_000, 10, 0),
            (100, 1 << 20, 0),
            (25_000, 10, 5_000),
            (3, 10, 100 << 20),
        ] {
            let messages = messages(documents(count, bytes), validator_bytes);
            let positions = messages.iter().flat_map(|message| &message.positions).copied();
            assert!(positions.eq(0..count));
            for message in &messages {
                let alone = message.documents.len() == 1;
                assert!(message.documents.len() <= MESSAGE_DOCUMENTS);
                assert!(alone || message.bytes <= MESSAGE_BYTES && message.reply_bytes <= REPLY_BYTES);
                assert_eq!(message.positions.len(), message.documents.len());
            }
        }
    }
}
