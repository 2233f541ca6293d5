//! The signals that a stream app reacts to.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// SIGTERM, SIGINT: end, and keep the session.
    Stop,
    /// SIGUSR1: end the subscription, store what the session holds, end the session.
    Drain,
}

/// Listens for the signals.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    drain: Signal,
}

impl Signals {
    /// Starts listening. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The system refuses to install a signal handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            drain: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next signal. The future may be dropped while it waits.
    pub async fn next(&mut self) -> ShutdownMode {
        tokio::select! {
            _ = self.terminate.recv() => ShutdownMode::Stop,
            _ = self.interrupt.recv() => ShutdownMode::Stop,
            _ = self.drain.recv() => ShutdownMode::Drain,
        }
    }
}
