//! Walks over the drop point, one area at a time: the truth about what lies there, whatever the watcher has said.

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

use crate::route::{self, Area, Place};
use crate::stamp::Stamp;
use crate::watch::Watch;
use crate::{moves, names, set_aside};

/// Of the files of all areas each owner has a share. With so many clients that it would be smaller, the memory grows.
const SHARE_MIN: usize = 32;

/// What a walk spends of an owner's share for each file, each directory and each name in a directory, about as their times are.
const FILE: usize = 64;
const DIRECTORY: usize = 32;
const NAME: usize = 1;

/// What a file system keeps in its own root, if the drop directory is one.
const LOST_AND_FOUND: &str = "lost+found";

/// What was seen of one dropped file.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) path: DropPath,
    pub(crate) place: Place,
    pub(crate) owner: Owner,
    pub(crate) kind: FileKind,
    pub(crate) stamp: Stamp,
    /// For how long it must not change.
    pub(crate) settle: Duration,
    /// Where the client has sentinels: this file's, which is there.
    pub(crate) sentinel: Option<DropPath>,
}

/// Who has to wait for whom: files of an owner may delay each other, but no other owner's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    /// `None` for all that is no client's.
    pub(crate) client: Option<ClientId>,
    pub(crate) lane: Lane,
}

/// What to walk over, and how much of it to look at.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) area: Area,
    /// Files of each owner.
    pub(crate) share: usize,
    /// Owners who may have more, as others leave it to them.
    pub(crate) more: BTreeMap<Owner, usize>,
    /// Where to begin with an owner's files, if not with the first.
    pub(crate) starts: Paths,
}

/// A walk's result.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) looks: Vec<Look>,
    /// Directories and files that could not be looked at.
    pub(crate) faults: Vec<ScanFault>,
    /// Directories beside files that an earlier version of the platform has left there.
    pub(crate) left: Vec<DropPath>,
    /// Owners of more than their share, with the first path that was not looked at.
    pub(crate) cut_off: Paths,
    shares: Shares,
    starts: Paths,
}

/// A path for each owner.
pub(crate) type Paths = BTreeMap<Owner, DropPath>;

/// How much each owner has spent of its share.
#[derive(Debug, Default)]
struct Shares {
    share: usize,
    more: BTreeMap<Owner, usize>,
    spent: BTreeMap<Owner, usize>,
}

/// Something at the drop point that the walk could not look at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanFault {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0} lies deeper than {DEPTH_MAX} directories, files in it are not taken")]
    TooDeep(DropPath),
    /// It is tried again with every walk.
    #[error("{0} is missing and cannot be made, the client's files are not taken")]
    NoFolder(DropPath, #[source] FileError),
    /// So they could be read again and again, and never be done with.
    #[error("files in {0} cannot be moved away and are not taken: let the platform's user write there")]
    NotWritable(DropPath),
    #[error("{path} is a {kind} and not a directory, the client's files are not taken{remedy}", remedy = remedy(*.kind))]
    NotAFolder { path: DropPath, kind: FileKind },
    /// It may be a typing error, or the client is not loaded yet or any more.
    #[error("{0} is not the folder of a configured client, what is in it waits there")]
    UnknownFolder(DropPath),
}

fn remedy(kind: FileKind) -> &'static str {
    if kind == FileKind::Symlink { "; folder_may_be_symlink allows it" } else { "" }
}

/// Looks at everything in an area that is meant to be taken: of each owner as much as its share. What it looks at is watched
/// from then on.
pub(crate) fn walk(config: &Config, watch: Option<&Watch>, plan: &Plan) -> Walk {
    let drop_directory = match DropDirectory::open(&config.layout) {
        Ok(drop_directory) => drop_directory,
        Err(error) => return Walk { faults: vec![error.into()], ..Walk::default() },
    };
    let missing = plan.area.client().and_then(|client| make_folder(client, &drop_directory));
    let mut walk = walk_over(&Ground { config, drop_directory, watch }, plan);
    walk.faults.extend(missing);
    walk
}

/// How many of `files` each owner may have: each client in two lanes and by name, and what is no client's.
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

/// What is walked over.
struct Ground<'a> {
    config: &'a Config,
    drop_directory: DropDirectory,
    watch: Option<&'a Watch>,
}

/// Makes a client's folder if it is missing.
fn make_folder(client: &ClientId, drop_directory: &DropDirectory) -> Option<ScanFault> {
    let folder = DropPath::of_client(client, Lane::Live);
    let made = match drop_directory.directory(&folder) {
        Err(error) if error.is_not_found() => {
            drop_directory.make_directory(&DropPath::of_client(client, Lane::Backfill))
        }
        found => found,
    };
    match made {
        // The walk says what it is.
        Err(error) if error.is_obstructed() => None,
        made => Some(ScanFault::NoFolder(folder, made.err()?)),
    }
}

fn walk_over(ground: &Ground, plan: &Plan) -> Walk {
    let shares = Shares { share: plan.share, more: plan.more.clone(), ..Shares::default() };
    let mut walk = Walk { shares, starts: plan.starts.clone(), ..Walk::default() };
    match &plan.area {
        Area::Shared => {
            walk.directory(ground, ground.drop_directory.root(), &DropPath::root(), &Place::Shared, 0);
        }
        Area::Folder(client) => walk.folder(ground, client),
    }
    walk
}

impl Walk {
    /// Owners with as much as their share, or more.
    pub(crate) fn large(&self) -> BTreeSet<Owner> {
        let spent = self.shares.spent.iter().filter(|(_, spent)| **spent >= self.shares.share * FILE);
        spent.map(|(owner, _)| owner).chain(self.cut_off.keys()).cloned().collect()
    }

    fn folder(&mut self, ground: &Ground, client: &ClientId) {
        let root = ground.drop_directory.root();
        let (path, place) = (DropPath::of_client(client, Lane::Live), Place::Client(client.clone()));
        match root.status(path.name()) {
            Ok(status) if status.is_directory() => self.below(ground, root, &path, &place, 1),
            Ok(status) => self.not_a_folder(ground, path, &place, status.kind),
            // It could not be made, which is told.
            Err(error) if error.is_not_found() => {}
            Err(error) => self.fault(error.into()),
        }
    }

    fn directory(
        &mut self,
        ground: &Ground,
        directory: &Directory,
        path: &DropPath,
        place: &Place,
        depth: usize,
    ) {
        let config = ground.config;
        if let Some(watch) = ground.watch {
            watch.cover(path, &place.area(), directory);
        }
        let mut names = match directory.names() {
            Ok(names) => names,
            Err(error) => return self.fault(error.into()),
        };
        names.sort_unstable();
        let beside = Beside { names: &names, found: OnceCell::new() };
        let own = Owner::of(place);
        let is_writable = OnceCell::new();
        for name in names.iter().filter(|name| place.client().is_some() && set_aside::is_beside(name)) {
            self.shares.spend(own.clone(), FILE);
            self.left.push(path.join(name));
        }
        for name in names.iter().filter(|name| !names::is_temporary(name)) {
            // It is an area of its own.
            if depth == 0 && client_of_folder(config, name).is_some() {
                continue;
            }
            let is_backfill = depth == 1 && place.client().is_some() && name == Layout::BACKFILL;
            // Thousands of names may follow, which is no time to look at each of them again.
            if *place != Place::Shared && !is_backfill && self.cut_off.contains_key(&own) {
                continue;
            }
            let within = place_within(place, name, depth);
            let owner = if *place == Place::Shared { owner_by_name(config, name) } else { own.clone() };
            let path = path.join(name);
            // What lies within for another owner has a share of its own.
            if within == *place {
                if self.starts.get(&owner).is_some_and(|start| is_before(&path, start)) {
                    continue;
                }
                if self.shares.is_spent(&owner) {
                    self.cut_off.entry(owner).or_insert(path);
                    continue;
                }
            }
            match directory.status(name) {
                Ok(status) if depth == 0 && is_unknown_folder(config, directory, name, &status) => {
                    self.shares.spend(owner, DIRECTORY);
                    self.unknown_folder(directory, path);
                }
                Ok(status) if status.is_directory() => {
                    self.shares.spend(Owner::of(&within), DIRECTORY);
                    self.below(ground, directory, &path, &within, depth + 1);
                }
                Ok(status) => {
                    if let Some(look) = look(config, path, name, place, &owner, &status, &beside) {
                        self.shares.spend(owner, FILE);
                        if *is_writable.get_or_init(|| directory.is_writable()) {
                            self.looks.push(look);
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
        // Last, so that a single directory is looked at however many names are in it.
        self.shares.spend(own, names.len() * NAME);
    }

    /// What stands where a client's folder belongs: a symlink that the config allows, or something else.
    fn not_a_folder(&mut self, ground: &Ground, path: DropPath, place: &Place, kind: FileKind) {
        match ground.drop_directory.directory(&path) {
            Ok(folder) => self.directory(ground, &folder, &path, place, 1),
            Err(error) if error.is_obstructed() => self.fault(ScanFault::NotAFolder { path, kind }),
            Err(error) => self.fault(error.into()),
        }
    }

    fn below(&mut self, ground: &Ground, parent: &Directory, path: &DropPath, place: &Place, depth: usize) {
        if depth > DEPTH_MAX {
            return self.fault(ScanFault::TooDeep(path.clone()));
        }
        match parent.directory(path.name()) {
            Ok(directory) => self.directory(ground, &directory, path, place, depth),
            // Its sender has put something else there since.
            Err(error) if error.is_not_found() || error.is_obstructed() => {}
            Err(error) => self.fault(error.into()),
        }
    }

    /// Nothing waits in one that has nothing but what the platform has made for a client who is gone.
    fn unknown_folder(&mut self, drop_directory: &Directory, path: DropPath) {
        let is_file = |name: &OsStr| !drop_directory::is_receipt(name);
        let waits = || {
            let folder = drop_directory.directory(path.name())?;
            folder.has(|name| match name == Layout::BACKFILL {
                true => folder.directory(name).and_then(|backfill| backfill.has(is_file)).unwrap_or(true),
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
    fn of(place: &Place) -> Self {
        Self { client: place.client().cloned(), lane: route::lane(place) }
    }
}

/// Whether a walk has done with `path`, and all that is in it, before it comes to `start`.
fn is_before(path: &DropPath, start: &DropPath) -> bool {
    path < start && start.below(path).is_none()
}

/// The owner of a file that lies in no client's folder.
fn owner_by_name(config: &Config, name: &OsStr) -> Owner {
    let client = route::client(config, &Place::Shared, name).ok().map(|client| client.id.clone());
    Owner { client, lane: route::lane(&Place::Shared) }
}

/// What lies in the same directory, put in order only if a file is looked for there: few clients have sentinels.
struct Beside<'a> {
    names: &'a [OsString],
    found: OnceCell<HashSet<&'a OsStr>>,
}

impl Beside<'_> {
    fn has(&self, name: &OsStr) -> bool {
        self.found.get_or_init(|| self.names.iter().map(OsString::as_os_str).collect()).contains(name)
    }
}

/// Whether it is a folder, or a symlink that is named like one, and yet no client's. Whose its files are is not for the
/// globs of others to say.
fn is_unknown_folder(config: &Config, drop_directory: &Directory, name: &OsStr, status: &FileStatus) -> bool {
    let is_folder = match status.kind {
        FileKind::Directory => name != LOST_AND_FOUND && !moves::is_returned(drop_directory, name),
        FileKind::Symlink => name.to_str().is_some_and(|name| name.parse::<ClientId>().is_ok()),
        _ => false,
    };
    is_folder && client_of_folder(config, name).is_none()
}

/// The client whose folder this name stands for, directly in the drop directory.
fn client_of_folder(config: &Config, name: &OsStr) -> Option<ClientId> {
    name.to_str()?.parse().ok().filter(|id| config.client(id).is_some())
}

/// The place of what lies in the directory `name` of `place`.
fn place_within(place: &Place, name: &OsStr, depth: usize) -> Place {
    match place {
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
    owner: &Owner,
    status: &FileStatus,
    beside: &Beside,
) -> Option<Look> {
    // One that has been written before the client's receipts were switched off, or that was moved from another's folder, too.
    if drop_directory::is_receipt(name) || is_sentinel(config, place, name) {
        return None;
    }
    let client = owner.client.as_ref().and_then(|id| config.client(id));
    let sentinel = match client.and_then(sentinel_of) {
        Some(suffix) => {
            let sentinel = with_suffix(name, suffix);
            if !beside.has(&sentinel) {
                return None;
            }
            Some(path.parent().join(&sentinel))
        }
        None => None,
    };
    Some(Look {
        path,
        place: place.clone(),
        owner: owner.clone(),
        kind: status.kind,
        stamp: Stamp::of(status),
        settle: client.map_or_else(|| config.settings.fetchdata.settle.duration(), |client| client.settle),
        sentinel,
    })
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

#[cfg(test)]
mod tests;
