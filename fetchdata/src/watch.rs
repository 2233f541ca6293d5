//! Wakes the scanner when something happens at the drop point. Nothing but a hint: what has happened, the scanner sees
//! for itself, and what is missed here it finds on its own clock.

use std::path::Path;
use std::sync::Arc;

use mysimbdp_core::io::drop_directory::DropDirectory;
use mysimbdp_core::io::files;
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::names;

/// The watch on the drop point and all directories in it.
#[derive(Debug)]
pub(crate) struct Watch {
    wakes: Arc<Notify>,
    /// Without it the scans on the clock find everything, later.
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    pub(crate) fn start(directory: &Path) -> Self {
        let wakes = Arc::new(Notify::new());
        let watcher = watcher(directory, Arc::clone(&wakes)).inspect_err(|error| tell(directory, error)).ok();
        Self { wakes, _watcher: watcher }
    }

    /// Returns when something has happened since it last returned.
    pub(crate) async fn woken(&self) {
        self.wakes.notified().await;
    }
}

fn watcher(directory: &Path, wakes: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    // The drop directory itself may be a symlink of the operator's.
    let directory = files::canonical(directory).map_err(|error| notify::Error::io(error.source))?;
    let watched = directory.clone();
    let wake = move |event: notify::Result<Event>| {
        // An error or an overflow means that events were lost, so there is something to look at.
        if event.is_err() || event.is_ok_and(|event| is_hint(&event, &directory)) {
            wakes.notify_one();
        }
    };
    // A symlink of a sender's may lead anywhere, also to where there is more than can be watched.
    let mut watcher = RecommendedWatcher::new(wake, Config::default().with_follow_symlinks(false))?;
    if watcher.watch(&watched, RecursiveMode::Recursive).is_err() {
        // Something in it may not be read, which is no reason to see nothing of the others.
        watcher.watch(&watched, RecursiveMode::NonRecursive)?;
        for name in files::names(&watched).unwrap_or_default() {
            let path = watched.join(name);
            if files::metadata(&path).is_ok_and(|metadata| metadata.is_dir())
                && let Err(error) = watcher.watch(&path, RecursiveMode::Recursive)
            {
                tell(&path, &error);
            }
        }
    }
    Ok(watcher)
}

fn tell(directory: &Path, error: &notify::Error) {
    tracing::warn!(
        directory = names::plain(directory.as_os_str()),
        error = mysimbdp_core::chain(error),
        "part of the drop point cannot be watched, files there are found by scans alone"
    );
}

/// Reading and taking away are what we do ourselves: to wake on them would never end.
fn is_hint(event: &Event, directory: &Path) -> bool {
    if event.need_rescan() {
        return true;
    }
    let of_interest = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => true,
    };
    of_interest
        && event.paths.iter().any(|path| {
            path.file_name().is_none_or(|name| !names::is_temporary(name))
                && !DropDirectory::is_own(path, directory)
        })
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, Flag, RemoveKind};

    use super::*;

    #[test]
    fn what_may_mean_a_new_file_wakes_and_our_own_doing_does_not() {
        let at = |kind, path: &str| Event::new(kind).add_path(path.into());
        let directory = Path::new("/in");
        for event in [
            at(EventKind::Create(CreateKind::File), "/in/a.csv"),
            at(EventKind::Create(CreateKind::Folder), "/in/directory"),
            at(EventKind::Modify(ModifyKind::Name(RenameMode::To)), "/in/a.csv"),
            at(EventKind::Access(AccessKind::Close(AccessMode::Write)), "/in/a.csv"),
            Event::new(EventKind::Other).set_flag(Flag::Rescan),
        ] {
            assert!(is_hint(&event, directory), "{event:?}");
        }
        for event in [
            at(EventKind::Access(AccessKind::Open(AccessMode::Read)), "/in/a.csv"),
            at(EventKind::Access(AccessKind::Close(AccessMode::Read)), "/in/a.csv"),
            at(EventKind::Modify(ModifyKind::Name(RenameMode::From)), "/in/a.csv"),
            at(EventKind::Remove(RemoveKind::File), "/in/a.csv"),
            at(EventKind::Create(CreateKind::File), "/in/.a.csv.X8s7"),
            at(EventKind::Modify(ModifyKind::Name(RenameMode::To)), "/in/.mysimbdp/0123/client1/a.csv"),
        ] {
            assert!(!is_hint(&event, directory), "{event:?}");
        }
    }
}
