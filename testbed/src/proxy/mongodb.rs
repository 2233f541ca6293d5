//! What a message of MongoDB's wire protocol says. Its header has four numbers of four bytes: length, own number, number
//! of the request that it answers, kind.

const KIND_MSG: i32 = 2013;

/// After the header: 4 bytes of flags, 1 of the section's kind, 4 of the document's length, 1 of the first element's type.
const COMMAND_NAME: usize = 16 + 4 + 1 + 4 + 1;

/// The number that a reply will refer to.
pub(super) fn request(message: &[u8]) -> Option<i32> {
    number(message, 4)
}

/// The request that is answered.
pub(super) fn answers(message: &[u8]) -> Option<i32> {
    number(message, 8)
}

/// The command is the first element of the first document.
pub(super) fn is_command(message: &[u8], name: &[u8]) -> bool {
    number(message, 12) == Some(KIND_MSG)
        && message
            .get(COMMAND_NAME..)
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with(b"\0"))
}

fn number(message: &[u8], at: usize) -> Option<i32> {
    message.get(at..)?.first_chunk().map(|bytes| i32::from_le_bytes(*bytes))
}
