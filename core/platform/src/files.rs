//! The door to the file system: what is durable, what is atomic, and names the path in each error.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use std::fs::{FileType, Metadata};

/// What went wrong, and with which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// This user may not.
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// What has the name already was to be kept.
    pub fn is_there_already(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }

    /// The rename's two paths lie on different file systems.
    pub fn is_cross_device(&self) -> bool {
        self.source.kind() == io::ErrorKind::CrossesDevices
    }

    /// Something else lies where a file or directory should: a symlink, a file in the place of a directory or the reverse.
    pub fn is_obstructed(&self) -> bool {
        let others = [libc::ELOOP, libc::ENOTDIR, libc::EISDIR, libc::EEXIST, libc::ENOTEMPTY];
        self.source.raw_os_error().is_some_and(|code| others.contains(&code))
    }

    /// Somebody uses the file in a way that lets nobody else open it.
    pub fn is_busy(&self) -> bool {
        self.source.kind() == io::ErrorKind::ResourceBusy
    }

    /// Nothing is wrong with the path: the machine has run out of something, such as room or descriptors.
    pub fn is_exhausted(&self) -> bool {
        is_exhausted(&self.source)
    }
}

/// Whether the machine has run out of room, files, descriptors, processes or memory: it passes, and is nobody's fault.
pub fn is_exhausted(error: &io::Error) -> bool {
    let passing =
        [libc::ENOSPC, libc::EDQUOT, libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|code| passing.contains(&code))
}

pub type Result<T> = std::result::Result<T, FileError>;

fn error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError { action, path: path.to_owned(), source }
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(error("read", path))
}

pub fn read_to_string(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(error("read", path))
}

/// Opens a file for reading; never follows a symlink in its last component and never waits for a FIFO's writer.
///
/// A file on which somebody holds a lease is in use: staged and held files are those of their senders, who may hold one
/// through another name.
pub fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(in_use)
        .map_err(error("open", path))
}

/// What an open that does not wait says of a file that somebody holds a lease on: else it would look like a machine that
/// has run out of something.
pub fn in_use(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::from_raw_os_error(libc::EBUSY),
        _ => error,
    }
}

/// Opens a file for appending and creates it where it is missing.
pub fn append(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).map_err(error("open", path))
}

/// Creates a file that must not be there yet.
pub fn create_new(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(error("create", path))
}

/// Metadata of the path itself, not of what a symlink points to.
pub fn metadata(path: &Path) -> Result<Metadata> {
    fs::symlink_metadata(path).map_err(error("look at", path))
}

pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The path, absolute and without symlinks; what does not exist yet is kept as it is written.
pub fn canonical(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path).map_err(error("resolve", path)) {
        Err(error) if error.is_not_found() => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if parent.as_os_str().is_empty() => {
                Ok(canonical(Path::new("."))?.join(name))
            }
            (Some(parent), Some(name)) => Ok(canonical(parent)?.join(name)),
            _ => Err(error),
        },
        other => other,
    }
}

pub fn create_dir_all(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(error("create directory", path))
}

/// Creates a directory whose name survives a power cut, with those above it that are missing.
pub fn create_dir_all_durable(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_there = exists(path);
    if !is_there {
        create_dir_all_durable(parent)?;
        create_dir_all(path)?;
    }
    match sync_dir(parent) {
        // It was there before the data root was: nothing of ours.
        Err(error) if is_there && error.source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        // Also if it is there: whoever made it may have been killed before this step.
        synced => synced,
    }
}

/// Makes the names in a directory durable, and its own: with those of all directories above it on its file system, as
/// anybody may have made them just before. One that may not be read was there already.
pub fn sync_names(directory: &Path) -> Result<()> {
    let directory = canonical(directory)?;
    sync_dir(&directory)?;
    let device = metadata(&directory)?.dev();
    for above in directory.ancestors().skip(1) {
        if metadata(above)?.dev() != device {
            break;
        }
        match sync_dir(above) {
            Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => break,
            other => other?,
        }
    }
    Ok(())
}

/// The entries of a directory in name order; none where it does not exist.
pub fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let mut names = names(path)?;
    // The names alone: whole paths are compared component by component, which costs more than the listing.
    names.sort_unstable();
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// The names of a directory's entries, in no order; none where it does not exist.
pub fn names(path: &Path) -> Result<Vec<OsString>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(error("list", path)(source)),
    };
    entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()
        .map_err(error("list", path))
}

/// Moves within a file system, atomically, replacing what is there.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(error("move", from))
}

pub fn remove_file(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(error("remove", path))
}

pub fn remove_dir_all(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).map_err(error("remove", path))
}

/// Removes a file; it may be gone already.
pub fn remove_file_if_there(path: &Path) -> Result<()> {
    match remove_file(path) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Writes a whole file so that readers see the old content or the new, and not half of either, whoever is killed.
///
/// A power cut may leave it empty or torn. So this is for what is derived again if it cannot be read, and for what nobody
/// believes once the process that wrote it has ended. Everything else is written by [`write_durable`].
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, content, false)
}

/// The same, and on disk when this returns: after a power cut it holds the old content or the new.
///
/// Which of them is certain only after [`sync_dir`] of its directory, which several files may share.
pub fn write_durable(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, content, true)
}

fn replace(path: &Path, content: &[u8], durable: bool) -> Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    let unseen = path.with_file_name(name);
    let mut file = File::create(&unseen).map_err(error("create", &unseen))?;
    let written = file.write_all(content).map_err(error("write", &unseen));
    let written = written.and_then(|()| match durable {
        true => file.sync_all().map_err(error("sync", &unseen)),
        false => Ok(()),
    });
    if let Err(failure) = written {
        // Half of it would only take room on a disk that has none; what it was to replace is still there.
        let _ = fs::remove_file(&unseen);
        return Err(failure);
    }
    rename(&unseen, path)
}

/// Makes the names in a directory durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(error("sync", path))
}

/// Copies `length` bytes at `offset` of an open file into a new file, durable when this returns.
pub fn copy_range_durable(from: &File, offset: u64, length: u64, to: &Path) -> Result<()> {
    let mut source = from.try_clone().map_err(error("copy to", to))?;
    source.seek(SeekFrom::Start(offset)).map_err(error("copy to", to))?;
    let mut file = File::create(to).map_err(error("create", to))?;
    let copied = io::copy(&mut source.take(length), &mut file).map_err(error("write", to))?;
    if copied != length {
        return Err(error("copy to", to)(io::ErrorKind::UnexpectedEof.into()));
    }
    file.sync_all().map_err(error("sync", to))
}

/// Moves the last `bytes_max` bytes that a file holds into the new file `to`, and leaves the file itself, which others may
/// hold open, empty.
///
/// What is appended between the end of the copy and the emptying is lost.
pub fn copy_end_and_empty(path: &Path, to: &Path, bytes_max: u64) -> Result<()> {
    let mut from = OpenOptions::new().read(true).write(true).open(path).map_err(error("open", path))?;
    let length = from.metadata().map_err(error("look at", path))?.len();
    from.seek(SeekFrom::Start(length.saturating_sub(bytes_max))).map_err(error("read", path))?;
    let mut file = create_new(to)?;
    // No more than that: who fills the file could add to it for as long as it is copied.
    let mut from = from.take(bytes_max);
    if let Err(source) = io::copy(&mut from, &mut file) {
        // Half a copy of what is still there would only fill the disk.
        remove_file(to)?;
        return Err(error("write", to)(source));
    }
    from.into_inner().set_len(0).map_err(error("empty", path))
}

/// Fills `buffer` from `offset` of an open file; returns how many bytes there were.
pub fn read_at(file: &File, path: &Path, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(error("read", path)(source)),
        }
    }
    Ok(filled)
}

/// Whether two metadata tell of the same file with the same content, as far as metadata can tell.
pub fn unchanged(before: &Metadata, after: &Metadata) -> bool {
    let key =
        |m: &Metadata| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    key(before) == key(after)
}

/// A reader with a buffer large enough that system calls do not count: 256 KiB.
pub fn buffered(file: File) -> BufReader<File> {
    BufReader::with_capacity(256 << 10, file)
}

/// A writer with the same.
pub fn buffered_writer(file: File) -> BufWriter<File> {
    BufWriter::with_capacity(256 << 10, file)
}
