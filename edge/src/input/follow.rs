//! A file that others append to.
//!
//! It is read to its end, and looked at again and again. When it has been put aside and another one has its name, it is
//! read until nothing has come for a while, and then the other one from its beginning. When it has been emptied, it is
//! read from its beginning. What has been read is synced before it is given out (see [`Durable`]), so a file from which the
//! place of the last line has gone was emptied or written again by somebody: no power cut does that.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_platform::files::{self, FileError};
use tokio::time::sleep;

use super::InputError;
use super::durable::Durable;
use super::lines::{End, Line, Lines};
use super::place::Place;
use crate::message::{Message, Position};

const READ_BYTES: usize = 256 << 10;
/// Between two looks at a file that has not grown.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A program that puts its log aside goes on writing to it until it opens the new one.
const ASIDE_QUIET: Duration = Duration::from_secs(1);

/// A followed file.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    bytes_max: usize,
    /// Where to go on, until the file is found in which that is.
    place: Option<Place>,
    open: Option<Open>,
    told_missing: bool,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: Arc<File>,
    durable: Durable,
    device: u64,
    inode: u64,
    /// How far it is read.
    read: u64,
    lines: Lines,
    /// Since when it has brought nothing.
    quiet_since: Option<Instant>,
}

/// What a look at a file that has no more to read has found.
enum Look {
    Same,
    /// Another file has its name.
    Aside,
    /// What has been read is no longer in it.
    Emptied,
}

impl Follow {
    /// Follows `path` from the position on of the last line that was accepted; from the beginning where there is none.
    /// The file may be missing.
    ///
    /// # Errors
    ///
    /// The position is none in a file.
    pub fn open(path: &Path, position: &Position, bytes_max: usize) -> Result<Self, InputError> {
        let place = Place::from_position(position);
        if place.is_none() && !position.is_empty() {
            return Err(InputError::Position { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), bytes_max, place, open: None, told_missing: false })
    }

    /// The next lines; waits for them. May be dropped at any await.
    pub async fn next(&mut self) -> Result<Vec<Message>, InputError> {
        loop {
            if self.open.is_none() && !self.find()? {
                sleep(LOOK_EVERY).await;
                continue;
            }
            let Some(open) = &mut self.open else { continue };
            open.durable.sync_through(open.read).await?;
            let lines = open.take(&self.path)?;
            if !lines.is_empty() {
                return Ok(lines);
            }
            if open.read_more()? {
                continue;
            }
            match open.look(&self.path)? {
                Look::Same => {}
                Look::Emptied => {
                    let (file, lost) = (open.path.display(), open.lines.partial_bytes());
                    tracing::warn!(%file, lost, "followed file has been emptied or written anew, reading it from its beginning");
                    open.restart(self.bytes_max);
                    continue;
                }
                Look::Aside if open.quiet_since.is_some_and(|since| since.elapsed() >= ASIDE_QUIET) => {
                    tracing::info!(file = %self.path.display(), "followed file has been put aside, reading the new one");
                    let rest: Vec<Message> =
                        open.lines.rest().map(|line| open.message(line)).into_iter().collect();
                    self.open = None;
                    if !rest.is_empty() {
                        return Ok(rest);
                    }
                    continue;
                }
                Look::Aside => {}
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Opens the file in which reading goes on; false while there is none.
    fn find(&mut self) -> Result<bool, InputError> {
        if let Some(place) = self.place {
            if let Some(open) = self.find_place(&place)? {
                self.open = Some(open);
                self.place = None;
                return Ok(true);
            }
            tracing::warn!(
                file = %self.path.display(),
                offset = place.end.offset,
                "file in which the last line was read is not there any more, reading the one that has its name from its \
                 beginning"
            );
            self.place = None;
        }
        self.open = Open::new(&self.path, End::default(), self.bytes_max)?;
        if self.open.is_none() && !std::mem::replace(&mut self.told_missing, true) {
            tracing::info!(file = %self.path.display(), "file to follow is not there yet, waiting for it");
        }
        self.told_missing &= self.open.is_none();
        Ok(self.open.is_some())
    }

    /// It may have been put aside since, under another name in its directory.
    fn find_place(&self, place: &Place) -> Result<Option<Open>, InputError> {
        let aside = files::list(directory_of(&self.path))?.into_iter().filter(|path| {
            files::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.ino() == place.inode)
        });
        for path in std::iter::once(self.path.clone()).chain(aside) {
            if let Some(open) = Open::new(&path, place.end, self.bytes_max)?
                && place.is_in(&open.file, &metadata(&open.file, &path)?, &path)?
            {
                return Ok(Some(open));
            }
        }
        Ok(None)
    }
}

impl Open {
    /// `None`: there is no such file.
    fn new(path: &Path, end: End, bytes_max: usize) -> Result<Option<Self>, InputError> {
        let opened = files::canonical(path).and_then(|target| Ok((files::open(&target)?, target)));
        let (file, target) = match opened {
            Ok((file, target)) => (Arc::new(file), target),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = metadata(&file, path)?;
        if !metadata.is_file() {
            return Err(InputError::NoFile { path: path.to_owned() });
        }
        // Two where a symlink has the name.
        let directories = vec![directory_of(path).to_owned(), directory_of(&target).to_owned()];
        Ok(Some(Self {
            path: path.to_owned(),
            durable: Durable::new(Arc::clone(&file), path.to_owned(), directories),
            device: metadata.dev(),
            inode: metadata.ino(),
            file,
            read: end.offset,
            lines: Lines::after(end, bytes_max),
            quiet_since: None,
        }))
    }

    /// The lines that have been read.
    fn take(&mut self, name: &Path) -> Result<Vec<Message>, InputError> {
        let mut messages = Vec::new();
        loop {
            match self.lines.next() {
                Ok(Some(line)) => messages.push(self.message(line)),
                Ok(None) => return Ok(messages),
                // Those before it first; it is found again.
                Err(_) if !messages.is_empty() => return Ok(messages),
                Err(line) => {
                    return Err(InputError::TooLong { line, input: name.display().to_string() });
                }
            }
        }
    }

    fn message(&self, Line { payload, end, nuls }: Line) -> Message {
        if nuls > 0 {
            let (file, line) = (self.path.display(), end.line);
            tracing::warn!(%file, line, nuls, "skipped NUL bytes: file was emptied under a program that does not append to it");
        }
        Message { payload, position: Place { inode: self.inode, end }.to_position() }
    }

    /// Reads on; false at the end of the file.
    fn read_more(&mut self) -> Result<bool, InputError> {
        // What came after a pause may stand in a file that was emptied in between.
        if self.quiet_since.is_some() && !self.lines.end().is_in(&self.file, &self.path)? {
            return Ok(false);
        }
        let mut buffer = vec![0; READ_BYTES];
        let bytes = files::read_at(&self.file, &self.path, &mut buffer, self.read)?;
        if bytes == 0 {
            self.quiet_since.get_or_insert_with(Instant::now);
            return Ok(false);
        }
        self.quiet_since = None;
        self.read += bytes as u64;
        self.lines.push(&buffer[..bytes]);
        Ok(true)
    }

    fn look(&self, name: &Path) -> Result<Look, InputError> {
        if metadata(&self.file, &self.path)?.len() < self.read
            || !self.lines.end().is_in(&self.file, &self.path)?
        {
            return Ok(Look::Emptied);
        }
        let named = match files::canonical(name).and_then(|path| files::metadata(&path)) {
            Ok(metadata) => metadata,
            // Put aside, and no other has its name yet.
            Err(error) if error.is_not_found() => return Ok(Look::Same),
            Err(error) => return Err(error.into()),
        };
        let same = (named.dev(), named.ino()) == (self.device, self.inode);
        Ok(if same { Look::Same } else { Look::Aside })
    }

    fn restart(&mut self, bytes_max: usize) {
        self.read = 0;
        self.lines = Lines::after(End::default(), bytes_max);
        self.quiet_since = None;
        self.durable.restart();
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn metadata(file: &File, path: &Path) -> Result<files::Metadata, FileError> {
    file.metadata().map_err(|source| FileError { action: "look at", path: path.to_owned(), source })
}
