//! The runtime of a process that has to survive a shortage of threads.

use std::cell::Cell;
use std::io;
use std::process::exit;
use std::sync::Once;
use std::time::Duration;

use mysimbdp_model::exit::OS_ERROR;
use tokio::runtime::{Builder, Runtime};

/// An idle thread for blocking work is kept for as long as the process lives.
const KEEP_ALIVE: Duration = Duration::from_secs(u32::MAX as u64);

thread_local! {
    static IS_BUILDING: Cell<bool> = const { Cell::new(false) };
}

/// Builds the runtime with I/O and timers, and with a thread for blocking work that never ends. If its threads cannot be
/// started, the process exits with [`OS_ERROR`].
///
/// Blocking work that finds no thread and cannot start one makes its task panic, and so ends tasks of libraries on which the
/// whole process depends. As long as there is one thread, the work waits for it.
pub fn build(mut builder: Builder) -> io::Result<Runtime> {
    exit_if_building_panics();
    IS_BUILDING.set(true);
    let runtime = builder.enable_all().thread_keep_alive(KEEP_ALIVE).build();
    if let Ok(runtime) = &runtime {
        drop(runtime.spawn_blocking(|| ()));
    }
    IS_BUILDING.set(false);
    runtime
}

/// A thread that cannot be started is a panic in the runtime, and the unwinding would wait for ever for those that could.
fn exit_if_building_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_BUILDING.get() {
                let reason = panic.payload_as_str().unwrap_or_default();
                eprintln!("cannot start the threads of this process: {reason}");
                exit(i32::from(OS_ERROR));
            }
            others(panic);
        }));
    });
}
