//! Publishes a split file to batch-manager: `staging/<client>/<ingestion>/`.
//!
//! On the same file system the file itself is moved, and its micro-batches are ranges of it; on another one, or if
//! the config says so, each micro-batch becomes a part of its own. Either way the directory is assembled under a
//! hidden name and published by one rename, so every published one is complete:
//!
//! 1. the manifest is written and synced (parts: first the parts, each synced);
//! 2. the file is moved in (parts: the original is set aside);
//! 3. the directory gets its name;
//! 4. parts: its parent is synced, and only then the original is removed.
//!
//! Without parts no byte is destroyed, so neither the file nor the directory's name is synced: checksums reveal what
//! a power cut has torn, and batch-manager syncs the name before it works on the directory.

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

use crate::file_identity::FileIdentity;
use crate::late::{self, SetAsideResult};
use crate::moves::{Moved, move_verified, put_back};
use crate::openers::ClosedEvidence;
use crate::{recover, validate};

/// A file in the drop directory that has been split and accepted.
pub(crate) struct SourceFile<'a> {
    pub(crate) path: &'a DropPath,
    pub(crate) file: &'a File,
    pub(crate) identity: FileIdentity,
    pub(crate) closed: ClosedEvidence,
    /// Asked again after the file has been moved, when nobody else can open it any more.
    pub(crate) is_still_closed: &'a dyn Fn() -> bool,
}

/// The result of staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Staging {
    Done,
    /// It has to be scanned again: another file has taken its place, or a writer has opened it.
    Changed,
    /// The same content is in progress, or its original still waits for its writer.
    DuplicateInProgress,
}

/// Stages the file. `manifest` describes it as one that is moved; if parts are made, their paths are changed.
///
/// # Errors
///
/// The file is then in the drop directory as before.
pub(crate) fn stage(
    layout: &Layout,
    parts: StagingParts,
    source: &SourceFile,
    manifest: &mut Manifest,
) -> Result<Staging, FileError> {
    let unpublished = layout.staged_unpublished(&manifest.client, manifest.ingestion);
    if files::exists(&unpublished) {
        // Left behind by an attempt that could not even be undone.
        recover::leftover(layout, &manifest.client, manifest.ingestion)?;
    }
    let published = layout.staged(&manifest.client, manifest.ingestion);
    if files::exists(&published) {
        return Ok(Staging::DuplicateInProgress);
    }
    files::create_dir_all(&unpublished)?;
    failpoint::hit("fetchdata.unpublished-created");
    let paths = Paths { unpublished, published, drop_directory: DropDirectory::open(layout)? };
    let staged = paths.fill_and_publish(parts, source, manifest);
    if !matches!(staged, Ok(Staging::Done)) && files::exists(&paths.unpublished) {
        paths.undo(source, manifest)?;
    }
    staged
}

struct Paths {
    unpublished: PathBuf,
    published: PathBuf,
    drop_directory: DropDirectory,
}

impl Paths {
    fn fill_and_publish(
        &self,
        parts: StagingParts,
        source: &SourceFile,
        manifest: &mut Manifest,
    ) -> Result<Staging, FileError> {
        let reserved = validate::is_reserved(source.path.name());
        let elsewhere = files::metadata(&self.unpublished)?.dev() != source.identity.device;
        // A file that may still be written to is not worked on in place.
        let may_change = source.closed == ClosedEvidence::SettledLonger;
        if parts == StagingParts::Files || reserved || elsewhere || may_change {
            return self.by_parts(source, manifest);
        }
        match self.by_move(source, manifest) {
            // Two mounts of one file system look like one.
            Err(error) if error.is_cross_device() => self.by_parts(source, manifest),
            staged => staged,
        }
    }

    fn by_move(&self, source: &SourceFile, manifest: &Manifest) -> Result<Staging, FileError> {
        staging::write_manifest(&self.unpublished, manifest)?;
        failpoint::hit("fetchdata.manifest-written");
        let (unpublished, name) = (Directory::open_platform(&self.unpublished)?, manifest.file.as_ref());
        match move_verified(&self.drop_directory, source.path, &unpublished, name, &source.identity)? {
            Moved::Yes if !(source.is_still_closed)() => {
                put_back(&self.drop_directory, &unpublished, name, source.path)?;
                Ok(Staging::Changed)
            }
            Moved::Yes => self.publish(),
            Moved::Changed => Ok(Staging::Changed),
        }
    }

    fn by_parts(&self, source: &SourceFile, manifest: &mut Manifest) -> Result<Staging, FileError> {
        let parts = self.unpublished.join(Layout::PARTS);
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
        staging::write_manifest(&self.unpublished, manifest)?;
        files::sync_dir(&self.unpublished)?;
        files::sync_dir(self.unpublished.parent().unwrap_or(&self.unpublished))?;
        failpoint::hit("fetchdata.parts-described");
        let content = (&manifest.client, manifest.ingestion);
        let result =
            late::set_aside(&self.drop_directory, source.closed, content, source.path, &source.identity)?;
        let original = match result {
            SetAsideResult::Done(original) => original,
            SetAsideResult::Changed => return Ok(Staging::Changed),
            SetAsideResult::Occupied => return Ok(Staging::DuplicateInProgress),
        };
        if !(source.is_still_closed)() {
            original.restore(&self.drop_directory)?;
            return Ok(Staging::Changed);
        }
        failpoint::hit("fetchdata.original-set-aside");
        let published = self.publish();
        if !matches!(published, Ok(Staging::Done)) {
            // If the copy were published all the same, the restored original would be taken for a duplicate of it.
            if files::exists(&self.unpublished) {
                original.restore(&self.drop_directory)?;
            }
            return published;
        }
        files::sync_dir(self.published.parent().unwrap_or(&self.published))?;
        failpoint::hit("fetchdata.copy-published");
        original.finish(&self.drop_directory)?;
        failpoint::hit("fetchdata.original-removed");
        published
    }

    fn publish(&self) -> Result<Staging, FileError> {
        files::sync_dir(&self.unpublished)?;
        failpoint::hit("fetchdata.unpublished-synced");
        if files::exists(&self.published) {
            return Ok(Staging::DuplicateInProgress);
        }
        files::rename(&self.unpublished, &self.published)?;
        failpoint::hit("fetchdata.published");
        Ok(Staging::Done)
    }

    /// Returns the file to the drop directory, and only then removes what was made of it.
    fn undo(&self, source: &SourceFile, manifest: &Manifest) -> Result<(), FileError> {
        let name = manifest.file.as_ref();
        if !validate::is_reserved(name) && files::exists(&self.unpublished.join(name)) {
            put_back(&self.drop_directory, &Directory::open_platform(&self.unpublished)?, name, source.path)?;
        }
        files::remove_dir_all(&self.unpublished)
    }
}
