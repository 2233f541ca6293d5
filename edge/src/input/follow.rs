//! A file that other programs append to.
//!
//! It is read to its end and then polled. If it has been rotated (renamed, and another file has its name), it is read until
//! nothing has been added for a while; then the new file is read from its beginning. If it has been truncated, it is read
//! from its beginning. Lines are synced before they are returned (see [`FileSync`]), so a file in which the position of the
//! last line is not found was truncated or rewritten by a program: a power cut cannot cause that.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_platform::files::{self, FileError};
use tokio::time::sleep;

use super::InputError;
use super::durable::FileSync;
use super::file_position::FilePosition;
use super::lines::{InputLine, LineEnd, Lines};
use crate::message::{Position, SourceMessage};

const READ_BYTES: usize = 256 << 10;
/// The interval between two checks of a file that has not grown.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// How long a rotated file must not grow before the new one is read: a program that rotates its log continues to write to the
/// old file until it opens the new one.
const ROTATED_QUIET: Duration = Duration::from_secs(1);

/// A followed file.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    bytes_max: usize,
    /// The position to continue from, until its file is found.
    resume_at: Option<FilePosition>,
    open: Option<OpenFile>,
    logged_missing: bool,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    file: Arc<File>,
    durable: FileSync,
    device: u64,
    inode: u64,
    /// The offset up to which it has been read.
    read_offset: u64,
    lines: Lines,
    /// When a read first found nothing new; `None` if the last read found something.
    quiet_since: Option<Instant>,
}

/// What has happened to a file that has been read to its end.
enum FileState {
    Unchanged,
    /// Another file has its name.
    Rotated,
    /// It no longer contains the bytes that have been read.
    Rewritten,
}

impl Follow {
    /// Follows `path` from the position of the last accepted line, or from the beginning if there is none. The file may be
    /// missing.
    ///
    /// # Errors
    ///
    /// The position is not a position in a file.
    pub fn open(path: &Path, position: &Position, bytes_max: usize) -> Result<Self, InputError> {
        let resume_at = FilePosition::from_position(position);
        if resume_at.is_none() && !position.is_empty() {
            return Err(InputError::Position { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), bytes_max, resume_at, open: None, logged_missing: false })
    }

    /// Waits for the next lines and returns them. May be dropped at any await.
    pub async fn next(&mut self) -> Result<Vec<SourceMessage>, InputError> {
        loop {
            if self.open.is_none() && !self.find()? {
                sleep(POLL_EVERY).await;
                continue;
            }
            let Some(open) = &mut self.open else { continue };
            open.durable.sync_through(open.read_offset).await?;
            let lines = open.take_lines(&self.path)?;
            if !lines.is_empty() {
                return Ok(lines);
            }
            if open.read_more()? {
                continue;
            }
            match open.state(&self.path)? {
                FileState::Unchanged => {}
                FileState::Rewritten => {
                    let (file, lost) = (open.path.display(), open.lines.partial_bytes());
                    tracing::warn!(%file, lost, "followed file was truncated or rewritten, reading it from the beginning");
                    open.restart(self.bytes_max);
                    continue;
                }
                FileState::Rotated
                    if open.quiet_since.is_some_and(|since| since.elapsed() >= ROTATED_QUIET) =>
                {
                    tracing::info!(file = %self.path.display(), "followed file was rotated, reading the new one");
                    let remainder: Vec<SourceMessage> =
                        open.lines.remainder().map(|line| open.message(line)).into_iter().collect();
                    self.open = None;
                    if !remainder.is_empty() {
                        return Ok(remainder);
                    }
                    continue;
                }
                FileState::Rotated => {}
            }
            sleep(POLL_EVERY).await;
        }
    }

    /// Opens the file in which reading continues. Returns false if there is none yet.
    fn find(&mut self) -> Result<bool, InputError> {
        if let Some(resume_at) = self.resume_at {
            if let Some(open) = self.find_file_position(&resume_at)? {
                self.open = Some(open);
                self.resume_at = None;
                return Ok(true);
            }
            tracing::warn!(
                file = %self.path.display(),
                offset = resume_at.end.offset,
                "file of the last line not found, reading the file at its path from the beginning"
            );
            self.resume_at = None;
        }
        self.open = OpenFile::new(&self.path, LineEnd::default(), self.bytes_max)?;
        if self.open.is_none() && !std::mem::replace(&mut self.logged_missing, true) {
            tracing::info!(file = %self.path.display(), "followed file does not exist yet, waiting for it");
        }
        self.logged_missing &= self.open.is_none();
        Ok(self.open.is_some())
    }

    /// Opens the file of this position, which may have been rotated since: it then has another name in its directory.
    fn find_file_position(&self, resume_at: &FilePosition) -> Result<Option<OpenFile>, InputError> {
        let others = files::list(directory_of(&self.path))?.into_iter().filter(|path| {
            files::metadata(path)
                .is_ok_and(|metadata| metadata.is_file() && metadata.ino() == resume_at.inode)
        });
        for path in std::iter::once(self.path.clone()).chain(others) {
            if let Some(open) = OpenFile::new(&path, resume_at.end, self.bytes_max)?
                && resume_at.is_in(&open.file, &metadata(&open.file, &path)?, &path)?
            {
                return Ok(Some(open));
            }
        }
        Ok(None)
    }
}

impl OpenFile {
    /// Returns `None` if there is no such file.
    fn new(path: &Path, end: LineEnd, bytes_max: usize) -> Result<Option<Self>, InputError> {
        let opened = files::canonical(path).and_then(|target| Ok((files::open(&target)?, target)));
        let (file, target) = match opened {
            Ok((file, target)) => (Arc::new(file), target),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = metadata(&file, path)?;
        if !metadata.is_file() {
            return Err(InputError::NotARegularFile { path: path.to_owned() });
        }
        // They differ if `path` is a symlink.
        let directories = vec![directory_of(path).to_owned(), directory_of(&target).to_owned()];
        Ok(Some(Self {
            path: path.to_owned(),
            durable: FileSync::new(Arc::clone(&file), path.to_owned(), directories),
            device: metadata.dev(),
            inode: metadata.ino(),
            file,
            read_offset: end.offset,
            lines: Lines::after(end, bytes_max),
            quiet_since: None,
        }))
    }

    /// Returns the complete lines that have been read.
    fn take_lines(&mut self, name: &Path) -> Result<Vec<SourceMessage>, InputError> {
        let mut messages = Vec::new();
        loop {
            match self.lines.next() {
                Ok(Some(line)) => messages.push(self.message(line)),
                Ok(None) => return Ok(messages),
                // First the lines before it; the next call finds the long line again.
                Err(_) if !messages.is_empty() => return Ok(messages),
                Err(line) => {
                    return Err(InputError::TooLong { line, input: name.display().to_string() });
                }
            }
        }
    }

    fn message(&self, InputLine { payload, end, nuls }: InputLine) -> SourceMessage {
        if nuls > 0 {
            let (file, line) = (self.path.display(), end.line);
            tracing::warn!(%file, line, nuls, "skipped NUL bytes: file was truncated under a program that does not append to it");
        }
        SourceMessage { payload, position: FilePosition { inode: self.inode, end }.to_position() }
    }

    /// Reads further bytes. Returns false at the end of the file.
    fn read_more(&mut self) -> Result<bool, InputError> {
        // After a quiet period the file may have been truncated and filled again: then the bytes at this offset do not
        // continue ours.
        if self.quiet_since.is_some() && !self.lines.end().is_in(&self.file, &self.path)? {
            return Ok(false);
        }
        let mut buffer = vec![0; READ_BYTES];
        let bytes = files::read_at(&self.file, &self.path, &mut buffer, self.read_offset)?;
        if bytes == 0 {
            self.quiet_since.get_or_insert_with(Instant::now);
            return Ok(false);
        }
        self.quiet_since = None;
        self.read_offset += bytes as u64;
        self.lines.push(&buffer[..bytes]);
        Ok(true)
    }

    fn state(&self, name: &Path) -> Result<FileState, InputError> {
        if metadata(&self.file, &self.path)?.len() < self.read_offset
            || !self.lines.end().is_in(&self.file, &self.path)?
        {
            return Ok(FileState::Rewritten);
        }
        let named = match files::canonical(name).and_then(|path| files::metadata(&path)) {
            Ok(metadata) => metadata,
            // Rotated, and no other file has its name yet.
            Err(error) if error.is_not_found() => return Ok(FileState::Unchanged),
            Err(error) => return Err(error.into()),
        };
        let same = (named.dev(), named.ino()) == (self.device, self.inode);
        Ok(if same { FileState::Unchanged } else { FileState::Rotated })
    }

    fn restart(&mut self, bytes_max: usize) {
        self.read_offset = 0;
        self.lines = Lines::after(LineEnd::default(), bytes_max);
        self.quiet_since = None;
        self.durable.restart();
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn metadata(file: &File, path: &Path) -> Result<files::Metadata, FileError> {
    file.metadata().map_err(|source| FileError {
        action: "read the status of",
        path: path.to_owned(),
        source,
    })
}
