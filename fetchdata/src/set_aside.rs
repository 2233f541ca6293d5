//! Keeps originals away from the walks while their copies are being published.
//!
//! They wait in the platform's own directory in the drop directory, each below its *key* and under the path that it
//! had: `client-input-directory/.mysimbdp/<key>/client1/a.csv`. The key is the ingestion, or the name of the
//! discarded directory. If a client's folder is a mount of its own, a file in it waits in `.taken-<key>` beside where
//! it was, as all files did in earlier versions.

pub(crate) mod key;

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::SystemTime;

use mysimbdp_platform::failpoint;
use mysimbdp_platform::files::{FileError, Result};
use mysimbdp_spool::drop_directory::{DEPTH_MAX, Directory, DropDirectory, DropPath};

use crate::file_identity::FileIdentity;
use crate::moves::{Moved, move_verified, put_back};

/// Prefix of the key, in the name of a directory beside the file.
const BESIDE_PREFIX: &str = ".taken-";
/// Prefix of the key, in the name of a record in the platform's own directory that holds the path of such a
/// directory: so nobody has to search for it among all directories of the senders.
const RECORD_PREFIX: &str = "beside-";
/// Longer than any path that the kernel takes.
const PATH_BYTES_MAX: u64 = 8 << 10;

/// The directory in which an original waits.
#[derive(Clone, Debug)]
pub(crate) struct SetAside {
    directory: DropPath,
    /// The directory that the paths in it are relative to.
    home: DropPath,
}

/// Sets aside the file that `identity` describes. `None` if it must be scanned again: another file has taken its
/// place, or an earlier one with this key was still waiting and is back now.
pub(crate) fn set_aside(
    drop_directory: &DropDirectory,
    path: &DropPath,
    key: &str,
    identity: &FileIdentity,
) -> Result<Option<SetAside>> {
    let set_aside = SetAside::with_key(key);
    match set_aside.move_in(drop_directory, path, identity) {
        Err(error) if error.is_cross_device() => {}
        moved => return Ok(moved?.then_some(set_aside)),
    }
    let directory = path.parent().join(OsStr::new(&format!("{BESIDE_PREFIX}{key}")));
    let set_aside = SetAside { directory, home: path.parent() };
    set_aside.record(drop_directory)?;
    let moved = set_aside.move_in(drop_directory, path, identity);
    if !matches!(moved, Ok(true)) {
        set_aside.forget(drop_directory)?;
    }
    Ok(moved?.then_some(set_aside))
}

/// Whether something is set aside with this key.
pub(crate) fn is_occupied(drop_directory: &DropDirectory, key: &str) -> Result<bool> {
    let platform_directory = drop_directory.platform_directory()?;
    let record = format!("{RECORD_PREFIX}{key}");
    Ok([key, &record].iter().any(|name| platform_directory.status(name.as_ref()).is_ok()))
}

/// Whether it is the name of a directory in which a file waits beside where it was.
pub(crate) fn is_beside(name: &OsStr) -> bool {
    name.as_bytes().starts_with(BESIDE_PREFIX.as_bytes())
}

/// Restores what waits in `left_behind`, directories beside files, if they are not recorded: an earlier version has
/// left them behind, and what became of the copies is not known, so the files are inspected again. Directories that
/// are recorded are in use.
pub(crate) fn restore_left_behind(drop_directory: &DropDirectory, left_behind: &[DropPath]) {
    for directory in left_behind {
        let set_aside = SetAside { directory: directory.clone(), home: directory.parent() };
        let restored = match set_aside.is_recorded(drop_directory) {
            Ok(false) => set_aside.restore(drop_directory),
            recorded => recorded.map(|_| ()),
        };
        match restored {
            Err(error) if error.is_not_found() || error.is_obstructed() => {}
            Err(error) => {
                // Logged at debug level: a sender may make any number of them.
                tracing::debug!(%directory, error = mysimbdp_model::error_chain(&error), "an original left behind by an earlier version cannot be restored, it stays where it is");
            }
            Ok(()) => {}
        }
    }
}

/// Everything that is set aside, with its key.
pub(crate) fn find(drop_directory: &DropDirectory) -> Result<Vec<(String, SetAside)>> {
    let platform_directory = drop_directory.platform_directory()?;
    let mut found = Vec::new();
    for name in platform_directory.names()? {
        let Some(text) = name.to_str() else { continue };
        if platform_directory.status(&name).is_ok_and(|status| status.is_directory()) {
            found.push((text.to_owned(), SetAside::with_key(text)));
        } else if let Some(key) = text.strip_prefix(RECORD_PREFIX) {
            // Anything else is a file that is just being written, such as a receipt.
            found.extend(
                recorded(drop_directory, &platform_directory, &name)?
                    .map(|set_aside| (key.to_owned(), set_aside)),
            );
        }
    }
    Ok(found)
}

/// The directory that a record names; `None` if that was never made, or is removed already.
fn recorded(
    drop_directory: &DropDirectory,
    platform_directory: &Directory,
    name: &OsStr,
) -> Result<Option<SetAside>> {
    let mut bytes = Vec::new();
    let read = platform_directory.open(name)?.take(PATH_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|source| FileError { action: "read", path: name.into(), source })?;
    let Some(directory) = DropPath::of_bytes(&bytes) else { return Ok(None) };
    let set_aside = SetAside { home: directory.parent(), directory };
    match set_aside.open(drop_directory) {
        Err(error) if error.is_not_found() => set_aside.forget(drop_directory).map(|()| None),
        _ => Ok(Some(set_aside)),
    }
}

impl SetAside {
    fn with_key(key: &str) -> Self {
        Self { directory: DropPath::platform_directory().join(OsStr::new(key)), home: DropPath::root() }
    }

    /// Whether a file waits in it.
    pub(crate) fn holds_anything(&self, drop_directory: &DropDirectory) -> Result<bool> {
        let mut any = false;
        self.each_file(drop_directory, &mut |_, _, _| {
            any = true;
            Ok(())
        })?;
        Ok(any)
    }

    /// When the original was moved in: when the directory last changed.
    pub(crate) fn since(&self, drop_directory: &DropDirectory) -> Result<SystemTime> {
        Ok(self.open(drop_directory)?.1.self_status()?.modified_at())
    }

    /// The directory in it that holds the file that was at `path`.
    pub(crate) fn holder(&self, drop_directory: &DropDirectory, path: &DropPath) -> Result<Directory> {
        self.open(drop_directory)?.1.below(&self.relative(path).parent())
    }

    /// Returns the files in it to where they were.
    pub(crate) fn restore(&self, drop_directory: &DropDirectory) -> Result<()> {
        self.each_file(drop_directory, &mut |from, name, path| put_back(drop_directory, from, name, &path))?;
        failpoint::hit("fetchdata.recovery-restored");
        self.remove(drop_directory)
    }

    /// The last step, when there is a copy: removes the original, unless it waits for its writer.
    pub(crate) fn finish(&self, drop_directory: &DropDirectory) -> Result<()> {
        if self.is_late() { Ok(()) } else { self.remove(drop_directory) }
    }

    /// Whether it waits for its writer.
    pub(crate) fn is_late(&self) -> bool {
        key::is_late(&self.key())
    }

    /// Calls `visit` with each file in it: its directory, its name, and the path that it had.
    pub(crate) fn each_file(
        &self,
        drop_directory: &DropDirectory,
        visit: &mut dyn FnMut(&Directory, &OsStr, DropPath) -> Result<()>,
    ) -> Result<()> {
        each_file(&self.open(drop_directory)?.1, &self.home, 0, visit)
    }

    /// Removes the original; there must be a copy.
    pub(crate) fn remove(&self, drop_directory: &DropDirectory) -> Result<()> {
        self.parent(drop_directory)?.remove_tree(self.directory.name())?;
        self.forget(drop_directory)
    }

    fn move_in(
        &self,
        drop_directory: &DropDirectory,
        path: &DropPath,
        identity: &FileIdentity,
    ) -> Result<bool> {
        let (mut inside, is_new) =
            self.parent(drop_directory)?.open_or_create_private(self.directory.name())?;
        if !is_new {
            self.restore(drop_directory)?;
            return Ok(false);
        }
        for name in self.relative(path).parent().names() {
            inside = inside.open_or_create_private(name)?.0;
        }
        let moved = move_verified(drop_directory, path, &inside, path.name(), identity);
        if matches!(moved, Ok(Moved::Yes)) {
            return Ok(true);
        }
        let restored = self.restore(drop_directory);
        moved.and(restored).map(|()| false)
    }

    /// Writes its record, if it is not in the platform's own directory.
    fn record(&self, drop_directory: &DropDirectory) -> Result<()> {
        let Some(name) = self.record_name() else { return Ok(()) };
        let platform_directory = drop_directory.platform_directory()?;
        platform_directory.write(&temporary(&name), self.directory.as_bytes(), &platform_directory, &name)
    }

    fn is_recorded(&self, drop_directory: &DropDirectory) -> Result<bool> {
        let Some(name) = self.record_name() else { return Ok(false) };
        match drop_directory.platform_directory()?.status(&name) {
            Err(error) if error.is_not_found() => Ok(false),
            status => status.map(|_| true),
        }
    }

    fn forget(&self, drop_directory: &DropDirectory) -> Result<()> {
        key::forget(drop_directory, &self.key())?;
        let Some(name) = self.record_name() else { return Ok(()) };
        match drop_directory.platform_directory()?.remove_file(&name) {
            Err(error) if error.is_not_found() => Ok(()),
            removed => removed,
        }
    }

    fn key(&self) -> String {
        let name = self.directory.name().to_string_lossy();
        name.strip_prefix(BESIDE_PREFIX).unwrap_or(&name).to_owned()
    }

    fn record_name(&self) -> Option<OsString> {
        let key = self.directory.name().as_bytes().strip_prefix(BESIDE_PREFIX.as_bytes())?;
        Some(OsString::from_vec([RECORD_PREFIX.as_bytes(), key].concat()))
    }

    fn relative(&self, path: &DropPath) -> DropPath {
        path.below(&self.home).unwrap_or_else(|| path.clone())
    }

    /// Its parent directory and itself. Only the platform's user can write into it; otherwise it is not the
    /// platform's.
    fn open(&self, drop_directory: &DropDirectory) -> Result<(Directory, Directory)> {
        let parent = self.parent(drop_directory)?;
        let inside = parent.open_private(self.directory.name())?;
        Ok((parent, inside))
    }

    fn parent(&self, drop_directory: &DropDirectory) -> Result<Directory> {
        match self.home.is_root() {
            true => drop_directory.platform_directory(),
            false => drop_directory.parent(&self.directory),
        }
    }
}

fn temporary(name: &OsStr) -> OsString {
    [OsStr::new("."), name].into_iter().collect()
}

/// Calls `visit` with each file in it: its directory, its name, and the path that it had. A directory nested deeper
/// than anything that is set aside counts as a file.
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
