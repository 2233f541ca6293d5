//! Who has a file open, from the events in its directory since that is watched.
//!
//! For files of which the kernel does not say it: those of another user, without `CAP_LEASE`. Pure: events in, answers out.
//! Two equal events that follow each other may be told as one, so a count is no proof; what is sure is that a file was made
//! here and not been closed, or that it was closed and is not open.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};

use mysimbdp_spool::drop_directory::{Event, EventKinds, WatchId};

use crate::route::Area;

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It was made, and whoever did it has not closed it.
    Open,
    /// Whoever wrote to it has closed it, and nobody has it open.
    Closed,
    /// It was there before, came under this name from elsewhere, or is open to read or to write after it was closed.
    Unknown,
}

/// How it is known that nobody writes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The kernel says so, or the sender does by a sentinel.
    ByKernel,
    /// Its writer was seen to close it.
    ByEvents,
    /// It is not known. It has rested for long.
    NotSeen,
}

/// The files of all directories that are watched, of each area a share.
#[derive(Debug, Default)]
pub(crate) struct Openers {
    share: usize,
    directories: HashMap<WatchId, Files>,
    count: BTreeMap<Area, usize>,
    /// What has left its directory, until it is told where it is now.
    moved: Option<(u32, Opener)>,
}

#[derive(Debug)]
struct Files {
    area: Area,
    by_name: HashMap<OsString, Opener>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Opener {
    made: bool,
    open: u32,
    /// By somebody who could write.
    closed: bool,
    /// It lies there no more. Still known until the next walk: whoever takes a file asks once more when it has moved it.
    gone: bool,
}

impl Openers {
    /// Up to `share` files of each area.
    pub(crate) fn new(share: usize) -> Self {
        Self { share, ..Self::default() }
    }

    /// Takes in an event in a directory of `area`; `None` if the directory is not watched any more.
    pub(crate) fn happened(&mut self, event: &Event, area: Option<&Area>) {
        if event.kinds.contains(EventKinds::QUEUE_OVERFLOW) {
            // Whatever was closed, or opened, nobody knows.
            *self = Self::new(self.share);
            return;
        }
        let Some(area) = area.filter(|_| !event.name.is_empty() && !event.kinds.contains(EventKinds::ISDIR))
        else {
            return;
        };
        let known = self.get(event);
        let next = if event.kinds.contains(EventKinds::CREATE) {
            Some(Opener { made: true, ..Opener::default() })
        } else if event.kinds.contains(EventKinds::MOVED_TO) {
            self.moved.take().filter(|(cookie, _)| *cookie == event.cookie).map(|(_, opener)| opener)
        } else {
            let mut opener = known.unwrap_or_default();
            opener.take_in(event.kinds);
            if event.kinds.contains(EventKinds::MOVED_FROM) {
                self.moved = known.map(|known| (event.cookie, known));
            }
            Some(opener)
        };
        self.put(event, area, next);
    }

    pub(crate) fn seen(&self, directory: WatchId, name: &OsStr, ours: u32) -> Seen {
        let file = self.directories.get(&directory).and_then(|files| files.by_name.get(name));
        match file {
            Some(file) if file.closed && file.open <= ours => Seen::Closed,
            Some(file) if file.made && !file.closed && file.open > ours => Seen::Open,
            _ => Seen::Unknown,
        }
    }

    /// Forgets the files that lie there no more.
    pub(crate) fn forget_gone(&mut self, directory: WatchId) {
        let Some(files) = self.directories.get_mut(&directory) else { return };
        let before = files.by_name.len();
        files.by_name.retain(|_, file| !file.gone);
        let (gone, area) = (before - files.by_name.len(), files.area.clone());
        self.uncount(&area, gone);
    }

    /// Forgets a directory.
    pub(crate) fn forget(&mut self, directory: WatchId) {
        if let Some(files) = self.directories.remove(&directory) {
            self.uncount(&files.area, files.by_name.len());
        }
    }

    fn get(&self, event: &Event) -> Option<Opener> {
        self.directories.get(&event.watch)?.by_name.get(&event.name).copied()
    }

    fn put(&mut self, event: &Event, area: &Area, opener: Option<Opener>) {
        let files = self
            .directories
            .entry(event.watch)
            .or_insert_with(|| Files { area: area.clone(), by_name: HashMap::new() });
        let count = self.count.entry(files.area.clone()).or_default();
        match (opener, files.by_name.get_mut(&event.name)) {
            (Some(opener), Some(known)) => *known = opener,
            (Some(opener), None) if *count < self.share => {
                files.by_name.insert(event.name.clone(), opener);
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

impl Opener {
    fn take_in(&mut self, kinds: EventKinds) {
        if kinds.contains(EventKinds::OPEN) {
            self.open = self.open.saturating_add(1);
        }
        if kinds.intersects(EventKinds::CLOSE_WRITE | EventKinds::CLOSE_NOWRITE) {
            self.open = self.open.saturating_sub(1);
        }
        self.closed |= kinds.contains(EventKinds::CLOSE_WRITE);
        self.gone |= kinds.intersects(EventKinds::MOVED_FROM | EventKinds::DELETE);
    }
}

#[cfg(test)]
mod tests;
