//! Handles signals: SIGINT and SIGTERM request an orderly end, SIGHUP requests that the config file is read again.

use std::io::IsTerminal;
use std::sync::Arc;

use mysimbdp_model::exit;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::error::CommandError;

/// Returns a receiver that turns true at the first SIGINT or SIGTERM.
///
/// A further SIGINT ends the process at once: the user does not want to wait. A further SIGTERM changes nothing: the
/// shutdown has its own deadline, and a supervisor may repeat the signal.
pub fn shutdown() -> Result<watch::Receiver<bool>, CommandError> {
    let failure = |error: std::io::Error| CommandError::of(exit::SOFTWARE, &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failure)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failure)?;
    let (sender, receiver) = watch::channel(false);
    // This task intentionally lives as long as the process.
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

/// Returns a `Notify` that is notified at each SIGHUP.
///
/// If stdin is a terminal, the signal keeps its default effect, which ends the process: the terminal was closed.
pub fn reload() -> Result<Arc<Notify>, CommandError> {
    let asked = Arc::new(Notify::new());
    if std::io::stdin().is_terminal() {
        return Ok(asked);
    }
    let mut hangup =
        signal(SignalKind::hangup()).map_err(|error| CommandError::of(exit::SOFTWARE, &error))?;
    let notify = Arc::clone(&asked);
    // This task intentionally lives as long as the process.
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            notify.notify_one();
        }
    });
    Ok(asked)
}
