//! Events in open directories, as the kernel reports them (inotify). They are only hints: events may be lost, and a name
//! may refer to something else by now.

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

/// Space for some hundred events.
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

/// Identifies a watched directory, whatever its name is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId(i32);

/// Something that has happened in a watched directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEvent {
    /// The directory; meaningless if events were lost ([`EventKinds::QUEUE_OVERFLOW`]).
    pub directory: WatchId,
    pub kinds: EventKinds,
    /// The same for both events of a move.
    pub cookie: u32,
    /// The entry concerned; empty for the directory itself.
    pub name: OsString,
}

/// The events of all watched directories.
#[derive(Debug)]
pub struct Events {
    descriptor: AsyncFd<OwnedFd>,
}

impl Events {
    /// # Errors
    ///
    /// The kernel allows this user no more inotify instances.
    #[allow(unsafe_code)]
    pub fn new() -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // SAFETY: `descriptor` owns its file descriptor, never returns another one, and is dropped with its registration.
        let descriptor = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self { descriptor: descriptor.map_err(io::Error::from)? })
    }

    /// Watches a directory, but nothing below it. The same directory has the same id.
    ///
    /// # Errors
    ///
    /// The directory may not be read, or the kernel allows this user no more watches.
    pub fn watch(&self, directory: &Directory) -> io::Result<WatchId> {
        let path = path_of_descriptor(directory);
        Ok(WatchId(inotify::add_watch(self.descriptor.get_ref(), path, OF_INTEREST)?))
    }

    /// Stops watching a directory.
    pub fn unwatch(&self, watch: WatchId) {
        // It fails if the directory was removed, and the watch with it.
        let _ = inotify::remove_watch(self.descriptor.get_ref(), watch.0);
    }

    /// Calls `visit` with each event since the last call, in order. Does not wait.
    ///
    /// # Errors
    ///
    /// The events cannot be read.
    pub fn read(&self, mut visit: impl FnMut(DirectoryEvent)) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = inotify::Reader::new(self.descriptor.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                    let (directory, kinds, cookie) = (WatchId(event.wd()), event.events(), event.cookie());
                    visit(DirectoryEvent { directory, kinds, cookie, name: name.unwrap_or_default() });
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for events, and returns after `read` has read them.
    ///
    /// # Errors
    ///
    /// The events cannot be read.
    pub async fn wait(&self, read: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut ready = self.descriptor.readable().await?;
        let result = read();
        // Clears only the readiness from before the read: the runtime notices if there are more events since.
        ready.clear_ready();
        result
    }
}
