//! SIGINT and SIGTERM ask for an orderly end.

use mysimbdp_core::exit;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::error::Failure;

/// Turns true at the first SIGINT or SIGTERM.
///
/// A further SIGINT ends the process at once: a person has lost patience. A further SIGTERM changes nothing, as what is
/// under way has its deadline, and a supervisor that repeats itself is none.
pub fn shutdown() -> Result<watch::Receiver<bool>, Failure> {
    let failure = |error: std::io::Error| Failure::of(exit::SOFTWARE, &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failure)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failure)?;
    let (sender, receiver) = watch::channel(false);
    // Lives as long as the process, on purpose.
    tokio::spawn(async move {
        loop {
            let is_impatient = tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => false,
            };
            if sender.send_replace(true) && is_impatient {
                std::process::exit(i32::from(exit::TEMPORARY));
            }
        }
    });
    Ok(receiver)
}
