//! Paths in the drop directory.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Lane;

/// A path relative to the drop directory. It is not a [`Path`], so that only a [`super::DropDirectory`] can open it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DropPath(PathBuf);

impl DropPath {
    /// The drop directory itself.
    pub fn root() -> Self {
        Self(PathBuf::new())
    }

    /// The platform's own directory.
    pub fn platform_directory() -> Self {
        Self(super::PLATFORM_DIRECTORY.into())
    }

    /// The folder into which the client's files of this lane are dropped.
    pub fn of_client(client: &ClientId, lane: Lane) -> Self {
        let folder = Self(client.as_str().into());
        match lane {
            Lane::Backfill => folder.join(OsStr::new(Layout::BACKFILL)),
            Lane::Live | Lane::Retry => folder,
        }
    }

    /// Parses a path relative to the data root; `None` if it is not below the drop directory.
    pub fn parse(text: &str) -> Option<Self> {
        let path = Path::new(text).strip_prefix(Layout::DROP).ok()?;
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        (is_inside && path.file_name().is_some()).then(|| Self(path.to_owned()))
    }

    /// Reads the bytes that [`DropPath::as_bytes`] has returned; `None` if they are not a path in the drop directory.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let path = Path::new(OsStr::from_bytes(bytes));
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        is_inside.then(|| Self(path.to_owned()))
    }

    /// The form in which the platform stores the path.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }

    #[must_use]
    pub fn join(&self, name: &OsStr) -> Self {
        Self(self.0.join(name))
    }

    /// The directory that contains it; the drop directory is its own parent.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.0.parent().unwrap_or(Path::new("")).to_owned())
    }

    /// Its last component; empty for the drop directory itself.
    pub fn name(&self) -> &OsStr {
        self.0.file_name().unwrap_or_default()
    }

    /// The path relative to `directory`, if it is below it.
    pub fn below(&self, directory: &Self) -> Option<Self> {
        self.0.strip_prefix(&directory.0).ok().map(|path| Self(path.to_owned()))
    }

    /// Its components, from the drop directory on.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.iter()
    }

    pub fn is_root(&self) -> bool {
        self.0.as_os_str().is_empty()
    }

    pub(super) fn as_path(&self) -> &Path {
        &self.0
    }
}

/// Relative to the data root, as [`plain`] text.
impl fmt::Display for DropPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain(Path::new(Layout::DROP).join(&self.0).as_os_str()))
    }
}

/// The name as plain text, with `%XX` for each byte of a control character or of invalid UTF-8.
pub fn plain(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                let mut bytes = [0; 4];
                escape(&mut text, character.encode_utf8(&mut bytes).as_bytes());
            } else {
                text.push(character);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "%{byte:02X}");
    }
}
