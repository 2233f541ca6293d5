//! An open directory: every operation is relative to its descriptor and takes a single name, never a path.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use mysimbdp_platform::files::{FileError, Result, map_lease_error};
use mysimbdp_platform::random;
use rustix::fs::{Access, AtFlags, Dir, Mode, OFlags, RenameFlags, accessat, fchmod, fstat, mkdirat, openat};
use rustix::fs::{renameat_with, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::resolve::{self, OPEN_PATH};
use super::{DEPTH_MAX, DropPath, FileKind, FileStatus};

/// Whatever the umask: everybody who may read the folder may read the files that the platform writes there.
const WRITTEN_MODE: u32 = 0o644;
/// Set whatever the umask.
const DIRECTORY_MODE: u32 = 0o755;
const PRIVATE_MODE: u32 = 0o700;
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// An open directory. It stays the same one, whatever its name refers to by now.
#[derive(Debug)]
pub struct Directory {
    descriptor: OwnedFd,
    /// Only for errors.
    display_path: PathBuf,
}

/// What happens to an existing file of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the move fails.
    Keep,
    Replace,
}

impl Directory {
    /// Opens a directory that belongs to the platform, such as one in staging, by its path. Symlinks there belong to the
    /// operator, and are followed.
    pub fn open_platform(path: &Path) -> Result<Self> {
        let flags = OPEN_PATH | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let error = |errno: Errno| FileError { action: "open", path: path.to_owned(), source: errno.into() };
        Ok(Self { descriptor: opened.map_err(error)?, display_path: path.to_owned() })
    }

    /// Opens the directory at this relative path.
    pub fn below(&self, path: &DropPath) -> Result<Self> {
        self.resolve(path.as_path())
    }

    /// Opens the directory of this name.
    pub fn directory(&self, name: &OsStr) -> Result<Self> {
        self.resolve(Path::new(single(name).map_err(self.error("open", name))?))
    }

    /// Opens the directory that the symlink of this name leads to. The symlink must belong to the operator: to this user, or
    /// to root.
    pub(super) fn follow(&self, name: &OsStr) -> Result<Self> {
        let owner = self.status(name)?.owner;
        if owner != 0 && owner != geteuid().as_raw() {
            let why = format!(
                "it is a symlink of user {owner}; only symlinks of the platform's user and of root are followed"
            );
            return Err(self.error("open", name)(io::Error::other(why)));
        }
        let flags = OPEN_PATH | OFlags::CLOEXEC;
        let open = || Ok(openat(&self.descriptor, single(name)?, flags, Mode::empty())?);
        let descriptor = open().map_err(self.error("open", name))?;
        Ok(Self { descriptor, display_path: self.display_path.join(name) })
    }

    /// Opens the directory of this name; creates it if it is missing.
    pub fn open_or_create(&self, name: &OsStr) -> Result<Self> {
        match self.create_directory(name, DIRECTORY_MODE)? {
            Some(made) => Ok(made),
            None => self.directory(name),
        }
    }

    /// Opens or creates a directory that nobody else can write into; also returns whether it is new.
    ///
    /// # Errors
    ///
    /// It cannot be created, or something else has the name.
    pub fn open_or_create_private(&self, name: &OsStr) -> Result<(Self, bool)> {
        match self.create_directory(name, PRIVATE_MODE)? {
            Some(made) => Ok((made, true)),
            None => Ok((self.open_private(name)?, false)),
        }
    }

    /// Opens the directory of this name, if nobody else can write into it.
    pub fn open_private(&self, name: &OsStr) -> Result<Self> {
        let found = self.directory(name)?;
        found.check_private()?;
        Ok(found)
    }

    /// The names of the entries, in no particular order.
    pub fn names(&self) -> Result<Vec<OsString>> {
        self.read_names().map_err(self.self_error("list"))
    }

    /// Returns whether it contains a name that `accept` accepts. Further names are not read.
    pub fn any_name(&self, mut accept: impl FnMut(&OsStr) -> bool) -> Result<bool> {
        let mut any_name = || {
            for name in entries(Dir::new(self.readable()?)?) {
                if accept(&name?) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        any_name().map_err(self.self_error("list"))
    }

    /// The status of the entry itself; symlinks are not followed.
    pub fn status(&self, name: &OsStr) -> Result<FileStatus> {
        let stat = || Ok(statat(&self.descriptor, single(name)?, AtFlags::SYMLINK_NOFOLLOW)?.into());
        stat().map_err(self.error("read the status of", name))
    }

    /// The status of the directory itself.
    pub fn self_status(&self) -> Result<FileStatus> {
        let status = fstat(&self.descriptor).map_err(io::Error::from);
        Ok(status.map_err(self.self_error("read the status of"))?.into())
    }

    /// Whether others may write into it, and may even rename files that are not theirs.
    pub fn is_shared(&self) -> Result<bool> {
        let mode = self.self_status()?.mode;
        Ok(mode & OTHERS_WRITE != 0 && mode & STICKY == 0)
    }

    /// Whether this process may move entries out of it; also true if the kernel cannot tell.
    pub fn is_writable(&self) -> bool {
        let access = accessat(&self.descriptor, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        !matches!(access, Err(Errno::ACCESS | Errno::PERM | Errno::ROFS))
    }

    /// Opens a file for reading. Waits neither for the writer of a FIFO nor for the holder of a lease: a leased file is an
    /// error, `is_busy`.
    pub fn open(&self, name: &OsStr) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = || resolve::open(self.descriptor.as_fd(), Path::new(single(name)?), flags);
        open().map(File::from).map_err(map_lease_error).map_err(self.error("open", name))
    }

    /// Creates a file that must not exist yet; the umask determines its mode.
    pub fn create(&self, name: &OsStr) -> Result<File> {
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::NOCTTY;
        let create = || {
            let file = openat(&self.descriptor, single(name)?, flags, Mode::from(0o666))?;
            Ok(File::from(file))
        };
        create().map_err(self.error("create", name))
    }

    /// Moves an entry within its file system, atomically. A symlink is itself moved.
    pub fn rename(&self, name: &OsStr, to: &Self, to_name: &OsStr, existing: Existing) -> Result<()> {
        let flags = match existing {
            Existing::Keep => RenameFlags::NOREPLACE,
            Existing::Replace => RenameFlags::empty(),
        };
        let rename = || {
            let (name, to_name) = (single(name)?, single(to_name)?);
            Ok(renameat_with(&self.descriptor, name, &to.descriptor, to_name, flags)?)
        };
        rename().map_err(self.error("move", name))
    }

    /// Moves a file, possibly to another file system: there it is copied, and removed here once the copy is durable. Only for
    /// files in directories that belong to the platform: elsewhere another file may take its place after the copy.
    pub fn move_file(&self, name: &OsStr, to: &Self, to_name: &OsStr, existing: Existing) -> Result<()> {
        match self.rename(name, to, to_name, existing) {
            Err(error) if error.is_cross_device() => {}
            moved => return moved,
        }
        self.copy(name, to, to_name, existing)?;
        self.remove_file(name)
    }

    /// Copies a file. The copy is durable when this returns, and gets its name only once it is complete.
    pub fn copy(&self, name: &OsStr, to: &Self, to_name: &OsStr, existing: Existing) -> Result<()> {
        let mut source = self.open(name)?;
        let status = FileStatus::of(&source).map_err(self.error("read the status of", name))?;
        if status.kind != FileKind::File {
            let source = io::Error::other(format!("a {} cannot be copied", status.kind));
            return Err(self.error("copy", name)(source));
        }
        let temporary = OsString::from(format!(".{:016x}.part", random::number()));
        let copied = to.fill(&temporary, |file| io::copy(&mut source, file).map(|_| ()));
        to.publish(copied, &temporary, to, to_name, existing)
    }

    /// Writes a whole file into `to`, in place of an existing one; it is durable when this returns. Until it is complete, it
    /// is in this directory, as `temporary`.
    pub fn write(&self, temporary: &OsStr, content: &[u8], to: &Self, name: &OsStr) -> Result<()> {
        match self.remove_file(temporary) {
            Err(error) if error.is_not_found() => {}
            removed => removed?,
        }
        let written = self.fill(temporary, |file| {
            fchmod(&*file, Mode::from(WRITTEN_MODE))?;
            file.write_all(content)
        });
        self.publish(written, temporary, to, name, Existing::Replace)
    }

    pub fn remove_file(&self, name: &OsStr) -> Result<()> {
        let remove = || Ok(unlinkat(&self.descriptor, single(name)?, AtFlags::empty())?);
        remove().map_err(self.error("remove", name))
    }

    /// Removes the entry of this name, a directory with all of its contents.
    pub fn remove_tree(&self, name: &OsStr) -> Result<()> {
        self.remove_within(name, 2 * DEPTH_MAX)
    }

    /// Makes its entries durable.
    pub fn sync(&self) -> Result<()> {
        self.readable().and_then(|directory| directory.sync_all()).map_err(self.self_error("sync"))
    }

    fn resolve(&self, path: &Path) -> Result<Self> {
        let display_path = self.display_path.join(path);
        match resolve::open(self.descriptor.as_fd(), path, OPEN_PATH) {
            Ok(descriptor) => Ok(Self { descriptor, display_path }),
            Err(source) => Err(FileError { action: "open", path: display_path, source }),
        }
    }

    fn remove_within(&self, name: &OsStr, depth: usize) -> Result<()> {
        if !self.status(name)?.is_directory() {
            return self.remove_file(name);
        }
        if depth == 0 {
            return Err(self.error("remove", name)(Errno::NAMETOOLONG.into()));
        }
        let directory = self.directory(name)?;
        for inner in directory.names()? {
            directory.remove_within(&inner, depth - 1)?;
        }
        let remove = || Ok(unlinkat(&self.descriptor, single(name)?, AtFlags::REMOVEDIR)?);
        remove().map_err(self.error("remove", name))
    }

    /// Creates a directory; `None` if the name is in use already.
    fn create_directory(&self, name: &OsStr, mode: u32) -> Result<Option<Self>> {
        match single(name).and_then(|name| Ok(mkdirat(&self.descriptor, name, Mode::from(mode))?)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            made => made.map_err(self.error("create directory", name))?,
        }
        let made = self.directory(name)?;
        // The owner of this directory may have replaced the new one by another.
        made.check_private()?;
        // Whatever the umask: others may need access.
        let chmod = || Ok(fchmod(made.readable()?, Mode::from(mode))?);
        chmod().map_err(made.self_error("create directory"))?;
        Ok(Some(made))
    }

    fn check_private(&self) -> Result<()> {
        let (status, user) = (self.self_status()?, geteuid().as_raw());
        if status.owner == user && status.mode & OTHERS_WRITE == 0 {
            return Ok(());
        }
        let why = format!(
            "it belongs to user {} and has mode {:o}; only user {user} may have write permission",
            status.owner, status.mode
        );
        Err(self.self_error("use")(io::Error::other(why)))
    }

    /// Creates a file and has `fill` write its content; it is durable when this returns.
    fn fill(&self, name: &OsStr, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
        let mut file = self.create(name)?;
        fill(&mut file).and_then(|()| file.sync_all()).map_err(self.error("write", name))
    }

    /// Gives the filled file its name, or removes it if something went wrong.
    fn publish(
        &self,
        filled: Result<()>,
        temporary: &OsStr,
        to: &Self,
        name: &OsStr,
        existing: Existing,
    ) -> Result<()> {
        let published = filled.and_then(|()| self.rename(temporary, to, name, existing));
        if published.is_err() {
            // A partial file only wastes space; the error is already being returned.
            let _ = self.remove_file(temporary);
        }
        published.and_then(|()| to.sync())
    }

    fn read_names(&self) -> io::Result<Vec<OsString>> {
        entries(Dir::new(self.readable()?)?).collect()
    }

    fn readable(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.descriptor, ".", flags, Mode::empty())?))
    }

    fn error<'a>(
        &'a self,
        action: &'static str,
        name: &'a OsStr,
    ) -> impl FnOnce(io::Error) -> FileError + 'a {
        move |source| FileError { action, path: self.display_path.join(name), source }
    }

    /// An error that concerns the directory itself.
    fn self_error(&self, action: &'static str) -> impl FnOnce(io::Error) -> FileError + '_ {
        move |source| FileError { action, path: self.display_path.clone(), source }
    }
}

/// The names of a directory's entries, without `.` and `..`.
fn entries(directory: Dir) -> impl Iterator<Item = io::Result<OsString>> {
    directory.filter_map(|entry| match entry {
        Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => None,
        Ok(entry) => Some(Ok(OsString::from_vec(entry.file_name().to_bytes().to_owned()))),
        Err(error) => Some(Err(error.into())),
    })
}

/// A path to an open directory for calls that take no descriptor.
pub(super) fn path_of_descriptor(directory: &Directory) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.descriptor.as_raw_fd()))
}

/// Returns the name if it is a single component that does not lead out of the directory.
fn single(name: &OsStr) -> io::Result<&OsStr> {
    let is_single = !name.is_empty() && name != "." && name != ".." && !name.as_bytes().contains(&b'/');
    if is_single { Ok(name) } else { Err(Errno::INVAL.into()) }
}
