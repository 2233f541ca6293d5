//! Writes a program's stderr to the client's log.

use std::sync::{Arc, Mutex, PoisonError};

use mysimbdp_platform::process::OutputPipe;
use tokio::task::JoinHandle;

use super::lines::Lines;
use super::program::AppLog;

/// Bytes that one unit may write to the log, so that a program that floods stderr does not fill the disk.
const UNIT_BYTES_MAX: usize = 1 << 20;

/// Characters of the last line that become part of a reason.
const LAST_LINE_CHARS_MAX: usize = 300;

/// Reads a program's stderr until it is closed.
#[derive(Debug)]
pub(super) struct Stderr {
    reading: JoinHandle<()>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    last_line: String,
    logged: usize,
    dropped: usize,
}

impl Stderr {
    pub(super) fn read(stderr: Option<OutputPipe>, log: AppLog) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let reading = tokio::spawn(async move {
            let Some(stderr) = stderr else { return };
            let mut lines = Lines::new(stderr);
            while let Some(text) = lines.next().await {
                lock(&shared).process(&text.bytes, &log);
            }
            lock(&shared).log_dropped(&log);
        });
        Self { reading, state }
    }

    /// Begins a new unit, for a program that outlives one.
    pub(super) fn begin_unit(&self, log: &AppLog) {
        let mut state = lock(&self.state);
        state.log_dropped(log);
        *state = State::default();
    }

    /// Returns the beginning of the last line so far.
    pub(super) fn last_line(&self) -> String {
        lock(&self.state).last_line.clone()
    }

    /// Reads the remaining lines and returns the last one. The program must have ended.
    pub(super) async fn end(&mut self) -> String {
        // Only the log can panic in it, and nothing can be done about that here.
        let _ = (&mut self.reading).await;
        self.last_line()
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl State {
    fn process(&mut self, line: &[u8], log: &AppLog) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        if !text.is_empty() {
            self.last_line = text.chars().take(LAST_LINE_CHARS_MAX).collect();
        }
        if self.logged + line.len() > UNIT_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        self.logged += line.len();
        log.line(line);
    }

    fn log_dropped(&mut self, log: &AppLog) {
        if self.dropped > 0 {
            log.line(format!("{} more lines on stderr were not logged", self.dropped).as_bytes());
        }
    }
}

/// A poisoned lock is usable: no panic can leave a value half changed.
fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
