//! Moves a file that validation refuses to `discarded/`, with its reasons. Nothing is deleted.

use std::path::Path;

use jiff::Timestamp;
use mysimbdp_core::client::ClientId;
use mysimbdp_core::failpoint;
use mysimbdp_core::ingestion::IngestionId;
use mysimbdp_core::io::files::{self, FileError};
use mysimbdp_core::io::{clock, random};
use mysimbdp_core::layout::Layout;
use mysimbdp_core::reason::Reason;

use crate::capture::{self, Captured};
use crate::names;
use crate::scan::{Kind, Look, Stamp};

/// A file and why it is refused.
#[derive(Debug)]
pub(crate) struct Refused<'a> {
    pub(crate) look: &'a Look,
    pub(crate) client: Option<&'a ClientId>,
    /// Where it was read.
    pub(crate) ingestion: Option<IngestionId>,
    pub(crate) received_at: Timestamp,
    pub(crate) reasons: Vec<String>,
}

/// Discards the file. The directory is put together out of sight, so what can be seen is complete.
pub(crate) fn discard(layout: &Layout, refused: Refused) -> Result<Captured, FileError> {
    let visible = layout.discarded(refused.client, refused.received_at, random::number());
    let unseen = unseen(&visible);
    files::create_dir_all(&unseen)?;
    failpoint::hit("fetchdata.discard-begun");
    let moved = fill(layout, &unseen, &refused).and_then(|captured| {
        if captured == Captured::Yes {
            failpoint::hit("fetchdata.discard-filled");
            files::rename(&unseen, &visible)?;
            failpoint::hit("fetchdata.discarded");
        }
        Ok(captured)
    });
    if !matches!(moved, Ok(Captured::Yes)) {
        undo(&unseen, refused.look)?;
        return moved;
    }
    tracing::warn!(
        client = refused.client.map_or(Layout::UNROUTED, ClientId::as_str),
        file = names::plain(refused.look.path.file_name().unwrap_or_default()),
        bytes = refused.look.stamp.bytes,
        reasons = refused.reasons.join("; "),
        directory = %visible.display(),
        "discarded"
    );
    moved
}

fn fill(layout: &Layout, directory: &Path, refused: &Refused) -> Result<Captured, FileError> {
    let path = &refused.look.path;
    let name = path.file_name().unwrap_or_default();
    let dropped_at = path.strip_prefix(layout.root()).unwrap_or(path);
    let reason = Reason {
        file: names::plain(name),
        client: refused.client.map(ToString::to_string),
        ingestion: refused.ingestion.map(|ingestion| ingestion.to_string()),
        dropped_at: names::plain(dropped_at.as_os_str()),
        bytes: refused.look.stamp.bytes,
        received_at: refused.received_at,
        decided_at: clock::now(),
        reasons: refused.reasons.clone(),
    };
    let json = serde_json::to_vec_pretty(&reason).expect("a reason has no map");
    files::write_durable(&directory.join(Reason::FILE), &json)?;
    failpoint::hit("fetchdata.discard-explained");
    let mut to = directory.join(names::safe(name));
    if name == Reason::FILE {
        to.set_file_name(format!("{}.discarded", Reason::FILE));
    }
    match capture::capture(path, &to, &refused.look.stamp) {
        Err(error) if error.is_cross_device() && refused.look.kind == Kind::File => {
            if Stamp::of(&files::metadata(path)?) != refused.look.stamp {
                return Ok(Captured::Replaced);
            }
            files::move_file(path, &to)?;
            Ok(Captured::Yes)
        }
        captured => captured,
    }
}

/// Nothing that was dropped may be left in a directory that nobody sees, or go with it.
fn undo(unseen: &Path, look: &Look) -> Result<(), FileError> {
    // Cut off before a copy to another file system was complete, the file itself still lies where it was.
    let is_copy = files::metadata(&look.path).is_ok_and(|metadata| Stamp::of(&metadata) == look.stamp);
    for path in files::list(unseen)? {
        if !is_copy && path.file_name().is_some_and(|name| name != Reason::FILE && !names::is_temporary(name))
        {
            capture::put_back(&path, &look.path)?;
        }
    }
    files::remove_dir_all(unseen)
}

fn unseen(visible: &Path) -> std::path::PathBuf {
    visible.with_file_name(format!(".{}", visible.file_name().unwrap_or_default().display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Place;

    fn look_at(path: &Path) -> Look {
        Look {
            path: path.to_owned(),
            place: Place::Shared,
            kind: Kind::File,
            stamp: Stamp::of(&files::metadata(path).expect("metadata")),
            settle: std::time::Duration::ZERO,
            sentinel: None,
        }
    }

    #[test]
    fn a_discard_that_fails_loses_nothing_even_where_the_name_is_in_use_again() {
        let root = tempfile::tempdir().expect("temporary directory");
        let (dropped, unseen) = (root.path().join("drop/a.csv"), root.path().join("unseen"));
        for directory in [root.path().join("drop"), unseen.clone()] {
            files::create_dir_all(&directory).expect("directory");
        }
        files::write_atomic(&dropped, b"judged").expect("file");
        let look = look_at(&dropped);
        files::rename(&dropped, &unseen.join("a.csv")).expect("move");
        files::write_atomic(&unseen.join(Reason::FILE), b"{}").expect("reason");
        files::write_atomic(&dropped, b"new").expect("another file of the same name");

        undo(&unseen, &look).expect("undone");
        assert!(!files::exists(&unseen));
        assert_eq!(files::read(&dropped).expect("the new file"), b"new");
        let returned = files::list(&root.path().join("drop")).expect("list").pop().expect("a directory");
        assert_eq!(files::read(&returned.join("a.csv")).expect("the judged file"), b"judged");
    }

    #[test]
    fn a_copy_that_was_cut_off_goes_and_its_original_stays() {
        let root = tempfile::tempdir().expect("temporary directory");
        let (dropped, unseen) = (root.path().join("a.csv"), root.path().join("unseen"));
        files::create_dir_all(&unseen).expect("directory");
        files::write_atomic(&dropped, b"whole").expect("file");
        files::write_atomic(&unseen.join("a.csv"), b"wh").expect("half a copy");

        undo(&unseen, &look_at(&dropped)).expect("undone");
        assert_eq!(files::list(root.path()).expect("list"), std::slice::from_ref(&dropped));
        assert_eq!(files::read(&dropped).expect("the file"), b"whole");
    }
}
