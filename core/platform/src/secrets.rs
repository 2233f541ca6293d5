//! Keeps secrets inside the process: the passwords of broker and store are in its memory and its environment.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on this process writes no core dump, and no other process of the same user, such as a client's app, can read its
/// memory, its environment or its descriptors.
///
/// Children inherit the limit on core dumps, but not the protection from other processes, which `exec` resets. Only root can
/// attach a debugger to a protected process.
///
/// # Errors
///
/// The system refuses it.
pub fn protect() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
