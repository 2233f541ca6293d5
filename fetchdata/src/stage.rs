//! Makes a split file visible to batch-manager: `staging/<client>/<ingestion>/`.
//!
//! On the same file system the file itself is moved and its micro-batches are ranges of it; elsewhere, or where the
//! config says so, each becomes a part of its own. Either way the directory is put together under a name with a dot
//! and becomes visible by one rename, so what can be seen is complete:
//!
//! 1. the manifest, synced (parts: first the parts, each synced);
//! 2. the file is moved in (parts: the original is put out of sight);
//! 3. the directory gets its name;
//! 4. parts: its parent is synced, and only now the original is removed.
//!
//! Without parts no byte is destroyed, and so neither the file nor the directory's name is synced: what a power cut tears is
//! found by its checksums, and batch-manager syncs the name before it works on what it names.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use mysimbdp_config::settings::StagingParts;
use mysimbdp_model::layout::{Layout, part_file};
use mysimbdp_model::manifest::Manifest;
use mysimbdp_platform::failpoint;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_spool::drop_directory::{Directory, DropDirectory, DropPath};
use mysimbdp_spool::staging;

use crate::late::{self, Waits};
use crate::moves::{Moved, move_verified, put_back};
use crate::openers::Closed;
use crate::stamp::Stamp;
use crate::{recover, validate};

/// A file at the drop point that has been split and accepted.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a DropPath,
    pub(crate) file: &'a File,
    pub(crate) stamp: Stamp,
    pub(crate) closed: Closed,
    /// Asked again when the file has been moved, and nobody can open it any more.
    pub(crate) is_still_closed: &'a dyn Fn() -> bool,
}

/// What came of staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Staging {
    Done,
    /// Another file lies in its place.
    Replaced,
    /// The same content has become visible meanwhile.
    Twin,
}

/// Stages the file. `manifest` describes it as one that is moved; where there are parts their paths are changed.
///
/// # Errors
///
/// The file then lies at the drop point as before.
pub(crate) fn stage(
    layout: &Layout,
    parts: StagingParts,
    source: &Source,
    manifest: &mut Manifest,
) -> Result<Staging, FileError> {
    let unseen = layout.staged_unseen(&manifest.client, manifest.ingestion);
    if files::exists(&unseen) {
        // Left behind by an attempt that could not even be undone.
        recover::leftover(layout, &manifest.client, manifest.ingestion)?;
    }
    let visible = layout.staged(&manifest.client, manifest.ingestion);
    if files::exists(&visible) {
        return Ok(Staging::Twin);
    }
    files::create_dir_all(&unseen)?;
    failpoint::hit("fetchdata.unseen-made");
    let paths = Paths { unseen, visible, drop_directory: DropDirectory::open(layout)? };
    let staged = paths.fill_and_show(parts, source, manifest);
    if !matches!(staged, Ok(Staging::Done)) && files::exists(&paths.unseen) {
        paths.undo(source, manifest)?;
    }
    staged
}

struct Paths {
    unseen: PathBuf,
    visible: PathBuf,
    drop_directory: DropDirectory,
}

impl Paths {
    fn fill_and_show(
        &self,
        parts: StagingParts,
        source: &Source,
        manifest: &mut Manifest,
    ) -> Result<Staging, FileError> {
        let reserved = validate::is_reserved(source.path.name());
        let elsewhere = files::metadata(&self.unseen)?.dev() != source.stamp.device;
        // What may be written to is not what is worked on.
        let may_change = source.closed == Closed::NotSeen;
        if parts == StagingParts::Files || reserved || elsewhere || may_change {
            return self.by_parts(source, manifest);
        }
        match self.by_move(source, manifest) {
            // Two mounts of one file system look like one.
            Err(error) if error.is_cross_device() => self.by_parts(source, manifest),
            staged => staged,
        }
    }

    fn by_move(&self, source: &Source, manifest: &Manifest) -> Result<Staging, FileError> {
        staging::write_manifest(&self.unseen, manifest)?;
        failpoint::hit("fetchdata.manifest-written");
        let (unseen, name) = (Directory::of_platform(&self.unseen)?, manifest.file.as_ref());
        match move_verified(&self.drop_directory, source.path, &unseen, name, &source.stamp)? {
            Moved::Yes if !(source.is_still_closed)() => {
                put_back(&self.drop_directory, &unseen, name, source.path)?;
                Ok(Staging::Replaced)
            }
            Moved::Yes => self.show(),
            Moved::Replaced => Ok(Staging::Replaced),
        }
    }

    fn by_parts(&self, source: &Source, manifest: &mut Manifest) -> Result<Staging, FileError> {
        let parts = self.unseen.join(Layout::PARTS);
        files::create_dir_all(&parts)?;
        if manifest.prefix.length > 0 {
            let to = parts.join(Layout::PREFIX_PART);
            files::copy_range_durable(source.file, manifest.prefix.offset, manifest.prefix.length, &to)?;
        }
        for batch in &mut manifest.micro_batches {
            let to = parts.join(part_file(batch.index));
            files::copy_range_durable(source.file, batch.offset, batch.length, &to)?;
            failpoint::hit("fetchdata.part-copied");
            batch.path = format!("{}/{}", Layout::PARTS, part_file(batch.index));
        }
        files::sync_dir(&parts)?;
        failpoint::hit("fetchdata.parts-synced");
        staging::write_manifest(&self.unseen, manifest)?;
        files::sync_dir(&self.unseen)?;
        files::sync_dir(self.unseen.parent().unwrap_or(&self.unseen))?;
        failpoint::hit("fetchdata.parts-described");
        let whose = (&manifest.client, manifest.ingestion);
        let waits = late::set_aside(&self.drop_directory, source.closed, whose, source.path, &source.stamp)?;
        let original = match waits {
            Waits::Yes(original) => original,
            Waits::Replaced => return Ok(Staging::Replaced),
            Waits::Occupied => return Ok(Staging::Twin),
        };
        if !(source.is_still_closed)() {
            original.restore(&self.drop_directory)?;
            return Ok(Staging::Replaced);
        }
        failpoint::hit("fetchdata.original-hidden");
        let shown = self.show();
        if !matches!(shown, Ok(Staging::Done)) {
            // Were the copy visible all the same, the original would be taken for a repeat of it.
            if files::exists(&self.unseen) {
                original.restore(&self.drop_directory)?;
            }
            return shown;
        }
        files::sync_dir(self.visible.parent().unwrap_or(&self.visible))?;
        failpoint::hit("fetchdata.copy-shown");
        original.end(&self.drop_directory)?;
        failpoint::hit("fetchdata.original-removed");
        shown
    }

    fn show(&self) -> Result<Staging, FileError> {
        files::sync_dir(&self.unseen)?;
        failpoint::hit("fetchdata.unseen-synced");
        if files::exists(&self.visible) {
            return Ok(Staging::Twin);
        }
        files::rename(&self.unseen, &self.visible)?;
        failpoint::hit("fetchdata.shown");
        Ok(Staging::Done)
    }

    /// Returns the file to the drop point, and only then removes what was made of it.
    fn undo(&self, source: &Source, manifest: &Manifest) -> Result<(), FileError> {
        let name = manifest.file.as_ref();
        if !validate::is_reserved(name) && files::exists(&self.unseen.join(name)) {
            put_back(&self.drop_directory, &Directory::of_platform(&self.unseen)?, name, source.path)?;
        }
        files::remove_dir_all(&self.unseen)
    }
}
