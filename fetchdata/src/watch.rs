//! Wakes the intake when something happens in the drop directory. Events are only hints: the next walk sees for itself
//! what has happened, and the scheduled walks find what is missed here.
//!
//! The watch also tracks who has a file open, for files of which the kernel does not say whether they are being
//! written: [`crate::openers`].
//!
//! Each walk watches the directories that it reaches, of each area up to its share. So no client's directories use up
//! the kernel's watches, and no walk is made only to watch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mysimbdp_spool::drop_directory::{Directory, DirectoryEvent, DropPath, EventKinds, Events, WatchId};
use tokio::sync::Notify;

use crate::names;
use crate::openers::{OpenState, Openers};
use crate::route::Area;

/// The watch on the directories that the walks reach.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Without them, the scheduled walks find everything, only later.
    events: Option<Events>,
    watched: Mutex<Watched>,
    wakes: Notify,
}

/// The watched directories, by id and by path.
#[derive(Debug, Default)]
struct Watched {
    /// How many directories of each area may be watched.
    share: usize,
    directories: HashMap<WatchId, WatchedDirectory>,
    ids: HashMap<DropPath, WatchId>,
    count: BTreeMap<Area, usize>,
    openers: Openers,
    woken: Woken,
    /// Whether it has been logged that a directory cannot be watched.
    is_warned: bool,
}

#[derive(Debug)]
struct WatchedDirectory {
    path: DropPath,
    area: Area,
}

/// The areas in which something has happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken {
    /// Events were lost, so it may be anywhere.
    everywhere: bool,
    areas: BTreeSet<Area>,
}

impl Watch {
    /// Watches up to `share` directories of each area.
    pub(crate) fn new(share: usize) -> Self {
        let mut watched = Watched { share, openers: Openers::new(share), ..Watched::default() };
        let events = Events::new().inspect_err(|error| watched.warn_once(error)).ok();
        Self { events, watched: Mutex::new(watched), wakes: Notify::new() }
    }

    /// Watches a directory, if its area is within its share. Must be called before the directory is listed: then
    /// whatever happens in between is either listed or reported as an event.
    pub(crate) fn watch_directory(&self, path: &DropPath, area: &Area, directory: &Directory) {
        let Some(events) = &self.events else { return };
        self.read_events(events);
        let mut watched = self.watched();
        if let Some(id) = watched.ids.get(path).copied() {
            return watched.openers.forget_removed(id);
        }
        if watched.is_spent(area) {
            return;
        }
        match events.watch(directory) {
            Ok(id) => watched.add(id, WatchedDirectory { path: path.clone(), area: area.clone() }),
            Err(error) => watched.warn_once(&error),
        }
    }

    /// How many directories of an area are watched.
    #[cfg(test)]
    pub(crate) fn count(&self, area: &Area) -> usize {
        self.watched().count.get(area).copied().unwrap_or_default()
    }

    /// What is known about who has the file open, apart from this process, which has it open `ours` times.
    pub(crate) fn open_state(&self, path: &DropPath, ours: u32) -> OpenState {
        let Some(events) = &self.events else { return OpenState::Unknown };
        self.read_events(events);
        let watched = self.watched();
        let id = watched.ids.get(&path.parent());
        id.map_or(OpenState::Unknown, |id| watched.openers.open_state(*id, path.name(), ours))
    }

    /// Waits until something has happened since the last return, and returns where.
    pub(crate) async fn woken(&self) -> Woken {
        self.wait().await;
        std::mem::take(&mut self.watched().woken)
    }

    async fn wait(&self) {
        let Some(events) = &self.events else { return self.wakes.notified().await };
        loop {
            tokio::select! {
                () = self.wakes.notified() => return,
                waited = events.wait(|| self.try_read_events(events)) => if let Err(error) = waited {
                    self.watched().warn_once(&error);
                    return self.wakes.notified().await;
                },
            }
        }
    }

    fn read_events(&self, events: &Events) {
        if let Err(error) = self.try_read_events(events) {
            self.watched().warn_once(&error);
        }
    }

    fn try_read_events(&self, events: &Events) -> io::Result<()> {
        let mut watched = self.watched();
        events.read(|event| {
            if is_hint(&event) {
                watched.wake(&event);
                self.wakes.notify_one();
            }
            watched.count_openers(&event);
            if event.kinds.contains(EventKinds::MOVE_SELF) {
                // It has another path now; the next walk finds it there.
                events.unwatch(event.directory);
            }
            if event.kinds.intersects(EventKinds::MOVE_SELF | EventKinds::IGNORED) {
                watched.forget(event.directory);
            }
        })
    }

    /// The guarded values are whole even if a panic has poisoned the lock.
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn wake(&mut self, event: &DirectoryEvent) {
        self.woken.everywhere |= event.kinds.contains(EventKinds::QUEUE_OVERFLOW);
        // A directory that was renamed is found where it is now.
        let Some(WatchedDirectory { path, area }) = self.directories.get(&event.directory) else { return };
        self.woken.areas.insert(area.clone());
        // It may be a new client's folder.
        if path.is_root()
            && let Some(client) = event.name.to_str().and_then(|name| name.parse().ok())
        {
            self.woken.areas.insert(Area::Folder(client));
        }
    }

    fn is_spent(&self, area: &Area) -> bool {
        self.count.get(area).is_some_and(|count| *count >= self.share)
    }

    fn add(&mut self, id: WatchId, directory: WatchedDirectory) {
        // It may be the same directory under another path.
        self.forget(id);
        *self.count.entry(directory.area.clone()).or_default() += 1;
        self.ids.insert(directory.path.clone(), id);
        self.directories.insert(id, directory);
    }

    fn count_openers(&mut self, event: &DirectoryEvent) {
        let area = self.directories.get(&event.directory).map(|directory| &directory.area);
        self.openers.record(event, area);
    }

    fn forget(&mut self, id: WatchId) {
        self.openers.forget(id);
        let Some(WatchedDirectory { path, area }) = self.directories.remove(&id) else { return };
        self.ids.remove(&path);
        if let Some(count) = self.count.get_mut(&area) {
            *count -= 1;
        }
    }

    /// Only once: the kernel's limit affects many directories.
    fn warn_once(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_warned, true) {
            tracing::warn!(%error, "part of the drop directory cannot be watched, files there are found only by scheduled walks");
        }
    }
}

impl Woken {
    #[cfg(test)]
    pub(crate) fn in_area(area: Area) -> Self {
        Self { everywhere: false, areas: BTreeSet::from([area]) }
    }

    #[cfg(test)]
    pub(crate) fn all() -> Self {
        Self { everywhere: true, areas: BTreeSet::new() }
    }

    pub(crate) fn has(&self, area: &Area) -> bool {
        self.everywhere || self.areas.contains(area)
    }
}

/// Whether the event may mean a new file. Reading and moving away are this process's own actions: waking on them
/// would never end.
fn is_hint(event: &DirectoryEvent) -> bool {
    // Events were lost, so a walk is needed.
    if event.kinds.contains(EventKinds::QUEUE_OVERFLOW) {
        return true;
    }
    let of_interest =
        EventKinds::CREATE | EventKinds::MOVED_TO | EventKinds::CLOSE_WRITE | EventKinds::ATTRIB;
    event.kinds.intersects(of_interest) && !names::is_temporary(&event.name)
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::layout::Layout;
    use mysimbdp_spool::drop_directory::DropDirectory;

    use super::*;

    fn event(kinds: EventKinds, name: &str) -> DirectoryEvent {
        let root = tempfile::tempdir().expect("temporary directory");
        let drop_directory = DropDirectory::prepare(&Layout::new(root.path())).expect("drop directory");
        let directory = Events::new().expect("events").watch(drop_directory.root()).expect("watch");
        DirectoryEvent { directory, kinds, cookie: 0, name: name.into() }
    }

    #[tokio::test]
    async fn an_event_wakes_its_area() {
        let client = |id: &str| id.parse::<mysimbdp_model::client::ClientId>().expect("client id");
        let root = tempfile::tempdir().expect("temporary directory");
        let drop_directory = DropDirectory::prepare(&Layout::new(root.path())).expect("drop directory");
        let watch = Watch::new(10);
        watch.watch_directory(&DropPath::root(), &Area::Shared, drop_directory.root());
        for id in ["aaron", "zoe"] {
            let path = DropPath::root().join(id.as_ref());
            drop_directory.open_or_create_directory(&path).expect("folder");
            let woken = watch.woken().await;
            assert!(woken.has(&Area::Shared) && woken.has(&Area::Folder(client(id))), "{woken:?}");
            let folder = drop_directory.directory(&path).expect("folder");
            watch.watch_directory(&path, &Area::Folder(client(id)), &folder);
        }
        drop_directory
            .open_or_create_directory(&DropPath::root().join("zoe".as_ref()).join("1".as_ref()))
            .expect("new");
        assert_eq!(watch.woken().await, Woken::in_area(Area::Folder(client("zoe"))));
        let lost = DirectoryEvent { kinds: EventKinds::QUEUE_OVERFLOW, ..event(EventKinds::CREATE, "a.csv") };
        watch.watched().wake(&lost);
        watch.wakes.notify_one();
        assert!(watch.woken().await.has(&Area::Folder(client("anybody"))));
    }

    #[tokio::test]
    async fn events_that_may_mean_a_new_file_wake_and_our_own_actions_do_not() {
        for (kinds, name) in [
            (EventKinds::CREATE, "a.csv"),
            (EventKinds::CREATE | EventKinds::ISDIR, "directory"),
            (EventKinds::MOVED_TO, "a.csv"),
            (EventKinds::CLOSE_WRITE, "a.csv"),
            (EventKinds::ATTRIB, ""),
            (EventKinds::QUEUE_OVERFLOW, ""),
        ] {
            assert!(is_hint(&event(kinds, name)), "{kinds:?}");
        }
        for (kinds, name) in [
            (EventKinds::OPEN, "a.csv"),
            (EventKinds::CLOSE_NOWRITE, "a.csv"),
            (EventKinds::MOVED_FROM, "a.csv"),
            (EventKinds::DELETE, "a.csv"),
            (EventKinds::CREATE, ".a.csv.X8s7"),
        ] {
            assert!(!is_hint(&event(kinds, name)), "{kinds:?}");
        }
    }
}
