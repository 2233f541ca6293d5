//! Asks the kernel whether somebody has a file open for writing.
//!
//! A read lease is granted only on a file that nobody has open (or mapped) for writing. The lease itself is not needed
//! here and is released at once: only whether it is granted matters.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::{F_RDLCK, F_SETLEASE, F_UNLCK, SIGURG, c_int};

/// From `asm-generic/fcntl.h`; the libc crate defines it only for musl.
const F_SETSIG: c_int = 10;

/// Whether somebody may be writing to a file at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    None,
    Some,
    /// Leases are not possible here: another user's file without `CAP_LEASE`, or a network file system.
    Unknown,
}

/// Checks for writers of `file`, which must be open for reading only.
///
/// # Errors
///
/// Any error of the kernel other than "there are writers" and "leases are not possible here".
pub fn writers(file: &File) -> io::Result<Writers> {
    // A writer that opens the file during the lease waits until it is released, and the holder of the lease gets
    // SIGIO, which would end this process. SIGURG, sent instead, is ignored by default; so neither the signal mask of
    // each thread nor what children inherit has to change.
    control(file, F_SETSIG, SIGURG)?;
    let granted = control(file, F_SETLEASE, F_RDLCK);
    // Released on every path: a lease that is kept would make the next writer wait.
    let released = control(file, F_SETLEASE, F_UNLCK);
    match granted {
        Ok(()) => released.map(|()| Writers::None),
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
    fn a_writer_is_detected_until_it_closes_the_file() {
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
    fn a_writer_that_opens_the_file_during_a_check_neither_ends_the_process_nor_waits() {
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
