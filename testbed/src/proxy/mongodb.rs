//! Parses messages of MongoDB's wire protocol. The header has four numbers of four bytes: length, request id, id of the request
//! that it answers, opcode.

const OP_MSG: i32 = 2013;

/// The offset of the command's name. After the header: 4 bytes of flags, 1 for the section's kind, 4 for the document's length,
/// 1 for the first element's type.
const COMMAND_NAME: usize = 16 + 4 + 1 + 4 + 1;

/// The id that the reply will refer to.
pub(super) fn request(message: &[u8]) -> Option<i32> {
    number(message, 4)
}

/// The id of the request that this message answers.
pub(super) fn answers(message: &[u8]) -> Option<i32> {
    number(message, 8)
}

/// Whether this is the command `name`: the first element of the first document.
pub(super) fn is_command(message: &[u8], name: &[u8]) -> bool {
    number(message, 12) == Some(OP_MSG)
        && message
            .get(COMMAND_NAME..)
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with(b"\0"))
}

fn number(message: &[u8], at: usize) -> Option<i32> {
    message.get(at..)?.first_chunk().map(|bytes| i32::from_le_bytes(*bytes))
}
