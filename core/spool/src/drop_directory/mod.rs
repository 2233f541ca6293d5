//! The only access to files below the drop directory.
//!
//! Senders own a folder there. At any moment, also between any two of our steps, they may replace a directory by a symlink,
//! or create any name. So no step here relies on a path that was checked before:
//!
//! 1. [`DropPath`] is a path below the drop directory; no other I/O accepts it;
//! 2. [`DropDirectory`] opens it, beneath the drop directory and through no symlink ([`resolve`]);
//! 3. [`Directory`] is the open directory; all further steps are relative to its descriptor, by a single name;
//! 4. the platform's own files there are in [`DropDirectory::platform_directory`], where nobody else can write.
//!
//! A descriptor is open for one step and then closed, so there are never more than a few for each file that is being
//! processed.

mod accepted_clients;
mod directory;
mod events;
mod names;
mod path;
mod receipt;
mod resolve;
mod status;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::sync::Arc;

pub use accepted_clients::AcceptedClients;
pub use directory::{Directory, Existing};
pub use events::{DirectoryEvent, EventKinds, Events, WatchId};
pub use names::{TEMPORARY_SUFFIXES, is_temporary};
pub use path::{DropPath, plain};
pub use receipt::{FileReceipt, is_receipt};
pub use status::{FileKind, FileStatus};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::files::{self, Result};

/// Maximum nesting of directories below the drop directory. Files that are deeper are left where they are.
pub const DEPTH_MAX: usize = 16;

/// The directory in the drop directory that belongs to the platform: mode 0700, on the same file system.
const PLATFORM_DIRECTORY: &str = ".mysimbdp";

/// The directory that holds all clients' folders. The platform owns it; the folders in it may be anybody's.
#[derive(Debug)]
pub struct DropDirectory {
    root: Directory,
    /// The clients whose folder may be a symlink.
    linked: Arc<BTreeSet<ClientId>>,
}

impl DropDirectory {
    /// Opens the drop directory. It may itself be a symlink: that one belongs to the operator, not to a client.
    ///
    /// # Errors
    ///
    /// It does not exist, or is not a directory.
    pub fn open(layout: &Layout) -> Result<Self> {
        Ok(Self::of(Directory::open_platform(&layout.drop_directory())?, layout))
    }

    /// Like [`DropDirectory::open`]; creates it if it is missing.
    ///
    /// # Errors
    ///
    /// It cannot be created.
    pub fn open_or_create(layout: &Layout) -> Result<Self> {
        match Self::open(layout) {
            Err(error) if error.is_not_found() => {}
            opened => return opened,
        }
        files::create_dir_all(layout.root())?;
        Ok(Self::of(
            Directory::open_platform(layout.root())?.open_or_create(OsStr::new(Layout::DROP))?,
            layout,
        ))
    }

    fn of(root: Directory, layout: &Layout) -> Self {
        Self { root, linked: Arc::clone(layout.linked()) }
    }

    /// Like [`DropDirectory::open_or_create`]; also creates the platform's own directory in it, and warns of unsafe permissions.
    ///
    /// # Errors
    ///
    /// One of them cannot be created, or the latter belongs to somebody else.
    pub fn prepare(layout: &Layout) -> Result<Self> {
        let drop_directory = Self::open_or_create(layout)?;
        drop_directory.platform_directory()?;
        if drop_directory.root.is_shared()? {
            tracing::warn!(
                directory = %layout.drop_directory().display(),
                "other users can rename everything in the drop directory, set its sticky bit"
            );
        }
        Ok(drop_directory)
    }

    /// The drop directory itself.
    pub fn root(&self) -> &Directory {
        &self.root
    }

    /// Opens the platform's own directory; creates it if it is missing.
    ///
    /// # Errors
    ///
    /// It cannot be created, belongs to somebody else, or somebody else can write into it.
    pub fn platform_directory(&self) -> Result<Directory> {
        self.root.open_or_create_private(OsStr::new(PLATFORM_DIRECTORY)).map(|(directory, _)| directory)
    }

    pub fn directory(&self, path: &DropPath) -> Result<Directory> {
        match self.linked_folder(path)? {
            Some((folder, below)) => folder.below(&below),
            None => self.root.below(path),
        }
    }

    /// If the path leads through a client's folder that is a symlink which the config allows: that folder, and the path from
    /// there on.
    ///
    /// Only the operator can change entries directly in the drop directory, so the symlink that is followed here is not an
    /// attacker's. Everything beyond it is opened like any other path.
    fn linked_folder(&self, path: &DropPath) -> Result<Option<(Directory, DropPath)>> {
        let Some(folder) = path.names().next() else { return Ok(None) };
        let is_linked = || self.root.status(folder).is_ok_and(|status| status.kind == FileKind::Symlink);
        if !self.linked.iter().any(|client| folder == client.as_str()) || !is_linked() {
            return Ok(None);
        }
        let below = path.below(&DropPath::root().join(folder)).unwrap_or_else(DropPath::root);
        Ok(Some((self.root.follow(folder)?, below)))
    }

    /// Opens the directory that contains `path`.
    pub fn parent(&self, path: &DropPath) -> Result<Directory> {
        self.directory(&path.parent())
    }

    /// Opens the directory; creates it and its parents if they are missing.
    pub fn open_or_create_directory(&self, path: &DropPath) -> Result<Directory> {
        match self.directory(path) {
            Err(error) if error.is_not_found() => {}
            found => return found,
        }
        let (mut directory, below) = match self.linked_folder(path)? {
            Some(linked) => linked,
            None => (self.directory(&DropPath::root())?, path.clone()),
        };
        for name in below.names() {
            directory = directory.open_or_create(name)?;
        }
        Ok(directory)
    }

    /// Opens a file for reading; never waits for a FIFO's writer.
    pub fn open_file(&self, path: &DropPath) -> Result<File> {
        self.parent(path)?.open(path.name())
    }

    /// The status of the entry itself; symlinks are not followed.
    pub fn status(&self, path: &DropPath) -> Result<FileStatus> {
        self.parent(path)?.status(path.name())
    }

    pub fn exists(&self, path: &DropPath) -> bool {
        self.status(path).is_ok()
    }

    /// Writes a whole file, in place of an existing one; it is durable when this returns. Everybody who may read its directory
    /// may read it.
    ///
    /// Until it is complete, it is in the platform's own directory as `temporary`, a name that only this writer uses. So a
    /// leftover of a crash is replaced when the write is repeated.
    pub fn write(&self, path: &DropPath, temporary: &OsStr, content: &[u8]) -> Result<()> {
        let directory = self.open_or_create_directory(&path.parent())?;
        match self.platform_directory()?.write(temporary, content, &directory, path.name()) {
            // The client's folder is a separate mount.
            Err(error) if error.is_cross_device() => {
                directory.write(temporary, content, &directory, path.name())
            }
            written => written,
        }
    }
}
