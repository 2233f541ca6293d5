//! The file system: says which operations are durable and which are atomic, and names the path in each error.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use std::fs::{FileType, Metadata};

/// A file operation has failed: which one, and on which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// This user is not allowed to.
    pub fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }

    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// The name exists already, and must not be replaced.
    pub fn already_exists(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }

    /// The two paths of the rename are on different file systems.
    pub fn is_cross_device(&self) -> bool {
        self.source.kind() == io::ErrorKind::CrossesDevices
    }

    /// Something else is at the path of a file or directory: a symlink, a file in place of a directory, or the reverse.
    pub fn is_obstructed(&self) -> bool {
        let others = [libc::ELOOP, libc::ENOTDIR, libc::EISDIR, libc::EEXIST, libc::ENOTEMPTY];
        self.source.raw_os_error().is_some_and(|code| others.contains(&code))
    }

    /// Somebody uses the file in a way that prevents others from opening it.
    pub fn is_busy(&self) -> bool {
        self.source.kind() == io::ErrorKind::ResourceBusy
    }

    /// Nothing is wrong with the path: the machine has run out of a resource, such as disk space or descriptors.
    pub fn is_exhausted(&self) -> bool {
        is_exhausted(&self.source)
    }
}

/// Whether the machine has run out of disk space, files, descriptors, processes or memory: this is temporary, and nobody's fault.
pub fn is_exhausted(error: &io::Error) -> bool {
    let temporary =
        [libc::ENOSPC, libc::EDQUOT, libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|code| temporary.contains(&code))
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
/// A file on which somebody holds a lease is in use. This can happen to staged and held files too: they are the senders' own
/// files, which a sender may have open under another name.
pub fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(map_lease_error)
        .map_err(error("open", path))
}

/// A leased file that is opened without waiting fails with EAGAIN, which [`is_exhausted`] would take for lack of a
/// resource: returns EBUSY instead.
pub fn map_lease_error(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::from_raw_os_error(libc::EBUSY),
        _ => error,
    }
}

/// Opens a file for appending; creates it if it is missing.
pub fn append(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).map_err(error("open", path))
}

/// Creates a file that must not exist yet.
pub fn create_new(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(error("create", path))
}

/// The metadata of the path itself, not of a symlink's target.
pub fn metadata(path: &Path) -> Result<Metadata> {
    fs::symlink_metadata(path).map_err(error("read the status of", path))
}

pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The path, absolute and without symlinks; components that do not exist yet are kept as they are.
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

/// Creates a directory and its missing parents; their names survive a power cut.
pub fn create_dir_all_durable(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let existed = exists(path);
    if !existed {
        create_dir_all_durable(parent)?;
        create_dir_all(path)?;
    }
    match sync_dir(parent) {
        // It existed before the data root, and is not ours.
        Err(error) if existed && error.source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        // Synced also if it existed: the process that created it may have been killed before this step.
        synced => synced,
    }
}

/// Makes the names in a directory durable, and the names of the directory itself and of all directories above it on its file
/// system, because somebody may have created them just before. Stops at one that this user may not read: it existed already.
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

/// The entries of a directory in name order; none if it does not exist.
pub fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let mut names = names(path)?;
    // Sorts the names alone: whole paths are compared component by component, which costs more than the listing.
    names.sort_unstable();
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// The names of a directory's entries, in no order; none if it does not exist.
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

/// Moves a file within a file system, atomically; replaces what is at `to`.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(error("move", from))
}

pub fn remove_file(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(error("remove", path))
}

pub fn remove_dir_all(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).map_err(error("remove", path))
}

/// Removes a file; it is not an error if it does not exist.
pub fn remove_file_if_exists(path: &Path) -> Result<()> {
    match remove_file(path) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Writes a whole file so that readers see the old content or the new one, and never half of either, whichever process
/// is killed.
///
/// A power cut may leave it empty or torn. So this is only for files that are derived again if they cannot be read, and for
/// files that are ignored once the process that wrote them has ended. Use [`write_durable`] for everything else.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, content, false)
}

/// Like [`write_atomic`], but the content is on disk when this returns: after a power cut the file holds the old
/// content or the new one.
///
/// It is certain to be the new one only after [`sync_dir`] of its directory, which can be called once for several files.
pub fn write_durable(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, content, true)
}

fn replace(path: &Path, content: &[u8], durable: bool) -> Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    let unpublished = path.with_file_name(name);
    let mut file = File::create(&unpublished).map_err(error("create", &unpublished))?;
    let written = file.write_all(content).map_err(error("write", &unpublished));
    let written = written.and_then(|()| match durable {
        true => file.sync_all().map_err(error("sync", &unpublished)),
        false => Ok(()),
    });
    if let Err(failure) = written {
        // A partial file would only use space on a full disk; the file that it was to replace is unchanged.
        let _ = fs::remove_file(&unpublished);
        return Err(failure);
    }
    rename(&unpublished, path)
}

/// Makes the names in a directory durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(error("sync", path))
}

/// Copies `length` bytes at `offset` of an open file into a new file, which is durable when this returns.
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

/// Copies the last `bytes_max` bytes of a file into the new file `to`, and then empties the file, which others may hold open.
///
/// Bytes that are appended between the copy and the emptying are lost.
pub fn copy_end_and_empty(path: &Path, to: &Path, bytes_max: u64) -> Result<()> {
    let mut from = OpenOptions::new().read(true).write(true).open(path).map_err(error("open", path))?;
    let length = from.metadata().map_err(error("read the status of", path))?.len();
    from.seek(SeekFrom::Start(length.saturating_sub(bytes_max))).map_err(error("read", path))?;
    let mut file = create_new(to)?;
    // Limited, because a process that appends without end would also extend the copy without end.
    let mut from = from.take(bytes_max);
    if let Err(source) = io::copy(&mut from, &mut file) {
        // A partial copy of a file that is still complete would only fill the disk.
        remove_file(to)?;
        return Err(error("write", to)(source));
    }
    from.into_inner().set_len(0).map_err(error("empty", path))
}

/// Fills `buffer` from `offset` of an open file; returns how many bytes it has read.
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

/// Whether only this user and root can have written the file, and only they can read it.
pub fn is_private(metadata: &Metadata) -> bool {
    let owner = metadata.uid();
    metadata.mode() & 0o077 == 0 && (owner == 0 || owner == rustix::process::geteuid().as_raw())
}

/// Whether both metadata are of the same file with the same content, as far as metadata can show.
pub fn unchanged(before: &Metadata, after: &Metadata) -> bool {
    let key =
        |m: &Metadata| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    key(before) == key(after)
}

/// A reader with a buffer so large that the cost of system calls does not matter: 256 KiB.
pub fn buffered(file: File) -> BufReader<File> {
    BufReader::with_capacity(256 << 10, file)
}

/// A writer with such a buffer.
pub fn buffered_writer(file: File) -> BufWriter<File> {
    BufWriter::with_capacity(256 << 10, file)
}
