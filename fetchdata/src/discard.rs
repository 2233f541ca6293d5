//! Moves a file that validation refuses to `discarded/`, with its reasons. Nothing is deleted.

use std::path::Path;

use jiff::Timestamp;
use mysimbdp_core::client::ClientId;
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
    let moved = fill(layout, &unseen, &refused).and_then(|captured| {
        if captured == Captured::Yes {
            files::rename(&unseen, &visible)?;
        }
        Ok(captured)
    });
    if !matches!(moved, Ok(Captured::Yes)) {
        undo(&unseen, &refused.look.path)?;
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

/// Nothing that was dropped may be left in a directory that nobody sees.
fn undo(unseen: &Path, dropped: &Path) -> Result<(), FileError> {
    for path in files::list(unseen)? {
        if path.file_name().is_some_and(|name| name != Reason::FILE) && !files::exists(dropped) {
            capture::put_back(&path, dropped)?;
        }
    }
    files::remove_dir_all(unseen)
}

fn unseen(visible: &Path) -> std::path::PathBuf {
    visible.with_file_name(format!(".{}", visible.file_name().unwrap_or_default().display()))
}
