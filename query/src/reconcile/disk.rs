//! Counts what is staged, held and discarded.

use std::path::{Path, PathBuf};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::outcome::Run;
use mysimbdp_platform::files;
use mysimbdp_spool::staging;

use crate::error::QueryError;
use crate::reason_file::{ReasonLookup, reason_in};

/// The directories of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) staged: usize,
    pub(super) held: usize,
    pub(super) discarded: usize,
    /// Directories that cannot be read: their manifest or reason is damaged or missing.
    pub(super) unreadable: Vec<String>,
}

pub(super) fn scan(layout: &Layout, client: &ClientId) -> Result<Disk, QueryError> {
    let mut disk = Disk::default();
    for path in entries(&layout.staging().join(client.as_str()))? {
        disk.staged += disk.note(&path, staging::read_manifest(&path).is_ok());
    }
    for path in entries(&layout.held_root().join(client.as_str()))? {
        // A late original was never staged, so it has no manifest.
        let is_late = path.file_name().is_some_and(|name| staging::is_held_late(&name.to_string_lossy()));
        let is_whole = (is_late || staging::read_manifest(&path).is_ok()) && has_reason(&path)?;
        disk.held += disk.note(&path, is_whole);
    }
    for path in entries(&layout.discarded_root().join(client.as_str()))? {
        disk.discarded += disk.note(&path, has_reason(&path)?);
    }
    Ok(disk)
}

fn has_reason(directory: &Path) -> Result<bool, QueryError> {
    Ok(matches!(reason_in(directory)?, ReasonLookup::Found(_)))
}

impl Disk {
    /// Counts a directory that can be read. One that cannot be read is listed, unless it was moved meanwhile.
    fn note(&mut self, path: &Path, is_readable: bool) -> usize {
        if !is_readable && files::exists(path) {
            self.unreadable.push(path.display().to_string());
        }
        usize::from(is_readable)
    }
}

/// Whether this run is staged or held, possibly beside a later run of the same ingestion.
pub(super) fn holds(layout: &Layout, client: &ClientId, run: &Run) -> Result<bool, QueryError> {
    let Ok(ingestion) = run.ingestion.parse::<IngestionId>() else { return Ok(false) };
    let is_run = |path: &PathBuf| {
        staging::read_manifest(path)
            .is_ok_and(|manifest| Run::id(manifest.ingestion, manifest.staged_at) == run.id)
    };
    let is_of_content = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&run.ingestion))
    };
    let held = entries(&layout.held_root().join(client.as_str()))?;
    Ok(is_run(&layout.staged(client, ingestion))
        || held.iter().filter(|path| is_of_content(path)).any(is_run))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, QueryError> {
    let mut paths = files::list(directory)?;
    paths.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use mysimbdp_model::reason::ReasonFile;

    use super::*;

    #[test]
    fn an_original_that_changed_after_intake_is_held_without_a_manifest() {
        let root = tempfile::tempdir().expect("temporary directory");
        let (layout, client) =
            (Layout::new(root.path().to_owned()), "client1".parse::<ClientId>().expect("id"));
        let ingestion: IngestionId = "00112233445566778899aabbccddeeff".parse().expect("an ingestion");
        let (late, damaged) =
            (staging::held_late(&layout, &client, ingestion, 7), layout.held(&client, ingestion));
        let reason = ReasonFile {
            file: "a.csv".to_owned(),
            client: Some(client.to_string()),
            ingestion: Some(ingestion.to_string()),
            dropped_at: "client-input-directory/client1/a.csv".to_owned(),
            bytes: 4,
            received_at: Timestamp::UNIX_EPOCH,
            decided_at: Timestamp::UNIX_EPOCH,
            reasons: vec!["it changed after it was taken".to_owned()],
            codes: Vec::new(),
        };
        for directory in [&late, &damaged] {
            files::create_dir_all(directory).expect("directory");
            let json = serde_json::to_vec(&reason).expect("JSON");
            files::write_atomic(&directory.join(ReasonFile::FILE), &json).expect("reason");
        }
        let disk = scan(&layout, &client).expect("scan");
        assert_eq!((disk.held, disk.unreadable), (1, vec![damaged.display().to_string()]));
    }
}
