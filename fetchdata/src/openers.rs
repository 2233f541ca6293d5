//! Tracks who has a file open, from the events in its directory since that is watched.
//!
//! It serves files of which the kernel does not tell: those of another user, without `CAP_LEASE`. Pure: events in,
//! answers out. It is certain whether a file was created here, and whether a writer has closed it. How many have it
//! open is less certain, as two equal consecutive events may be reported as one: if these were two closes, the file
//! waits longer; if they were two opens, a file that is still open may count as closed.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};

use mysimbdp_spool::drop_directory::{DirectoryEvent, EventKinds, WatchId};

use crate::route::Area;

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenState {
    /// It was created, and its creator has not closed it.
    Open,
    /// Its writer has closed it, and nobody has it open.
    Closed,
    /// It predates the watch, got this name by a move from elsewhere, or is open (for reading or writing) after it
    /// was closed.
    Unknown,
}

/// How it is known that nobody writes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClosedEvidence {
    /// The kernel says so, or the sender does with a sentinel.
    KernelOrSender,
    /// Its writer was seen to close it.
    Events,
    /// None but the time: the file has settled longer.
    SettledLonger,
}

/// The files of all watched directories; each area has a share.
#[derive(Debug, Default)]
pub(crate) struct Openers {
    share: usize,
    directories: HashMap<WatchId, Files>,
    count: BTreeMap<Area, usize>,
    /// A file that has left its directory, until the event of its arrival elsewhere.
    moved: Option<(u32, FileEvents)>,
}

#[derive(Debug)]
struct Files {
    area: Area,
    by_name: HashMap<OsString, FileEvents>,
}

/// What the events tell of one file.
#[derive(Clone, Copy, Debug, Default)]
struct FileEvents {
    created: bool,
    open: u32,
    /// By an opener that could write.
    closed: bool,
    /// It is no longer there. Remembered until the next walk: whoever processes a file asks once more after moving
    /// it.
    removed: bool,
}

impl Openers {
    /// Tracks up to `share` files of each area.
    pub(crate) fn new(share: usize) -> Self {
        Self { share, ..Self::default() }
    }

    /// Records an event in a directory of `area`; `None` if the directory is not watched any more.
    pub(crate) fn record(&mut self, event: &DirectoryEvent, area: Option<&Area>) {
        if event.kinds.contains(EventKinds::QUEUE_OVERFLOW) {
            // Events were lost, so what was opened or closed is unknown.
            *self = Self::new(self.share);
            return;
        }
        let Some(area) = area.filter(|_| !event.name.is_empty() && !event.kinds.contains(EventKinds::ISDIR))
        else {
            return;
        };
        let known = self.get(event);
        let next = if event.kinds.contains(EventKinds::CREATE) {
            Some(FileEvents { created: true, ..FileEvents::default() })
        } else if event.kinds.contains(EventKinds::MOVED_TO) {
            self.moved.take().filter(|(cookie, _)| *cookie == event.cookie).map(|(_, events)| events)
        } else {
            let mut events = known.unwrap_or_default();
            events.record(event.kinds);
            if event.kinds.contains(EventKinds::MOVED_FROM) {
                self.moved = known.map(|known| (event.cookie, known));
            }
            Some(events)
        };
        self.put(event, area, next);
    }

    pub(crate) fn open_state(&self, directory: WatchId, name: &OsStr, ours: u32) -> OpenState {
        let file = self.directories.get(&directory).and_then(|files| files.by_name.get(name));
        match file {
            Some(file) if file.closed && file.open <= ours => OpenState::Closed,
            Some(file) if file.created && !file.closed && file.open > ours => OpenState::Open,
            _ => OpenState::Unknown,
        }
    }

    /// Forgets the files that are no longer there.
    pub(crate) fn forget_removed(&mut self, directory: WatchId) {
        let Some(files) = self.directories.get_mut(&directory) else { return };
        let before = files.by_name.len();
        files.by_name.retain(|_, file| !file.removed);
        let (removed, area) = (before - files.by_name.len(), files.area.clone());
        self.uncount(&area, removed);
    }

    /// Forgets a directory.
    pub(crate) fn forget(&mut self, directory: WatchId) {
        if let Some(files) = self.directories.remove(&directory) {
            self.uncount(&files.area, files.by_name.len());
        }
    }

    fn get(&self, event: &DirectoryEvent) -> Option<FileEvents> {
        self.directories.get(&event.directory)?.by_name.get(&event.name).copied()
    }

    fn put(&mut self, event: &DirectoryEvent, area: &Area, events: Option<FileEvents>) {
        let files = self
            .directories
            .entry(event.directory)
            .or_insert_with(|| Files { area: area.clone(), by_name: HashMap::new() });
        let count = self.count.entry(files.area.clone()).or_default();
        match (events, files.by_name.get_mut(&event.name)) {
            (Some(events), Some(known)) => *known = events,
            (Some(events), None) if *count < self.share => {
                files.by_name.insert(event.name.clone(), events);
                *count += 1;
            }
            (Some(_), None) => {}
            (None, known) => {
                *count -= usize::from(known.is_some());
                files.by_name.remove(&event.name);
            }
        }
    }

    fn uncount(&mut self, area: &Area, files: usize) {
        if let Some(count) = self.count.get_mut(area) {
            *count -= files;
        }
    }
}

impl FileEvents {
    fn record(&mut self, kinds: EventKinds) {
        if kinds.contains(EventKinds::OPEN) {
            self.open = self.open.saturating_add(1);
        }
        if kinds.intersects(EventKinds::CLOSE_WRITE | EventKinds::CLOSE_NOWRITE) {
            self.open = self.open.saturating_sub(1);
        }
        self.closed |= kinds.contains(EventKinds::CLOSE_WRITE);
        self.removed |= kinds.intersects(EventKinds::MOVED_FROM | EventKinds::DELETE);
    }
}

#[cfg(test)]
mod tests;
