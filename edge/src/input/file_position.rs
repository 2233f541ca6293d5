//! The position in a followed file from which reading continues, as the position of a message.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mysimbdp_platform::files::{self, FileError, Metadata};
use xxhash_rust::xxh3::xxh3_64;

use super::lines::LineEnd;
use crate::message::Position;

const VERSION: u8 = 1;
const BYTES: usize = 1 + 8 + 8 + 8 + 2 + 8;

/// A position in a file. The file is identified by its inode and by the bytes before the position, because an inode may be
/// reused for a new file, and a file may be truncated and rewritten. The device is not part of it, because its number may
/// change when the machine restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePosition {
    pub inode: u64,
    pub end: LineEnd,
}

impl FilePosition {
    pub fn to_position(self) -> Position {
        let Self { inode, end: LineEnd { offset, line, tail_bytes, tail } } = self;
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        for number in [inode, offset, line] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&tail_bytes.to_le_bytes());
        bytes.extend_from_slice(&tail.to_le_bytes());
        Position::new(bytes).unwrap_or_default()
    }

    /// Returns `None` if `position` is not a position in a file.
    pub fn from_position(position: &Position) -> Option<Self> {
        let (&VERSION, mut rest) = position.as_bytes().split_first()? else { return None };
        let mut number = || {
            let (number, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(u64::from_le_bytes(*number))
        };
        let (inode, offset, line) = (number()?, number()?, number()?);
        let (tail_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (tail, []) = rest.split_first_chunk::<8>()? else { return None };
        let end = LineEnd {
            offset,
            line,
            tail_bytes: u16::from_le_bytes(*tail_bytes),
            tail: u64::from_le_bytes(*tail),
        };
        Some(Self { inode, end })
    }

    /// Whether this is a position in the given file.
    pub fn is_in(&self, file: &File, metadata: &Metadata, path: &Path) -> Result<bool, FileError> {
        Ok(metadata.ino() == self.inode && self.end.is_in(file, path)?)
    }
}

impl LineEnd {
    /// Whether the line that ended here is still in the file.
    pub fn is_in(&self, file: &File, path: &Path) -> Result<bool, FileError> {
        let Some(start) = self.offset.checked_sub(u64::from(self.tail_bytes)) else { return Ok(false) };
        let mut tail = vec![0; usize::from(self.tail_bytes)];
        let filled = files::read_at(file, path, &mut tail, start)?;
        // Before the first line nothing has been read, so nothing can have changed.
        Ok(self.offset == 0 || filled == tail.len() && xxh3_64(&tail) == self.tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_position_is_decoded_as_it_was_encoded() {
        let file_position =
            FilePosition { inode: 1, end: LineEnd { offset: 1 << 40, line: 3, tail_bytes: 256, tail: 5 } };
        let position = file_position.to_position();
        assert_eq!(FilePosition::from_position(&position), Some(file_position));
        for other in [&b""[..], b"hour 7", &position.as_bytes()[1..], &[position.as_bytes(), b"x"].concat()] {
            let other = Position::new(other.to_vec()).expect("short");
            assert_eq!(FilePosition::from_position(&other), None, "{other:?}");
        }
    }
}
