//! Whether somebody has a file open for writing, asked of the kernel.
//!
//! A read lease is granted only on a file that nobody has open (or mapped) for writing. The lease itself is of no
//! use here and is given back at once: the refusal is the answer.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::{F_RDLCK, F_SETLEASE, F_UNLCK, SIGURG, c_int};

/// Of `asm-generic/fcntl.h`; the libc crate has it for musl alone.
const F_SETSIG: c_int = 10;

/// Who may be writing to a file at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    None,
    Some,
    /// Leases do not work here: another user's file without `CAP_LEASE`, or a network file system.
    Unknown,
}

/// Looks for writers of `file`, which is open for reading only.
///
/// # Errors
///
/// What the kernel says beyond "there are writers" and "leases do not work here".
pub fn writers(file: &File) -> io::Result<Writers> {
    // A writer who opens the file in the instant of the lease waits until it is given back, and its holder gets
    // SIGIO, which would end this process. SIGURG in its place is ignored by default; so neither the mask of each
    // thread nor what children inherit has to change.
    control(file, F_SETSIG, SIGURG)?;
    let granted = control(file, F_SETLEASE, F_RDLCK);
    // Given back on every path: a lease that stays would make the next writer wait.
    let returned = control(file, F_SETLEASE, F_UNLCK);
    match granted {
        Ok(()) => returned.map(|()| Writers::None),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN) => Ok(Writers::Some),
            Some(libc::EACCES | libc::EINVAL | libc::EOPNOTSUPP) => Ok(Writers::Unknown),
            _ => Err(error),
        },
    }
}

#[allow(unsafe_code)]
fn control(file: &File, command: c_int, argument: c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is borrowed, and these commands take a plain integer.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::files;

    #[test]
    fn an_open_writer_is_seen_until_it_closes() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        let writer = File::create(&path).expect("new file");
        let reader = files::open(&path).expect("readable file");
        assert_eq!(writers(&reader).expect("answer"), Writers::Some);
        drop(writer);
        assert_eq!(writers(&reader).expect("answer"), Writers::None);
    }

    #[test]
    fn readers_do_not_count() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        File::create(&path).expect("new file");
        let other = files::open(&path).expect("readable file");
        assert_eq!(writers(&other).expect("answer"), Writers::None);
        let reader = files::open(&path).expect("readable file");
        assert_eq!(writers(&reader).expect("answer"), Writers::None);
    }

    #[test]
    fn a_writer_that_comes_during_a_look_neither_ends_the_process_nor_waits() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        File::create(&path).expect("new file");
        let reader = files::open(&path).expect("readable file");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    drop(OpenOptions::new().append(true).open(&path).expect("writable file"));
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                assert_ne!(writers(&reader).expect("answer"), Writers::Unknown);
            }
        });
    }
}
