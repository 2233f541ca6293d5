//! A mount namespace of this test process: its mounts end with the process, and no other process sees them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::OnceLock;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::process::on_lasting_thread;
use crate::program::{program, run};

/// Moves the calling thread into the namespace, which is created at the first call. From then on all children are started
/// in it; threads that are already running stay where they are.
///
/// # Errors
///
/// The reason why it is not possible: usually this process is not root.
pub(crate) fn enter() -> Result<(), String> {
    static NAMESPACE: OnceLock<Result<File, String>> = OnceLock::new();
    let made = NAMESPACE.get_or_init(|| {
        on_lasting_thread(make).map_err(|error| format!("cannot make a mount namespace: {error}"))
    });
    let namespace = made.as_ref().map_err(Clone::clone)?;
    join(namespace).map_err(|error| format!("cannot enter a mount namespace: {error}"))
}

/// Gives the calling thread a namespace of its own. No mount propagates into it or out of it.
fn make() -> io::Result<File> {
    unshare(UnshareFlags::NEWNS)?;
    run(Command::new(program("mount")).args(["--make-rprivate", "/"])).map_err(io::Error::other)?;
    File::open("/proc/thread-self/ns/mnt")
}

fn join(namespace: &File) -> io::Result<()> {
    // Entering changes the current directory to the root. So the thread unshares its current directory and restores it afterwards.
    let directory = std::env::current_dir()?;
    unshare(UnshareFlags::FS)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
    std::env::set_current_dir(directory)
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the call is unsafe only with UnshareFlags::FILES, which is never passed: descriptors stay shared.
    #[allow(unsafe_code)]
    unsafe {
        unshare_unsafe(flags)?;
    }
    Ok(())
}
