//! The runtime of a process that has to survive a shortage of threads.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// An idle thread for blocking work is kept for as long as the process lives.
const KEEP_ALIVE: Duration = Duration::from_secs(u32::MAX as u64);

/// Builds the runtime with I/O and timers, and with a thread for blocking work that never ends.
///
/// Blocking work that finds no thread and cannot start one makes its task panic, and so ends tasks of libraries on which the
/// whole process depends. As long as there is one thread, the work waits for it.
pub fn build(mut builder: Builder) -> io::Result<Runtime> {
    let runtime = builder.enable_all().thread_keep_alive(KEEP_ALIVE).build()?;
    drop(runtime.spawn_blocking(|| ()));
    Ok(runtime)
}
