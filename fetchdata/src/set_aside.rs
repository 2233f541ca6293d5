//! Puts originals out of the scanner's sight while their copies become visible.
//!
//! They wait in the platform's own directory in the drop directory, each below its *key* and under the path that it had:
//! `client-input-directory/.mysimbdp/<key>/client1/a.csv`. The key is the ingestion, or the name of the discarded
//! directory. If a client's folder is a mount of its own, a file in it waits in `.taken-<key>` beside where it lay, as all
//! did in earlier versions.

use std::ffi::OsStr;
use std::time::SystemTime;

use mysimbdp_core::failpoint;
use mysimbdp_core::io::drop_directory::{DEPTH_MAX, Directory, DropDirectory, DropPath};
use mysimbdp_core::io::files::Result;

use crate::moves::{Moved, move_verified, put_back};
use crate::names;
use crate::scan::Stamp;

/// In front of the key, in the name of a directory beside the file.
const BESIDE_PREFIX: &str = ".taken-";

/// The directory in which an original waits.
#[derive(Clone, Debug)]
pub(crate) struct SetAside {
    directory: DropPath,
    /// What the paths in it are relative to.
    home: DropPath,
}

/// Sets the file aside that `stamp` tells of. `None` if it is to be looked at again: another has taken its place, or an
/// earlier one with this key was still waiting and is back now.
pub(crate) fn set_aside(
    drop_directory: &DropDirectory,
    path: &DropPath,
    key: &str,
    stamp: &Stamp,
) -> Result<Option<SetAside>> {
    let set_aside = SetAside::with_key(key);
    match set_aside.take_in(drop_directory, path, stamp) {
        Err(error) if error.is_cross_device() => {}
        taken => return Ok(taken?.then_some(set_aside)),
    }
    let directory = path.parent().join(OsStr::new(&format!("{BESIDE_PREFIX}{key}")));
    let set_aside = SetAside { directory, home: path.parent() };
    Ok(set_aside.take_in(drop_directory, path, stamp)?.then_some(set_aside))
}

/// Everything that is set aside, with its key. What cannot be looked at is left, with a warning.
pub(crate) fn find(drop_directory: &DropDirectory) -> Result<Vec<(String, SetAside)>> {
    let own = drop_directory.own()?;
    let mut found = Vec::new();
    for name in own.names()? {
        // Else it is a file that is just being written, such as a receipt.
        if own.status(&name).is_ok_and(|status| status.is_directory())
            && let Some(key) = name.to_str()
        {
            found.push((key.to_owned(), SetAside::with_key(key)));
        }
    }
    let mut unread = Unread::default();
    find_beside(drop_directory.root(), &DropPath::root(), 0, &mut found, &mut unread);
    unread.tell();
    Ok(found)
}

/// Where it could not be looked: how often, and the last of them.
#[derive(Default)]
struct Unread {
    count: u64,
    last: Option<(DropPath, String)>,
}

impl Unread {
    fn add(&mut self, path: &DropPath, error: &(dyn std::error::Error + 'static)) {
        self.count += 1;
        self.last = Some((path.clone(), mysimbdp_core::chain(error)));
    }

    /// Once for all of them: a sender may make any number.
    fn tell(self) {
        if let Some((path, error)) = self.last {
            let count = self.count;
            tracing::warn!(count, %path, error, "originals that may wait there are left where they are");
        }
    }
}

fn find_beside(
    directory: &Directory,
    path: &DropPath,
    depth: usize,
    found: &mut Vec<(String, SetAside)>,
    unread: &mut Unread,
) {
    let looked = directory.names().map(|names| {
        for name in names {
            let key = name.to_str().and_then(|name| name.strip_prefix(BESIDE_PREFIX));
            let inner = path.join(&name);
            if let Some(key) = key {
                match directory.open_own(&name) {
                    Ok(_) => found.push((key.to_owned(), SetAside { directory: inner, home: path.clone() })),
                    Err(error) => unread.add(&inner, &error),
                }
            } else if depth < DEPTH_MAX
                && !names::is_temporary(&name)
                && directory.status(&name).is_ok_and(|status| status.is_directory())
                && let Ok(directory) = directory.directory(&name)
            {
                find_beside(&directory, &inner, depth + 1, found, unread);
            }
        }
    });
    if let Err(error) = looked {
        unread.add(path, &error);
    }
}

impl SetAside {
    fn with_key(key: &str) -> Self {
        Self { directory: DropPath::own().join(OsStr::new(key)), home: DropPath::root() }
    }

    /// Whether a file waits in it.
    pub(crate) fn holds_anything(&self, drop_directory: &DropDirectory) -> Result<bool> {
        let mut any = false;
        let visit = &mut |_: &Directory, _: &OsStr, _: DropPath| {
            any = true;
            Ok(())
        };
        each_file(&self.open(drop_directory)?.1, &self.home, 0, visit)?;
        Ok(any)
    }

    /// When it was made.
    pub(crate) fn since(&self, drop_directory: &DropDirectory) -> Result<SystemTime> {
        Ok(self.open(drop_directory)?.1.own_status()?.modified_at())
    }

    /// The directory in it that holds the file which lay at `path`.
    pub(crate) fn holder(&self, drop_directory: &DropDirectory, path: &DropPath) -> Result<Directory> {
        self.open(drop_directory)?.1.below(&self.relative(path).parent())
    }

    /// Returns what waits in it to where it was.
    pub(crate) fn restore(&self, drop_directory: &DropDirectory) -> Result<()> {
        let (parent, inside) = self.open(drop_directory)?;
        each_file(&inside, &self.home, 0, &mut |from, name, path| {
            put_back(drop_directory, from, name, &path)
        })?;
        failpoint::hit("fetchdata.recovery-unhidden");
        parent.remove_tree(self.directory.name())
    }

    /// Removes the original, of which there is a copy.
    pub(crate) fn remove(&self, drop_directory: &DropDirectory) -> Result<()> {
        self.parent(drop_directory)?.remove_tree(self.directory.name())
    }

    fn take_in(&self, drop_directory: &DropDirectory, path: &DropPath, stamp: &Stamp) -> Result<bool> {
        let (mut inside, is_new) = self.parent(drop_directory)?.make_own(self.directory.name())?;
        if !is_new {
            self.restore(drop_directory)?;
            return Ok(false);
        }
        for name in self.relative(path).parent().names() {
            inside = inside.make_own(name)?.0;
        }
        let moved = move_verified(drop_directory, path, &inside, path.name(), stamp);
        if matches!(moved, Ok(Moved::Yes)) {
            return Ok(true);
        }
        let restored = self.restore(drop_directory);
        moved.and(restored).map(|()| false)
    }

    fn relative(&self, path: &DropPath) -> DropPath {
        path.below(&self.home).unwrap_or_else(|| path.clone())
    }

    /// It, and the directory that it lies in. Nobody else can write into it, or it is not one of ours.
    fn open(&self, drop_directory: &DropDirectory) -> Result<(Directory, Directory)> {
        let parent = self.parent(drop_directory)?;
        let inside = parent.open_own(self.directory.name())?;
        Ok((parent, inside))
    }

    fn parent(&self, drop_directory: &DropDirectory) -> Result<Directory> {
        match self.home.is_root() {
            true => drop_directory.own(),
            false => drop_directory.parent(&self.directory),
        }
    }
}

/// Calls `visit` with each file in it, its directory, its name, and the path that it had. What is nested deeper than
/// anything that is set aside counts as one.
fn each_file(
    directory: &Directory,
    home: &DropPath,
    depth: usize,
    visit: &mut dyn FnMut(&Directory, &OsStr, DropPath) -> Result<()>,
) -> Result<()> {
    for name in directory.names()? {
        let path = home.join(&name);
        if depth <= DEPTH_MAX && directory.status(&name)?.is_directory() {
            each_file(&directory.directory(&name)?, &path, depth + 1, visit)?;
        } else {
            visit(directory, &name, path)?;
        }
    }
    Ok(())
}
