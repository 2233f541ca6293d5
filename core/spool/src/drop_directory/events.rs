//! What happens in open directories, as the kernel tells it (inotify). Nothing but hints: events may be lost, and what they
//! name may have become something else.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use rustix::fs::inotify::ReadFlags as EventKinds;

use super::Directory;
use super::directory::path_of_descriptor;

/// Some hundred events.
const BUFFER_BYTES: usize = 16 << 10;

const OF_INTEREST: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::OPEN)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CLOSE_NOWRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// A directory that is watched, whatever its name is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId(i32);

/// Something has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// In which directory; it means nothing if events were lost ([`EventKinds::QUEUE_OVERFLOW`]).
    pub watch: WatchId,
    pub kinds: EventKinds,
    /// Which both events of a move have.
    pub cookie: u32,
    /// To what in it; empty if to the directory itself.
    pub name: OsString,
}

/// The events of all directories that are watched.
#[derive(Debug)]
pub struct Events {
    descriptor: AsyncFd<OwnedFd>,
}

impl Events {
    /// # Errors
    ///
    /// The kernel gives no more of them to this user.
    #[allow(unsafe_code)]
    pub fn new() -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // SAFETY: `descriptor` owns its file descriptor, never gives another, and is dropped with what it is registered in.
        let descriptor = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self { descriptor: descriptor.map_err(io::Error::from)? })
    }

    /// Watches a directory, but nothing below it. The same directory has the same id.
    ///
    /// # Errors
    ///
    /// It may not be read, or the kernel watches no more for this user.
    pub fn watch(&self, directory: &Directory) -> io::Result<WatchId> {
        let path = path_of_descriptor(directory);
        Ok(WatchId(inotify::add_watch(self.descriptor.get_ref(), path, OF_INTEREST)?))
    }

    /// Watches a directory no longer.
    pub fn unwatch(&self, watch: WatchId) {
        // It is gone already if the directory is.
        let _ = inotify::remove_watch(self.descriptor.get_ref(), watch.0);
    }

    /// Calls `visit` with what has happened since the last time, in order. Does not wait.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub fn read(&self, mut visit: impl FnMut(Event)) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = inotify::Reader::new(self.descriptor.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                    let (watch, kinds, cookie) = (WatchId(event.wd()), event.events(), event.cookie());
                    visit(Event { watch, kinds, cookie, name: name.unwrap_or_default() });
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns when something has happened, after `read` has taken it in.
    ///
    /// # Errors
    ///
    /// The kernel does not tell.
    pub async fn happened(&self, read: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut ready = self.descriptor.readable().await?;
        let taken = read();
        // Only of what was readable before: the runtime knows if there is more since.
        ready.clear_ready();
        taken
    }
}
