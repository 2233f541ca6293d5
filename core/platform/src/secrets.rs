//! What a process knows stays in it: the passwords of broker and store are in its memory and its environment.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on no core dump holds what this process knows, and no other process of the same user, such as a client's app,
/// can read its memory, its environment or its descriptors.
///
/// The limit on core dumps is inherited; that others cannot look is not, as `exec` begins anew. To be looked into with a
/// debugger such a process needs root.
///
/// # Errors
///
/// The system refuses it.
pub fn protect() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
