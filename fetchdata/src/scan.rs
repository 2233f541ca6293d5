//! Walks over the drop directory, one area at a time. A walk is authoritative about what is there, whatever the watch
//! has reported.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use mysimbdp_config::{Client, Config};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::files::FileError;
use mysimbdp_spool::drop_directory::{
    self, DEPTH_MAX, Directory, DropDirectory, DropPath, FileKind, FileStatus,
};

use crate::file_identity::FileIdentity;
use crate::route::{self, Area, Origin};
use crate::watch::Watch;
use crate::{moves, names, set_aside};

/// Each owner has a share of the files of all areas. If there are so many clients that the share would be smaller than
/// this, memory use grows.
const SHARE_MIN: usize = 32;

/// What each file, each directory and each name in a directory costs of an owner's share, roughly in proportion to
/// their times.
const FILE: usize = 64;
const DIRECTORY: usize = 32;
const NAME: usize = 1;

/// What a file system keeps in its own root, if the drop directory is one.
const LOST_AND_FOUND: &str = "lost+found";

/// What a walk saw of one dropped file.
#[derive(Clone, Debug)]
pub(crate) struct FileSnapshot {
    pub(crate) path: DropPath,
    pub(crate) origin: Origin,
    pub(crate) owner: Owner,
    pub(crate) kind: FileKind,
    pub(crate) identity: FileIdentity,
    /// For how long it must not change.
    pub(crate) settle: Duration,
    /// If the client has sentinels: the sentinel of this file, which is present.
    pub(crate) sentinel: Option<DropPath>,
}

/// A lane of a client, or all files without a client: shares and turns are counted by owner. Files of one owner may
/// delay each other, but not those of another owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    /// `None` for all files that belong to no client.
    pub(crate) client: Option<ClientId>,
    pub(crate) lane: Lane,
}

/// What to walk over, and how much of it to scan.
#[derive(Clone, Debug)]
pub(crate) struct WalkPlan {
    pub(crate) area: Area,
    /// Files of each owner.
    pub(crate) share: usize,
    /// Owners that may have more, because others leave it to them.
    pub(crate) more: BTreeMap<Owner, usize>,
    /// Where to begin with an owner's files, if not with the first.
    pub(crate) starts: Paths,
}

/// The result of a walk.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) snapshots: Vec<FileSnapshot>,
    /// Directories and files that could not be scanned.
    pub(crate) faults: Vec<ScanFault>,
    /// Directories beside files, left behind by an earlier version of the platform.
    pub(crate) left_behind: Vec<DropPath>,
    /// Owners with more than their share, with the first path that was not scanned.
    pub(crate) left_out: Paths,
    shares: Shares,
    starts: Paths,
}

/// A path for each owner.
pub(crate) type Paths = BTreeMap<Owner, DropPath>;

/// How much of its share each owner has spent.
#[derive(Debug, Default)]
struct Shares {
    share: usize,
    more: BTreeMap<Owner, usize>,
    spent: BTreeMap<Owner, usize>,
}

/// Something in the drop directory that the walk could not scan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanFault {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0} is nested deeper than {DEPTH_MAX} directories, files in it are not taken")]
    TooDeep(DropPath),
    /// Tried again with every walk.
    #[error("{0} is missing and cannot be created, the client's files are not taken")]
    NoFolder(DropPath, #[source] FileError),
    /// Such files would be read again and again, without end.
    #[error(
        "files in {0} cannot be moved away and are not taken: the platform's user needs write permission there"
    )]
    NotWritable(DropPath),
    #[error("{path} is a {kind} and not a directory, the client's files are not taken{remedy}", remedy = remedy(*.kind))]
    NotAFolder { path: DropPath, kind: FileKind },
    /// It may be a typo, or the client is not loaded yet or no longer.
    #[error("{0} is not the folder of a configured client, its files are not taken")]
    UnknownFolder(DropPath),
}

fn remedy(kind: FileKind) -> &'static str {
    if kind == FileKind::Symlink { "; folder_may_be_symlink allows it" } else { "" }
}

/// Scans everything in an area that is to be ingested, of each owner up to its share. The directories that it scans
/// are watched from then on.
pub(crate) fn walk(config: &Config, watch: Option<&Watch>, plan: &WalkPlan) -> Walk {
    let drop_directory = match DropDirectory::open(&config.layout) {
        Ok(drop_directory) => drop_directory,
        Err(error) => return Walk { faults: vec![error.into()], ..Walk::default() },
    };
    let missing = plan.area.client().and_then(|client| make_folder(client, &drop_directory));
    let mut walk = walk_over(&ScanContext { config, drop_directory, watch }, plan);
    walk.faults.extend(missing);
    walk
}

/// How many of `files` each owner may have: each client in its two lanes and by name, and files of no client.
pub(crate) fn share(files: usize, clients: usize) -> usize {
    (files / (3 * clients + 1)).max(SHARE_MIN)
}

impl Area {
    /// How many owners may have files in it.
    pub(crate) fn owners(&self, clients: usize) -> usize {
        match self {
            Self::Shared => clients + 1,
            Self::Folder(_) => 2,
        }
    }
}

/// What a walk works with.
struct ScanContext<'a> {
    config: &'a Config,
    drop_directory: DropDirectory,
    watch: Option<&'a Watch>,
}

/// Makes a client's folder if it is missing.
fn make_folder(client: &ClientId, drop_directory: &DropDirectory) -> Option<ScanFault> {
    let folder = DropPath::of_client(client, Lane::Live);
    let made = match drop_directory.directory(&folder) {
        Err(error) if error.is_not_found() => {
            drop_directory.open_or_create_directory(&DropPath::of_client(client, Lane::Backfill))
        }
        found => found,
    };
    match made {
        // The walk reports what it is.
        Err(error) if error.is_obstructed() => None,
        made => Some(ScanFault::NoFolder(folder, made.err()?)),
    }
}

fn walk_over(context: &ScanContext, plan: &WalkPlan) -> Walk {
    let shares = Shares { share: plan.share, more: plan.more.clone(), ..Shares::default() };
    let mut walk = Walk { shares, starts: plan.starts.clone(), ..Walk::default() };
    match &plan.area {
        Area::Shared => {
            walk.directory(context, context.drop_directory.root(), &DropPath::root(), &Origin::Shared, 0);
        }
        Area::Folder(client) => walk.folder(context, client),
    }
    walk
}

impl Walk {
    /// Owners with as much as their share, or more.
    pub(crate) fn large(&self) -> BTreeSet<Owner> {
        let spent = self.shares.spent.iter().filter(|(_, spent)| **spent >= self.shares.share * FILE);
        spent.map(|(owner, _)| owner).chain(self.left_out.keys()).cloned().collect()
    }

    fn folder(&mut self, context: &ScanContext, client: &ClientId) {
        let root = context.drop_directory.root();
        let (path, origin) = (DropPath::of_client(client, Lane::Live), Origin::Client(client.clone()));
        match root.status(path.name()) {
            Ok(status) if status.is_directory() => self.below(context, root, &path, &origin, 1),
            Ok(status) => self.not_a_folder(context, path, &origin, status.kind),
            // It could not be made, which is reported.
            Err(error) if error.is_not_found() => {}
            Err(error) => self.fault(error.into()),
        }
    }

    fn directory(
        &mut self,
        context: &ScanContext,
        directory: &Directory,
        path: &DropPath,
        origin: &Origin,
        depth: usize,
    ) {
        let config = context.config;
        if let Some(watch) = context.watch {
            watch.watch_directory(path, &origin.area(), directory);
        }
        let mut names = match directory.names() {
            Ok(names) => names,
            Err(error) => return self.fault(error.into()),
        };
        names.sort_unstable();
        let siblings = Siblings { names: &names, found: OnceCell::new() };
        let (own, is_writable) = (Owner::of(origin), OnceCell::new());
        if origin.client().is_some() {
            self.note_left_behind(&names, path, &own);
        }
        for name in names.iter().filter(|name| !names::is_temporary(name)) {
            // A client's folder is an area of its own.
            if depth == 0 && client_of_folder(config, name).is_some() {
                continue;
            }
            let is_backfill = depth == 1 && origin.client().is_some() && name == Layout::BACKFILL;
            // Thousands of names may follow; to get the status of each again would take too long.
            if *origin != Origin::Shared && !is_backfill && self.left_out.contains_key(&own) {
                continue;
            }
            let within = origin_within(origin, name, depth);
            let owner = if *origin == Origin::Shared { owner_by_name(config, name) } else { own.clone() };
            let path = path.join(name);
            // A directory that belongs to another owner is charged to that owner's share.
            if within == *origin && self.skips(&owner, &path) {
                continue;
            }
            match directory.status(name) {
                Ok(status) if depth == 0 && is_unknown_folder(config, directory, name, &status) => {
                    self.shares.spend(owner, DIRECTORY);
                    self.unknown_folder(directory, path);
                }
                Ok(status) if status.is_directory() => {
                    self.shares.spend(Owner::of(&within), DIRECTORY);
                    self.below(context, directory, &path, &within, depth + 1);
                }
                Ok(status) => {
                    if let Some(snapshot) = snapshot(config, path, name, origin, &owner, &status, &siblings) {
                        self.shares.spend(owner, FILE);
                        if *is_writable.get_or_init(|| directory.is_writable()) {
                            self.snapshots.push(snapshot);
                        }
                    }
                }
                // Its sender has renamed or removed it since the directory was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    self.shares.spend(owner, FILE);
                    self.fault(error.into());
                }
            }
        }
        if is_writable.get() == Some(&false) {
            self.fault(ScanFault::NotWritable(path.clone()));
        }
        // Last, so that a single directory is scanned however many names it has.
        self.shares.spend(own, names.len() * NAME);
    }

    /// Originals that an earlier process has set aside in the directory itself.
    fn note_left_behind(&mut self, names: &[OsString], path: &DropPath, owner: &Owner) {
        for name in names.iter().filter(|name| set_aside::is_beside(name)) {
            self.shares.spend(owner.clone(), FILE);
            self.left_behind.push(path.join(name));
        }
    }

    /// Whether this walk passes over the path: an earlier one has reached it, or its owner's share is spent. Records
    /// the first path that is left out because of the share.
    fn skips(&mut self, owner: &Owner, path: &DropPath) -> bool {
        if self.starts.get(owner).is_some_and(|start| is_before(path, start)) {
            return true;
        }
        let is_spent = self.shares.is_spent(owner);
        if is_spent && !self.left_out.contains_key(owner) {
            self.left_out.insert(owner.clone(), path.clone());
        }
        is_spent
    }

    /// In place of a client's folder: a symlink that the config allows, or something else.
    fn not_a_folder(&mut self, context: &ScanContext, path: DropPath, origin: &Origin, kind: FileKind) {
        match context.drop_directory.directory(&path) {
            Ok(folder) => self.directory(context, &folder, &path, origin, 1),
            Err(error) if error.is_obstructed() => self.fault(ScanFault::NotAFolder { path, kind }),
            Err(error) => self.fault(error.into()),
        }
    }

    fn below(
        &mut self,
        context: &ScanContext,
        parent: &Directory,
        path: &DropPath,
        origin: &Origin,
        depth: usize,
    ) {
        if depth > DEPTH_MAX {
            return self.fault(ScanFault::TooDeep(path.clone()));
        }
        match parent.directory(path.name()) {
            Ok(directory) => self.directory(context, &directory, path, origin, depth),
            // Its sender has put something else there since.
            Err(error) if error.is_not_found() || error.is_obstructed() => {}
            Err(error) => self.fault(error.into()),
        }
    }

    /// Nothing waits in a folder that has only what the platform has made for a client that is no longer configured.
    fn unknown_folder(&mut self, drop_directory: &Directory, path: DropPath) {
        let is_file = |name: &OsStr| !drop_directory::is_receipt(name);
        let waits = || {
            let folder = drop_directory.directory(path.name())?;
            folder.any_name(|name| match name == Layout::BACKFILL {
                true => {
                    folder.directory(name).and_then(|backfill| backfill.any_name(is_file)).unwrap_or(true)
                }
                false => is_file(name),
            })
        };
        if waits().unwrap_or(true) {
            self.fault(ScanFault::UnknownFolder(path));
        }
    }

    fn fault(&mut self, fault: ScanFault) {
        self.faults.push(fault);
    }
}

impl Shares {
    fn is_spent(&self, owner: &Owner) -> bool {
        let files = *self.more.get(owner).unwrap_or(&self.share);
        self.spent.get(owner).is_some_and(|spent| *spent >= files * FILE)
    }

    fn spend(&mut self, owner: Owner, cost: usize) {
        *self.spent.entry(owner).or_default() += cost;
    }
}

impl Owner {
    /// The owner of a directory.
    fn of(origin: &Origin) -> Self {
        Self { client: origin.client().cloned(), lane: route::lane(origin) }
    }
}

/// Whether a walk is done with `path`, and all that is in it, before it comes to `start`.
fn is_before(path: &DropPath, start: &DropPath) -> bool {
    path < start && start.below(path).is_none()
}

/// The owner of a file that is not in a client's folder.
fn owner_by_name(config: &Config, name: &OsStr) -> Owner {
    let client = route::client(config, &Origin::Shared, name).ok().map(|client| client.id.clone());
    Owner { client, lane: route::lane(&Origin::Shared) }
}

/// The names in the same directory, put into a set only if one is looked up: few clients have sentinels.
struct Siblings<'a> {
    names: &'a [OsString],
    found: OnceCell<HashSet<&'a OsStr>>,
}

impl Siblings<'_> {
    fn has(&self, name: &OsStr) -> bool {
        self.found.get_or_init(|| self.names.iter().map(OsString::as_os_str).collect()).contains(name)
    }
}

/// Whether it is a folder, or a symlink named like one, that belongs to no client. Clients' globs are not applied to
/// files in such a folder.
fn is_unknown_folder(config: &Config, drop_directory: &Directory, name: &OsStr, status: &FileStatus) -> bool {
    let is_folder = match status.kind {
        FileKind::Directory => name != LOST_AND_FOUND && !moves::is_returned(drop_directory, name),
        FileKind::Symlink => name.to_str().is_some_and(|name| name.parse::<ClientId>().is_ok()),
        _ => false,
    };
    is_folder && client_of_folder(config, name).is_none()
}

/// The client whose folder has this name, directly in the drop directory.
fn client_of_folder(config: &Config, name: &OsStr) -> Option<ClientId> {
    name.to_str()?.parse().ok().filter(|id| config.client(id).is_some())
}

/// The origin of files in the directory `name` of `origin`.
fn origin_within(origin: &Origin, name: &OsStr, depth: usize) -> Origin {
    match origin {
        Origin::Client(id) if depth == 1 && name == Layout::BACKFILL => Origin::Backfill(id.clone()),
        origin => origin.clone(),
    }
}

/// A snapshot of one file, unless it is a receipt, a sentinel, or a file whose sentinel has not come.
fn snapshot(
    config: &Config,
    path: DropPath,
    name: &OsStr,
    origin: &Origin,
    owner: &Owner,
    status: &FileStatus,
    siblings: &Siblings,
) -> Option<FileSnapshot> {
    // Also a receipt written before the client's receipts were switched off, or moved from another client's folder.
    if drop_directory::is_receipt(name) || is_sentinel(config, origin, name) {
        return None;
    }
    let client = owner.client.as_ref().and_then(|id| config.client(id));
    let sentinel = match client.and_then(sentinel_of) {
        Some(suffix) => {
            let sentinel = with_suffix(name, suffix);
            if !siblings.has(&sentinel) {
                return None;
            }
            Some(path.parent().join(&sentinel))
        }
        None => None,
    };
    Some(FileSnapshot {
        path,
        origin: origin.clone(),
        owner: owner.clone(),
        kind: status.kind,
        identity: FileIdentity::of(status),
        settle: client.map_or_else(|| config.settings.fetchdata.settle.duration(), |client| client.settle),
        sentinel,
    })
}

/// Whether the name is that of another file, followed by its client's suffix.
fn is_sentinel(config: &Config, origin: &Origin, name: &OsStr) -> bool {
    let of = |client: &Client| {
        let suffix = sentinel_of(client)?;
        let base = name.as_bytes().strip_suffix(suffix.as_bytes()).filter(|base| !base.is_empty())?;
        route::client(config, origin, OsStr::from_bytes(base)).ok().filter(|owner| owner.id == client.id)
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

#[cfg(test)]
mod tests;
