//! The server's reply to a write: what is wrong with which document.
//!
//! The driver reads replies through serde, which fails on a refused document that has a field such as `$date`: one such
//! record would fail its whole message, at every attempt. So replies are read here, as plain documents.

use bson::{Bson, Document};
use mongodb::error::{Error, ErrorKind, IndexedWriteError};

/// What is wrong with one document of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    /// The document's position in the message.
    pub(super) index: usize,
    pub(super) code: i32,
    pub(super) message: String,
    /// The validator's details.
    pub(super) info: Option<Document>,
}

/// The answer to a message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reply {
    pub(super) faults: Vec<Fault>,
    /// Why the write is not known to be durable.
    pub(super) write_concern: Option<String>,
}

impl Reply {
    /// Returns the reply behind an error of `insert_many`; `Err` returns an error that is not about documents.
    pub(super) fn of_insert(error: Error) -> Result<Self, Error> {
        match error.kind.as_ref() {
            ErrorKind::InsertMany(failure) => {
                let faults = failure.write_errors.iter().flatten().map(Fault::from).collect();
                let write_concern = failure.write_concern_error.as_ref().map(|error| error.message.clone());
                Ok(Self { faults, write_concern })
            }
            ErrorKind::InvalidResponse { .. } => {
                let reply = error.server_response().and_then(|reply| Document::try_from(reply.as_ref()).ok());
                reply.and_then(|reply| Self::read(&reply)).ok_or(error)
            }
            _ => Err(error),
        }
    }

    /// Reads a reply; `None` if it is not a reply to a write.
    pub(super) fn read(reply: &Document) -> Option<Self> {
        reply.get("n").and_then(integer)?;
        let faults = match reply.get("writeErrors") {
            None => Vec::new(),
            Some(faults) => faults.as_array()?.iter().map(Fault::read).collect::<Option<_>>()?,
        };
        let write_concern = match reply.get("writeConcernError") {
            None => None,
            Some(error) => {
                Some(error.as_document()?.get_str("errmsg").unwrap_or("no reason given").to_owned())
            }
        };
        Some(Self { faults, write_concern })
    }
}

impl Fault {
    fn read(fault: &Bson) -> Option<Self> {
        let fault = fault.as_document()?;
        Some(Self {
            index: integer(fault.get("index")?)?.try_into().ok()?,
            code: integer(fault.get("code")?)?.try_into().ok()?,
            message: fault.get_str("errmsg").unwrap_or_default().to_owned(),
            info: fault.get_document("errInfo").ok().cloned(),
        })
    }
}

impl From<&IndexedWriteError> for Fault {
    fn from(error: &IndexedWriteError) -> Self {
        Self {
            index: error.index,
            code: error.code,
            message: error.message.clone(),
            info: error.details.clone(),
        }
    }
}

fn integer(number: &Bson) -> Option<i64> {
    match number {
        Bson::Int32(number) => Some((*number).into()),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_reply_is_read_completely_or_not_at_all() {
        assert_eq!(Reply::read(&doc! { "n": 3, "ok": 1.0 }), Some(Reply::default()));

        let info = doc! { "details": { "consideredValue": { "$date": "no date" } } };
        let fault = doc! { "index": 1, "code": 121, "errmsg": "failed", "errInfo": &info };
        let read =
            Reply::read(&doc! { "n": 2, "writeErrors": [fault], "writeConcernError": { "errmsg": "slow" } });
        let fault = Fault { index: 1, code: 121, message: "failed".to_owned(), info: Some(info) };
        assert_eq!(read, Some(Reply { faults: vec![fault], write_concern: Some("slow".to_owned()) }));

        for bad in [
            doc! { "ok": 1 },
            doc! { "n": 1, "writeErrors": {} },
            doc! { "n": 1, "writeErrors": [{ "code": 121 }] },
            doc! { "n": 1, "writeErrors": [{ "index": -1, "code": 121 }] },
        ] {
            assert_eq!(Reply::read(&bad), None, "{bad}");
        }
    }
}
