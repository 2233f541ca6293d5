//! The only way to touch anything below the drop directory.
//!
//! Whoever sends files owns a folder there, and may at any moment put a symlink in the place of a directory, create any
//! name, and do so between any two of our steps. So no step here trusts a path that was looked at before:
//!
//! 1. [`DropPath`] says where something lies; it is not a path that any other I/O takes;
//! 2. [`DropDirectory`] opens it, beneath the drop directory and through no symlink ([`resolve`]);
//! 3. [`Directory`] is what was opened, and all further steps are relative to its descriptor, by a single name;
//! 4. what waits there for us lies in [`DropDirectory::own`], where nobody else can write.
//!
//! A descriptor is open for one step and then closed, so there are never more than a few for each file in work.

mod accepting;
mod directory;
mod path;
mod resolve;
mod status;

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

pub use accepting::Accepting;
pub use directory::{Directory, Existing};
pub use path::{DropPath, plain};
pub use status::{FileKind, FileStatus};

use super::files::{self, Result};
use crate::layout::Layout;

/// Directories within each other, below the drop directory. What lies deeper is left where it is.
pub const DEPTH_MAX: usize = 16;

/// The directory in the drop directory that belongs to the platform: mode 0700, on the same file system.
const OWN: &str = ".mysimbdp";

/// The directory that holds all clients' folders. The platform owns it; the folders in it may be anybody's.
#[derive(Debug)]
pub struct DropDirectory {
    root: Directory,
}

impl DropDirectory {
    /// Opens the drop directory. It may itself be a symlink: that is the operator's, and not a client's.
    ///
    /// # Errors
    ///
    /// It does not exist, or is not a directory.
    pub fn open(layout: &Layout) -> Result<Self> {
        Ok(Self { root: Directory::of_platform(&layout.drop_point())? })
    }

    /// The same; makes it if it is missing.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn make(layout: &Layout) -> Result<Self> {
        match Self::open(layout) {
            Err(error) if error.is_not_found() => {}
            opened => return opened,
        }
        files::create_dir_all(layout.root())?;
        Ok(Self { root: Directory::of_platform(layout.root())?.make(OsStr::new(Layout::DROP))? })
    }

    /// The same; makes the platform's own directory in it, too, and warns of what makes it unsafe.
    ///
    /// # Errors
    ///
    /// One of them cannot be made, or the latter is somebody else's.
    pub fn prepare(layout: &Layout) -> Result<Self> {
        let drop_directory = Self::make(layout)?;
        drop_directory.own()?;
        if drop_directory.root.is_shared()? {
            tracing::warn!(
                directory = %layout.drop_point().display(),
                "others may rename everything in the drop directory: it needs the sticky bit"
            );
        }
        Ok(drop_directory)
    }

    /// The drop directory itself.
    pub fn root(&self) -> &Directory {
        &self.root
    }

    /// The directory of the platform's own; makes it if it is missing.
    ///
    /// # Errors
    ///
    /// It cannot be made, belongs to somebody else, or somebody else can write into it.
    pub fn own(&self) -> Result<Directory> {
        self.root.make_own(OsStr::new(OWN)).map(|(own, _)| own)
    }

    /// Whether a path that the watcher of `drop_directory` tells of lies in the directory of the platform's own.
    pub fn is_own(path: &Path, drop_directory: &Path) -> bool {
        path.strip_prefix(drop_directory).is_ok_and(|path| path.starts_with(OWN))
    }

    pub fn directory(&self, path: &DropPath) -> Result<Directory> {
        self.root.below(path)
    }

    /// The directory in which `path` lies.
    pub fn parent(&self, path: &DropPath) -> Result<Directory> {
        self.directory(&path.parent())
    }

    /// The directory, which is made with all that lead to it if they are missing.
    pub fn make_directory(&self, path: &DropPath) -> Result<Directory> {
        match self.directory(path) {
            Err(error) if error.is_not_found() => {}
            found => return found,
        }
        let mut directory = self.directory(&DropPath::root())?;
        for name in path.names() {
            directory = directory.make(name)?;
        }
        Ok(directory)
    }

    /// Opens a file for reading; never waits for a FIFO's writer.
    pub fn open_file(&self, path: &DropPath) -> Result<File> {
        self.parent(path)?.open(path.name())
    }

    /// The status of what lies there itself, not of what a symlink points to.
    pub fn status(&self, path: &DropPath) -> Result<FileStatus> {
        self.parent(path)?.status(path.name())
    }

    pub fn exists(&self, path: &DropPath) -> bool {
        self.status(path).is_ok()
    }

    /// Writes a whole file, durable when this returns, in the place of what has that name. Everybody may read it who may
    /// look into its directory.
    ///
    /// It is put together in the platform's own directory as `temporary`, a name that this writer alone uses, so what a
    /// crash leaves there is replaced when the write is repeated.
    pub fn write(&self, path: &DropPath, temporary: &OsStr, content: &[u8]) -> Result<()> {
        let directory = self.make_directory(&path.parent())?;
        match self.own()?.write(temporary, content, &directory, path.name()) {
            // The client's folder is a mount of its own.
            Err(error) if error.is_cross_device() => {
                directory.write(temporary, content, &directory, path.name())
            }
            written => written,
        }
    }
}
