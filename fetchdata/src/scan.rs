//! Walks the drop point: the truth about what lies there, whatever the watcher has said.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::{Client, Config};
pub(crate) use mysimbdp_core::io::drop_directory::FileKind as Kind;
use mysimbdp_core::io::drop_directory::{DEPTH_MAX, Directory, DropDirectory, DropPath, FileStatus};
use mysimbdp_core::io::files::FileError;
use mysimbdp_core::layout::Layout;

use crate::names;
use crate::route::{self, Place};

/// Files of one walk, which bounds the memory: what lies beyond is seen when these have gone.
const LOOKS_MAX: usize = 100_000;

/// The suffix of the receipts that the platform itself puts beside the senders' files.
const RECEIPT_SUFFIX: &[u8] = b".receipt.json";

/// What was seen of one dropped file.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) path: DropPath,
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) stamp: Stamp,
    /// For how long it must not change.
    pub(crate) settle: Duration,
    /// Where the client has sentinels: this file's, which is there.
    pub(crate) sentinel: Option<DropPath>,
}

/// What changes whenever the content does, as far as metadata can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) bytes: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

/// A walk's result.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) looks: Vec<Look>,
    /// Directories and files that could not be looked at.
    pub(crate) faults: Vec<ScanFault>,
}

/// Something at the drop point that the walk could not look at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanFault {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0} lies deeper than {DEPTH_MAX} directories, files in it are not taken")]
    TooDeep(DropPath),
    #[error(
        "{0} is a symlink where a client's folder belongs, nothing behind it is taken; a mount does what it is meant to"
    )]
    FolderIsSymlink(DropPath),
}

/// Looks at everything in the drop directory that is meant to be taken.
pub(crate) fn walk(config: &Config) -> Walk {
    let mut walk = Walk::default();
    match DropDirectory::open(&config.layout) {
        Ok(found) => walk.directory(config, found.root(), &DropPath::root(), &Place::Shared, 0),
        Err(error) => walk.faults.push(error.into()),
    }
    walk
}

impl Walk {
    fn directory(
        &mut self,
        config: &Config,
        directory: &Directory,
        path: &DropPath,
        place: &Place,
        depth: usize,
    ) {
        let mut names = match directory.names() {
            Ok(names) => names,
            Err(error) => return self.faults.push(error.into()),
        };
        names.sort_unstable();
        let all: HashSet<&OsStr> = names.iter().map(OsString::as_os_str).collect();
        for name in names.iter().filter(|name| !names::is_temporary(name)) {
            if self.looks.len() >= LOOKS_MAX {
                return;
            }
            let path = path.join(name);
            match directory.status(name) {
                Ok(status) if status.is_directory() => {
                    self.below(
                        config,
                        directory,
                        &path,
                        &place_within(config, place, name, depth),
                        depth + 1,
                    );
                }
                Ok(status) if depth == 0 && is_symlinked_folder(config, name, &status) => {
                    self.faults.push(ScanFault::FolderIsSymlink(path));
                }
                Ok(status) => self.looks.extend(look(config, path, name, place, &status, &all)),
                // Its sender has renamed or removed it since the directory was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) => self.faults.push(error.into()),
            }
        }
    }

    fn below(&mut self, config: &Config, parent: &Directory, path: &DropPath, place: &Place, depth: usize) {
        if depth > DEPTH_MAX {
            return self.faults.push(ScanFault::TooDeep(path.clone()));
        }
        match parent.directory(path.name()) {
            Ok(directory) => self.directory(config, &directory, path, place, depth),
            // Its sender has put something else there since.
            Err(error) if error.is_not_found() || error.is_obstructed() => {}
            Err(error) => self.faults.push(error.into()),
        }
    }
}

/// Whether an operator has put a symlink where the folder of a client belongs.
fn is_symlinked_folder(config: &Config, name: &OsStr, status: &FileStatus) -> bool {
    status.kind == Kind::Symlink && client_of_folder(config, name).is_some()
}

/// The client whose folder this name stands for, directly in the drop directory.
fn client_of_folder(config: &Config, name: &OsStr) -> Option<ClientId> {
    name.to_str()?.parse().ok().filter(|id| config.client(id).is_some())
}

/// The place of what lies in the directory `name` of `place`.
fn place_within(config: &Config, place: &Place, name: &OsStr, depth: usize) -> Place {
    match place {
        Place::Shared if depth == 0 => client_of_folder(config, name).map_or(Place::Shared, Place::Client),
        Place::Client(id) if depth == 1 && name == Layout::BACKFILL => Place::Backfill(id.clone()),
        place => place.clone(),
    }
}

/// A look at one file, unless it is a receipt, a sentinel, or a file whose sentinel has not come.
fn look(
    config: &Config,
    path: DropPath,
    name: &OsStr,
    place: &Place,
    status: &FileStatus,
    beside: &HashSet<&OsStr>,
) -> Option<Look> {
    if is_receipt(config, place, name) || is_sentinel(config, place, name) {
        return None;
    }
    let client = route::client(config, place, name).ok();
    let sentinel = match client.and_then(sentinel_of) {
        Some(suffix) => {
            let sentinel = with_suffix(name, suffix);
            if !beside.contains(sentinel.as_os_str()) {
                return None;
            }
            Some(path.parent().join(&sentinel))
        }
        None => None,
    };
    Some(Look {
        path,
        place: place.clone(),
        kind: status.kind,
        stamp: Stamp::of(status),
        settle: client.map_or_else(|| config.settings.fetchdata.settle.duration(), |client| client.settle),
        sentinel,
    })
}

fn is_receipt(config: &Config, place: &Place, name: &OsStr) -> bool {
    name.as_bytes().ends_with(RECEIPT_SUFFIX)
        && match place {
            Place::Client(id) | Place::Backfill(id) => {
                config.client(id).is_some_and(|client| client.settings.receipt)
            }
            Place::Shared => config.clients.values().any(|client| client.settings.receipt),
        }
}

/// Whether the name is that of another file with its client's suffix behind it.
fn is_sentinel(config: &Config, place: &Place, name: &OsStr) -> bool {
    let of = |client: &Client| {
        let suffix = sentinel_of(client)?;
        let base = name.as_bytes().strip_suffix(suffix.as_bytes()).filter(|base| !base.is_empty())?;
        route::client(config, place, OsStr::from_bytes(base)).ok().filter(|owner| owner.id == client.id)
    };
    config.clients.values().any(|client| of(client).is_some())
}

fn sentinel_of(client: &Client) -> Option<&str> {
    client.settings.files.sentinel.as_deref()
}

fn with_suffix(name: &OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

impl Stamp {
    pub(crate) fn of(status: &FileStatus) -> Self {
        let FileStatus { device, inode, bytes, modified, changed, .. } = *status;
        Self { device, inode, bytes, modified, changed }
    }

    /// Whether it is the same file with the same content, perhaps under another name: a rename changes `changed`.
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        Self { changed: other.changed, ..*self } == *other
    }
}
