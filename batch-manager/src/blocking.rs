//! Runs blocking work off the threads that must not block.

/// Runs `work` on a thread for blocking work; resumes a panic of it in the caller.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only if the runtime is shutting down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
