//! How the allocator of this process keeps freed memory.

use std::ffi::c_int;

/// The largest buffer that the allocator places in its heap; larger ones are mapped from the system.
const HEAP_BUFFER_BYTES_MAX: c_int = 32 << 20;

/// Keeps the memory of freed large buffers for the next ones. Otherwise it is returned to the system, which clears each page
/// again: by measurement, half of the time of an app that moves megabytes. Call it before threads start.
///
/// The process never becomes smaller again, so this is only for processes that end soon, or always need as much memory.
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    set(&[
        (libc::M_MMAP_THRESHOLD, HEAP_BUFFER_BYTES_MAX),
        (libc::M_TRIM_THRESHOLD, 2 * HEAP_BUFFER_BYTES_MAX),
        // All threads reuse the memory that any of them has freed.
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
