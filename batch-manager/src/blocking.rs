//! Work that blocks, off the threads that must not.

/// Runs `work` on a thread for blocking work; a panic in it goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only where the runtime is ending, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
