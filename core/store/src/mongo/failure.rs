//! Which errors of the driver are transient.

use mongodb::error::{Error, ErrorKind, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR, WriteFailure};

use super::super::CoredmsError;

/// `DuplicateKey`.
pub(super) const DUPLICATE_KEY: i32 = 11000;

/// Errors of the server that another attempt may not meet: elections and shutdowns, network between its members, time
/// limits, conflicts with other writers, a full disk, a majority that is not available at the moment, a cursor that was not
/// used for ten minutes.
const TRANSIENT_CODES: [i32; 25] = [
    6, 7, 24, 43, 46, 50, 64, 89, 91, 100, 112, 117, 134, 189, 202, 237, 262, 9001, 10058, 10107, 11600,
    11602, 13435, 13436, 14031,
];

/// The driver's error in one sentence; its own text adds labels and the server's whole reply.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.kind)]
struct Sentence(Error);

pub(super) fn classify(address: &str, operation: &'static str, error: Error) -> CoredmsError {
    let address = address.to_owned();
    if is_transient(&error) {
        CoredmsError::Unavailable { address, operation, source: Box::new(Sentence(error)) }
    } else {
        CoredmsError::Refused { address, operation, source: Box::new(Sentence(error)) }
    }
}

fn is_transient(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::DnsResolve { .. } => true,
        // After a write concern error it may or may not have been written: the next attempt finds out.
        ErrorKind::Write(WriteFailure::WriteConcernError(_)) => true,
        ErrorKind::InsertMany(failure) if failure.write_concern_error.is_some() => true,
        _ => {
            error.contains_label(RETRYABLE_WRITE_ERROR)
                || error.contains_label(TRANSIENT_TRANSACTION_ERROR)
                || code(error).is_some_and(is_transient_code)
        }
    }
}

pub(super) fn is_transient_code(code: i32) -> bool {
    TRANSIENT_CODES.contains(&code)
}

/// Returns the server's code for a command or a single write that failed.
pub(super) fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        _ => None,
    }
}
