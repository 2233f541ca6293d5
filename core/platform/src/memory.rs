//! How the allocator of this process keeps what is freed.

use std::ffi::c_int;

/// What the allocator has at most for one piece of its heap; larger buffers are the system's.
const HEAP_BUFFER_BYTES_MAX: c_int = 32 << 20;

/// Keeps the memory of large buffers that are freed for the next ones, where else it goes back to the system, which
/// clears each page anew: measured, half of the time of an app that moves megabytes. To be called before threads start.
///
/// The process stays as large as it once was: only for processes that end soon, or always need as much.
pub fn keep_freed() {
    #[cfg(target_env = "gnu")]
    set(&[
        (libc::M_MMAP_THRESHOLD, HEAP_BUFFER_BYTES_MAX),
        (libc::M_TRIM_THRESHOLD, 2 * HEAP_BUFFER_BYTES_MAX),
        // What one thread has freed is for all of them.
        (libc::M_ARENA_MAX, 1),
    ]);
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn set(parameters: &[(c_int, c_int)]) {
    for (parameter, value) in parameters {
        // SAFETY: it takes two numbers and sets one of the allocator's own, under the allocator's lock.
        unsafe { libc::mallopt(*parameter, *value) };
    }
}
