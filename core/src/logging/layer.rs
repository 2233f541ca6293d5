//! Where events go: the log file, and stderr.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::format::{Look, line};
use super::rotate::RotatingFile;
use crate::io::clock;

/// Writes each event to the role's log file.
///
/// Directly, and not by way of a thread: a line is in the file when the event is over, also when the process is killed
/// right then. It costs some microseconds, and events are counted by the file and the batch, not by the record.
#[derive(Debug)]
pub(super) struct FileLayer {
    role: &'static str,
    file: Mutex<RotatingFile>,
    failing: AtomicBool,
}

impl FileLayer {
    pub(super) fn new(role: &'static str, file: RotatingFile) -> Self {
        Self { role, file: Mutex::new(file), failing: AtomicBool::new(false) }
    }
}

impl<S: Subscriber> Layer<S> for FileLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let now = clock::now();
        let line = line(event, self.role, now, Look::Full);
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match file.write_line(now, line) {
            Ok(()) => self.failing.store(false, Ordering::Relaxed),
            // A full disk must not stop the platform; stderr is what is left to say so, once.
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                print(&format!("{}: the log cannot be written: {}", self.role, crate::chain(&error)));
            }
            Err(_) => {}
        }
    }
}

/// Writes each event to stderr.
#[derive(Debug)]
pub(super) struct StderrLayer {
    role: &'static str,
    look: Look,
    timings: bool,
}

impl StderrLayer {
    /// For people, who look at the timings as a table.
    pub(super) fn new(role: &'static str, look: Look) -> Self {
        Self { role, look, timings: false }
    }

    pub(super) fn with_timings(role: &'static str, look: Look) -> Self {
        Self { role, look, timings: true }
    }
}

impl<S: Subscriber> Layer<S> for StderrLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if self.timings || event.metadata().target() != crate::timing::TARGET {
            print(&line(event, self.role, clock::now(), self.look));
        }
    }
}

/// In one `write`, so that the lines of several processes on one terminal do not mix. A closed stderr is no reason to stop.
fn print(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
