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

pub use accepting::Accepting;
pub use directory::{Directory, Existing};
pub use events::{Event, EventKinds, Events, WatchId};
pub use names::{TEMPORARY_SUFFIXES, is_temporary};
pub use path::{DropPath, plain};
pub use receipt::{FileReceipt, is_receipt};
pub use status::{FileKind, FileStatus};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::files::{self, Result};

/// Directories within each other, below the drop directory. What lies deeper is left where it is.
pub const DEPTH_MAX: usize = 16;

/// The directory in the drop directory that belongs to the platform: mode 0700, on the same file system.
const OWN: &str = ".mysimbdp";

/// The directory that holds all clients' folders. The platform owns it; the folders in it may be anybody's.
#[derive(Debug)]
pub struct DropDirectory {
    root: Directory,
    /// Whose folder may be a symlink.
    linked: Arc<BTreeSet<ClientId>>,
}

impl DropDirectory {
    /// Opens the drop directory. It may itself be a symlink: that is the operator's, and not a client's.
    ///
    /// # Errors
    ///
    /// It does not exist, or is not a directory.
    pub fn open(layout: &Layout) -> Result<Self> {
        Ok(Self::of(Directory::of_platform(&layout.drop_directory())?, layout))
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
        Ok(Self::of(Directory::of_platform(layout.root())?.make(OsStr::new(Layout::DROP))?, layout))
    }

    fn of(root: Directory, layout: &Layout) -> Self {
        Self { root, linked: Arc::clone(layout.linked()) }
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
                directory = %layout.drop_directory().display(),
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

    pub fn directory(&self, path: &DropPath) -> Result<Directory> {
        match self.linked_folder(path)? {
            Some((folder, below)) => folder.below(&below),
            None => self.root.below(path),
        }
    }

    /// The client's folder that the path leads through if it is a symlink which the config allows, and the path from there.
    ///
    /// Nobody but the operator can change what lies directly in the drop directory, so it is no enemy's symlink that is
    /// followed here; what lies beyond it is opened as everything else is.
    fn linked_folder(&self, path: &DropPath) -> Result<Option<(Directory, DropPath)>> {
        let Some(folder) = path.names().next() else { return Ok(None) };
        let is_linked = || self.root.status(folder).is_ok_and(|status| status.kind == FileKind::Symlink);
        if !self.linked.iter().any(|client| folder == client.as_str()) || !is_linked() {
            return Ok(None);
        }
        let below = path.below(&DropPath::root().join(folder)).unwrap_or_else(DropPath::root);
        Ok(Some((self.root.follow(folder)?, below)))
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
        let (mut directory, below) = match self.linked_folder(path)? {
            Some(linked) => linked,
            None => (self.directory(&DropPath::root())?, path.clone()),
        };
        for name in below.names() {
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
