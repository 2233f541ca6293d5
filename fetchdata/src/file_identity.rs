//! What metadata tells about the content of a file.

use jiff::Timestamp;
use mysimbdp_spool::drop_directory::FileStatus;
use serde::{Deserialize, Serialize};

/// Changes whenever the content does, as far as metadata can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileIdentity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) bytes: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

impl FileIdentity {
    pub(crate) fn of(status: &FileStatus) -> Self {
        let FileStatus { device, inode, bytes, modified, changed, .. } = *status;
        Self { device, inode, bytes, modified, changed }
    }

    /// Whether it is the same file with the same content, perhaps under another name: a rename changes `changed`.
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        Self { changed: other.changed, ..*self } == *other
    }

    /// When the file arrived at its path, independent of when it is scanned: its status last changed when it got its
    /// name, or when it was written to after that. Never later than `now`, whatever clock the file system has.
    pub(crate) fn received_at(&self, now: Timestamp) -> Timestamp {
        let (second, nanosecond) = self.changed;
        let changed =
            i32::try_from(nanosecond).ok().and_then(|nanosecond| Timestamp::new(second, nanosecond).ok());
        changed.map_or(now, |changed| changed.min(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_arrives_when_its_status_changed_and_not_in_the_future() {
        let now = Timestamp::new(100, 0).expect("in range");
        let received_at = |changed| {
            FileIdentity { device: 1, inode: 2, bytes: 3, modified: (4, 0), changed }.received_at(now)
        };
        assert_eq!(received_at((99, 5)), Timestamp::new(99, 5).expect("in range"));
        assert_eq!(
            (received_at((101, 0)), received_at((i64::MAX, 0)), received_at((1, i64::MAX))),
            (now, now, now)
        );
    }
}
