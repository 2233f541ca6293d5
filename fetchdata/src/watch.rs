//! Wakes the scanner when something happens in the drop directory. Nothing but a hint: what has happened, the scanner sees
//! for itself, and what is missed here it finds on its own clock.
//!
//! It also counts who has a file open, for those files of which the kernel does not say whether they are being written:
//! [`crate::openers`].
//!
//! Each walk has those directories watched that it looks at, of each area as many as its share. So no client's directories use
//! up what the kernel gives, and nothing is walked for this alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mysimbdp_spool::drop_directory::{Directory, DropPath, Event, EventKinds, Events, WatchId};
use tokio::sync::Notify;

use crate::names;
use crate::openers::{Openers, Seen};
use crate::route::Area;

/// The watch on the directories that have been looked at.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Without them the scans on the clock find everything, later.
    events: Option<Events>,
    watched: Mutex<Watched>,
    wakes: Notify,
}

/// What is watched, both ways.
#[derive(Debug, Default)]
struct Watched {
    /// Directories of an area.
    share: usize,
    directories: HashMap<WatchId, Watching>,
    ids: HashMap<DropPath, WatchId>,
    count: BTreeMap<Area, usize>,
    openers: Openers,
    woken: Woken,
    /// It was said that something cannot be watched.
    told: bool,
}

#[derive(Debug)]
struct Watching {
    path: DropPath,
    area: Area,
}

/// Where something has happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken {
    /// Events were lost: it may be anywhere.
    everywhere: bool,
    areas: BTreeSet<Area>,
}

impl Watch {
    /// Watches up to `share` directories of each area.
    pub(crate) fn new(share: usize) -> Self {
        let mut watched = Watched { share, openers: Openers::new(share), ..Watched::default() };
        let events = Events::new().inspect_err(|error| watched.tell(error)).ok();
        Self { events, watched: Mutex::new(watched), wakes: Notify::new() }
    }

    /// Has a directory watched; of each area only as many as its share. Before it is listed: what comes in between is then
    /// seen by the one or told by the other.
    pub(crate) fn cover(&self, path: &DropPath, area: &Area, directory: &Directory) {
        let Some(events) = &self.events else { return };
        self.take_in(events);
        let mut watched = self.watched();
        if let Some(id) = watched.ids.get(path).copied() {
            return watched.openers.forget_gone(id);
        }
        if watched.is_spent(area) {
            return;
        }
        match events.watch(directory) {
            Ok(id) => watched.add(id, Watching { path: path.clone(), area: area.clone() }),
            Err(error) => watched.tell(&error),
        }
    }

    /// How many directories of an area are watched.
    #[cfg(test)]
    pub(crate) fn count(&self, area: &Area) -> usize {
        self.watched().count.get(area).copied().unwrap_or_default()
    }

    /// What is known of who has the file open, beside this process, which has it open `ours` times.
    pub(crate) fn seen(&self, path: &DropPath, ours: u32) -> Seen {
        let Some(events) = &self.events else { return Seen::Unknown };
        self.take_in(events);
        let watched = self.watched();
        let id = watched.ids.get(&path.parent());
        id.map_or(Seen::Unknown, |id| watched.openers.seen(*id, path.name(), ours))
    }

    /// Returns when something has happened since it last returned, with where that was.
    pub(crate) async fn woken(&self) -> Woken {
        self.happened().await;
        std::mem::take(&mut self.watched().woken)
    }

    async fn happened(&self) {
        let Some(events) = &self.events else { return self.wakes.notified().await };
        loop {
            tokio::select! {
                () = self.wakes.notified() => return,
                happened = events.happened(|| self.try_take_in(events)) => if let Err(error) = happened {
                    self.watched().tell(&error);
                    return self.wakes.notified().await;
                },
            }
        }
    }

    fn take_in(&self, events: &Events) {
        if let Err(error) = self.try_take_in(events) {
            self.watched().tell(&error);
        }
    }

    fn try_take_in(&self, events: &Events) -> io::Result<()> {
        let mut watched = self.watched();
        events.read(|event| {
            if is_hint(&event) {
                watched.wake(&event);
                self.wakes.notify_one();
            }
            watched.count_openers(&event);
            if event.kinds.contains(EventKinds::MOVE_SELF) {
                // It has another path now, under which the next walk finds it.
                events.unwatch(event.watch);
            }
            if event.kinds.intersects(EventKinds::MOVE_SELF | EventKinds::IGNORED) {
                watched.forget(event.watch);
            }
        })
    }

    /// A lock that a panic has poisoned still guards whole values here.
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn wake(&mut self, event: &Event) {
        self.woken.everywhere |= event.kinds.contains(EventKinds::QUEUE_OVERFLOW);
        // What was renamed away is found where it is now.
        let Some(Watching { path, area }) = self.directories.get(&event.watch) else { return };
        self.woken.areas.insert(area.clone());
        // Perhaps a client's folder has come.
        if path.is_root()
            && let Some(client) = event.name.to_str().and_then(|name| name.parse().ok())
        {
            self.woken.areas.insert(Area::Folder(client));
        }
    }

    fn is_spent(&self, area: &Area) -> bool {
        self.count.get(area).is_some_and(|count| *count >= self.share)
    }

    fn add(&mut self, id: WatchId, watching: Watching) {
        // The same directory under another path.
        self.forget(id);
        *self.count.entry(watching.area.clone()).or_default() += 1;
        self.ids.insert(watching.path.clone(), id);
        self.directories.insert(id, watching);
    }

    fn count_openers(&mut self, event: &Event) {
        let area = self.directories.get(&event.watch).map(|watching| &watching.area);
        self.openers.happened(event, area);
    }

    fn forget(&mut self, id: WatchId) {
        self.openers.forget(id);
        let Some(Watching { path, area }) = self.directories.remove(&id) else { return };
        self.ids.remove(&path);
        if let Some(count) = self.count.get_mut(&area) {
            *count -= 1;
        }
    }

    /// Once: the kernel's limit is reached by many.
    fn tell(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(%error, "part of the drop directory cannot be watched, files there are found by scans alone");
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

/// Reading and taking away are what we do ourselves: to wake on them would never end.
fn is_hint(event: &Event) -> bool {
    // Events were lost, so there is something to look at.
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

    fn event(kinds: EventKinds, name: &str) -> Event {
        let root = tempfile::tempdir().expect("temporary directory");
        let drop_directory = DropDirectory::prepare(&Layout::new(root.path())).expect("drop directory");
        let watch = Events::new().expect("events").watch(drop_directory.root()).expect("watch");
        Event { watch, kinds, cookie: 0, name: name.into() }
    }

    #[tokio::test]
    async fn an_event_wakes_the_area_in_which_it_is() {
        let client = |id: &str| id.parse::<mysimbdp_model::client::ClientId>().expect("client id");
        let root = tempfile::tempdir().expect("temporary directory");
        let drop_directory = DropDirectory::prepare(&Layout::new(root.path())).expect("drop directory");
        let watch = Watch::new(10);
        watch.cover(&DropPath::root(), &Area::Shared, drop_directory.root());
        for id in ["aaron", "zoe"] {
            let path = DropPath::root().join(id.as_ref());
            drop_directory.make_directory(&path).expect("folder");
            let woken = watch.woken().await;
            assert!(woken.has(&Area::Shared) && woken.has(&Area::Folder(client(id))), "{woken:?}");
            let folder = drop_directory.directory(&path).expect("folder");
            watch.cover(&path, &Area::Folder(client(id)), &folder);
        }
        drop_directory
            .make_directory(&DropPath::root().join("zoe".as_ref()).join("1".as_ref()))
            .expect("new");
        assert_eq!(watch.woken().await, Woken::in_area(Area::Folder(client("zoe"))));
        let lost = Event { kinds: EventKinds::QUEUE_OVERFLOW, ..event(EventKinds::CREATE, "a.csv") };
        watch.watched().wake(&lost);
        watch.wakes.notify_one();
        assert!(watch.woken().await.has(&Area::Folder(client("anybody"))));
    }

    #[tokio::test]
    async fn what_may_mean_a_new_file_wakes_and_our_own_doing_does_not() {
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
