//! What metadata tells of a file's content.

use mysimbdp_core::io::drop_directory::FileStatus;
use serde::{Deserialize, Serialize};

/// What changes whenever the content does, as far as metadata can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) bytes: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(status: &FileStatus) -> Self {
        let FileStatus { device, inode, bytes, modified, changed, .. } = *status;
        Self { device, inode, bytes, modified, changed }
    }

    /// Whether it is the same file with the same content, perhaps under another name: a rename changes `changed`.
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        Self { changed: other.changed, ..*self } == *other
    }
}
