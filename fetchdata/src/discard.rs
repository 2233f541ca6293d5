//! Moves a file that is refused, by validation or as a duplicate, to `discarded/`, with its reasons. Nothing is
//! deleted.

use std::path::Path;

use jiff::Timestamp;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::outcome::FinalState;
use mysimbdp_model::reason::{self, Objection, ReasonFile};
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::{clock, failpoint, random};
use mysimbdp_spool::drop_directory::{Directory, DropDirectory, Existing, FileKind, FileReceipt};
use mysimbdp_telemetry::metrics::metrics;

use crate::burst_log::{BurstLog, Discarded};
use crate::moves::{Moved, move_verified, put_back};
use crate::names;
use crate::scan::FileSnapshot;
use crate::set_aside::{SetAside, set_aside};

/// A file and why it is refused.
#[derive(Debug)]
pub(crate) struct Refused<'a> {
    pub(crate) snapshot: &'a FileSnapshot,
    pub(crate) client: Option<&'a ClientId>,
    /// Known if the content was read.
    pub(crate) ingestion: Option<IngestionId>,
    pub(crate) received_at: Timestamp,
    pub(crate) reasons: Vec<Objection>,
    /// Whether its sender gets a receipt.
    pub(crate) receipt: bool,
}

/// How the file got into the directory that is being assembled.
enum Filled {
    Moved,
    /// A copy, on another file system; the original waits until the copy is published.
    Copied(SetAside),
    /// Another file has taken its place in the drop directory.
    Changed,
}

/// Discards the file. The directory is assembled under a hidden name, so every published one is complete.
pub(crate) fn discard(layout: &Layout, log: &BurstLog, refused: Refused) -> Result<Moved, FileError> {
    let drop_directory = DropDirectory::open(layout)?;
    write_receipt(&drop_directory, log, &refused)?;
    let published = layout.discarded(refused.client, refused.received_at, random::number());
    let unpublished = unpublished(&published);
    files::create_dir_all(&unpublished)?;
    failpoint::hit("fetchdata.discard-begun");
    let key = published.file_name().unwrap_or_default().to_string_lossy();
    let original = match fill(&drop_directory, &unpublished, &key, &refused) {
        Ok(Filled::Moved) => None,
        Ok(Filled::Copied(original)) => Some(original),
        not_filled => {
            undo(&drop_directory, &unpublished, refused.snapshot)?;
            return not_filled.map(|_| Moved::Changed);
        }
    };
    failpoint::hit("fetchdata.discard-filled");
    if let Err(error) = files::rename(&unpublished, &published) {
        match original {
            None => undo(&drop_directory, &unpublished, refused.snapshot)?,
            Some(original) => {
                files::remove_dir_all(&unpublished)?;
                original.restore(&drop_directory)?;
            }
        }
        return Err(error);
    }
    failpoint::hit("fetchdata.discarded");
    if let Some(original) = original {
        // The directory entries that lead to the copy must survive a power cut before the original is removed.
        for directory in published.ancestors().skip(1).take(2) {
            files::sync_dir(directory)?;
        }
        original.remove(&drop_directory)?;
    }
    let code = refused.reasons.first().map(|reason| reason.code);
    let client = refused.client.map_or(Layout::UNROUTED, ClientId::as_str);
    metrics().file_ended(client, FinalState::Discarded, code, refused.snapshot.identity.bytes);
    log.discarded(&Discarded {
        client: refused.client,
        file: names::plain(refused.snapshot.path.name()),
        bytes: refused.snapshot.identity.bytes,
        reasons: reason::joined(&refused.reasons),
        directory: published.display(),
    });
    Ok(Moved::Yes)
}

/// Written first, so that whoever sees that the file is gone finds the receipt. If the file stays after all, it is
/// inspected again and gets another one.
fn write_receipt(drop_directory: &DropDirectory, log: &BurstLog, refused: &Refused) -> Result<(), FileError> {
    let (snapshot, decided_at) = (refused.snapshot, clock::now());
    let Some(client) = refused.client.filter(|_| refused.receipt) else { return Ok(()) };
    let receipt = FileReceipt::of_discarded(
        client.clone(),
        refused.ingestion,
        (names::plain(snapshot.path.name()), snapshot.identity.bytes),
        decided_at.duration_since(refused.received_at).as_secs_f64().max(0.0),
        &refused.reasons,
    );
    // There is one file at a time at each path.
    let key = blake3::hash(snapshot.path.as_bytes()).to_hex();
    match drop_directory.write_receipt(snapshot.owner.lane, &key, &receipt) {
        Err(error) if error.is_obstructed() => {
            log.no_receipt(client, &snapshot.path, mysimbdp_model::error_chain(&error));
        }
        written => written?,
    }
    failpoint::hit("fetchdata.discard-receipt-written");
    Ok(())
}

fn fill(
    drop_directory: &DropDirectory,
    directory: &Path,
    key: &str,
    refused: &Refused,
) -> Result<Filled, FileError> {
    let (path, identity) = (&refused.snapshot.path, &refused.snapshot.identity);
    let reason = ReasonFile {
        file: names::plain(path.name()),
        client: refused.client.map(ToString::to_string),
        ingestion: refused.ingestion.map(|ingestion| ingestion.to_string()),
        dropped_at: path.to_string(),
        bytes: identity.bytes,
        received_at: refused.received_at,
        decided_at: clock::now(),
        reasons: reason::texts(&refused.reasons),
        codes: reason::codes(&refused.reasons),
    };
    let json = serde_json::to_vec_pretty(&reason).expect("a reason has no map");
    files::write_durable(&directory.join(ReasonFile::FILE), &json)?;
    failpoint::hit("fetchdata.discard-explained");
    let to = Directory::open_platform(directory)?;
    let mut name = names::safe(path.name());
    if name == ReasonFile::FILE {
        name.push_str(".discarded");
    }
    match move_verified(drop_directory, path, &to, name.as_ref(), identity) {
        Err(error) if error.is_cross_device() && refused.snapshot.kind == FileKind::File => {}
        moved => {
            return Ok(match moved? {
                Moved::Yes => Filled::Moved,
                Moved::Changed => Filled::Changed,
            });
        }
    }
    let Some(original) = set_aside(drop_directory, path, key, identity)? else { return Ok(Filled::Changed) };
    let copied = original
        .holder(drop_directory, path)
        .and_then(|from| from.copy(path.name(), &to, name.as_ref(), Existing::Keep));
    if let Err(error) = copied {
        original.restore(drop_directory)?;
        return Err(error);
    }
    Ok(Filled::Copied(original))
}

/// Returns the file: a dropped file must neither stay in an unpublished directory nor be removed with it.
fn undo(
    drop_directory: &DropDirectory,
    unpublished: &Path,
    snapshot: &FileSnapshot,
) -> Result<(), FileError> {
    let directory = Directory::open_platform(unpublished)?;
    for name in directory.names()? {
        if name != ReasonFile::FILE && !names::is_temporary(&name) {
            put_back(drop_directory, &directory, &name, &snapshot.path)?;
        }
    }
    files::remove_dir_all(unpublished)
}

fn unpublished(published: &Path) -> std::path::PathBuf {
    published.with_file_name(format!(".{}", published.file_name().unwrap_or_default().display()))
}

#[cfg(test)]
mod tests {
    use mysimbdp_spool::drop_directory::DropPath;

    use super::*;
    use crate::file_identity::FileIdentity;
    use crate::route::Origin;
    use crate::scan::Owner;

    #[test]
    fn a_discard_that_fails_loses_nothing_even_if_the_name_is_in_use_again() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        let drop_directory = DropDirectory::prepare(&layout).expect("drop directory");
        let path = DropPath::parse("client-input-directory/drop/a.csv").expect("path");
        let folder = drop_directory.open_or_create_directory(&path.parent()).expect("folder");
        let write = |name: &str, content: &[u8]| {
            folder.write("temporary".as_ref(), content, &folder, name.as_ref()).expect("file");
        };
        write("a.csv", b"inspected");
        let snapshot = FileSnapshot {
            identity: FileIdentity::of(&drop_directory.status(&path).expect("status")),
            path,
            origin: Origin::Shared,
            owner: Owner { client: None, lane: mysimbdp_model::manifest::Lane::Live },
            kind: FileKind::File,
            settle: std::time::Duration::ZERO,
            sentinel: None,
        };
        let unpublished = root.path().join("unpublished");
        files::create_dir_all(&unpublished).expect("directory");
        let to = Directory::open_platform(&unpublished).expect("directory");
        folder.rename("a.csv".as_ref(), &to, "a.csv".as_ref(), Existing::Keep).expect("move");
        files::write_atomic(&unpublished.join(ReasonFile::FILE), b"{}").expect("reason");
        write("a.csv", b"new");

        undo(&drop_directory, &unpublished, &snapshot).expect("undone");
        assert!(!files::exists(&unpublished));
        let dropped = root.path().join("client-input-directory/drop");
        assert_eq!(files::read(&dropped.join("a.csv")).expect("the new file"), b"new");
        let returned = files::list(&dropped).expect("list").pop().expect("a directory");
        assert_eq!(files::read(&returned.join("a.csv")).expect("the inspected file"), b"inspected");
    }
}
