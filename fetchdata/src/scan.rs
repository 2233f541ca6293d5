//! Walks the drop point: the truth about what lies there, whatever the watcher has said.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::{Client, Config};
use mysimbdp_core::io::files::{self, FileError, Metadata};
use mysimbdp_core::layout::Layout;

use crate::names;
use crate::route::{self, Place};

/// Directories within each other. What lies deeper is left where it is, with a warning.
const DEPTH_MAX: usize = 16;

/// Files of one walk, which bounds the memory: what lies beyond is seen when these have gone.
const LOOKS_MAX: usize = 100_000;

/// The suffix of the receipts that the platform itself puts beside the senders' files.
const RECEIPT_SUFFIX: &[u8] = b".receipt.json";

/// What was seen of one dropped file.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) path: PathBuf,
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) stamp: Stamp,
    /// For how long it must not change.
    pub(crate) settle: Duration,
    /// Where the client has sentinels: this file's, which is there.
    pub(crate) sentinel: Option<PathBuf>,
}

/// What something at the drop point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Symlink,
    Fifo,
    Socket,
    Device,
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
    #[error("{} lies deeper than {DEPTH_MAX} directories, files in it are not taken", names::plain(.0.as_os_str()))]
    TooDeep(PathBuf),
}

/// Looks at everything in the drop point that is meant to be taken.
pub(crate) fn walk(config: &Config) -> Walk {
    let mut walk = Walk::default();
    let root = config.layout.drop_point();
    walk.directory(config, &root, &Place::Shared, 0);
    walk
}

impl Walk {
    fn directory(&mut self, config: &Config, directory: &Path, place: &Place, depth: usize) {
        if depth > DEPTH_MAX {
            self.faults.push(ScanFault::TooDeep(directory.to_owned()));
            return;
        }
        let paths = match files::list(directory) {
            Ok(paths) => paths,
            Err(error) => return self.faults.push(error.into()),
        };
        let all: HashSet<&OsStr> = paths.iter().filter_map(|path| path.file_name()).collect();
        for path in &paths {
            let Some(name) = path.file_name().filter(|name| !names::is_temporary(name)) else { continue };
            if self.looks.len() >= LOOKS_MAX {
                return;
            }
            match files::metadata(path) {
                Ok(metadata) if metadata.is_dir() => {
                    self.directory(config, path, &place_within(config, place, name, depth), depth + 1);
                }
                Ok(metadata) => self.looks.extend(look(config, path, name, place, &metadata, &all)),
                // Its sender has renamed or removed it since the directory was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) => self.faults.push(error.into()),
            }
        }
    }
}

/// The place of what lies in the directory `name` of `place`.
fn place_within(config: &Config, place: &Place, name: &OsStr, depth: usize) -> Place {
    let name = name.to_str().unwrap_or_default();
    match place {
        Place::Shared if depth == 0 => match name.parse::<ClientId>() {
            Ok(id) if config.client(&id).is_some() => Place::Client(id),
            _ => Place::Shared,
        },
        Place::Client(id) if depth == 1 && name == Layout::BACKFILL => Place::Backfill(id.clone()),
        place => place.clone(),
    }
}

/// A look at one file, unless it is a receipt, a sentinel, or a file whose sentinel has not come.
fn look(
    config: &Config,
    path: &Path,
    name: &OsStr,
    place: &Place,
    metadata: &Metadata,
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
            Some(path.with_file_name(sentinel))
        }
        None => None,
    };
    Some(Look {
        path: path.to_owned(),
        place: place.clone(),
        kind: Kind::of(metadata),
        stamp: Stamp::of(metadata),
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

fn with_suffix(name: &OsStr, suffix: &str) -> std::ffi::OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

impl Kind {
    fn of(metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        if kind.is_file() {
            Self::File
        } else if kind.is_symlink() {
            Self::Symlink
        } else if kind.is_fifo() {
            Self::Fifo
        } else if kind.is_socket() {
            Self::Socket
        } else {
            Self::Device
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "regular file",
            Self::Symlink => "symlink",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::Device => "device",
        })
    }
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether it is the same file with the same content, perhaps under another name: a rename changes `changed`.
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        Self { changed: other.changed, ..*self } == *other
    }
}
