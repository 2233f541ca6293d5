//! A mount namespace of this test process: what is mounted in it ends with the process, and nobody else sees it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::OnceLock;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::process::on_lasting_thread;
use crate::program::{program, run};

/// Moves the calling thread into the namespace, which is made at the first call. All children are started there from
/// then on; threads that run already stay where they are.
///
/// # Errors
///
/// Why that is not possible: in general because this process is not root.
pub(crate) fn enter() -> Result<(), String> {
    static NAMESPACE: OnceLock<Result<File, String>> = OnceLock::new();
    let made = NAMESPACE.get_or_init(|| {
        on_lasting_thread(make).map_err(|error| format!("cannot make a mount namespace: {error}"))
    });
    let namespace = made.as_ref().map_err(Clone::clone)?;
    join(namespace).map_err(|error| format!("cannot enter a mount namespace: {error}"))
}

/// Gives the calling thread a namespace of its own, into which and out of which no mount is passed on.
fn make() -> io::Result<File> {
    unshare(UnshareFlags::NEWNS)?;
    run(Command::new(program("mount")).args(["--make-rprivate", "/"])).map_err(io::Error::other)?;
    File::open("/proc/thread-self/ns/mnt")
}

fn join(namespace: &File) -> io::Result<()> {
    // Entering makes the root the current directory, so a thread must have one of its own, and gets back to where it was.
    let directory = std::env::current_dir()?;
    unshare(UnshareFlags::FS)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
    std::env::set_current_dir(directory)
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: it is unsafe for UnshareFlags::FILES alone, which this is not called with: descriptors stay shared.
    #[allow(unsafe_code)]
    unsafe {
        unshare_unsafe(flags)?;
    }
    Ok(())
}
