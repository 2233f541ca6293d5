//! The destinations of events: the log file, and stderr.

use std::io::{self, Write};
use std::sync::Mutex;

use jiff::Timestamp;
use mysimbdp_platform::clock;
use mysimbdp_platform::files::FileError;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::format::{LineStyle, line, time};
use super::rotate::RotatingFile;

/// Writes each event to the role's log file.
///
/// It writes directly, without a thread: a line is in the file when the event returns, even if the process is killed right
/// after that. This costs some microseconds, but there are only a few events for each file or batch, and none for each record.
#[derive(Debug)]
pub(super) struct FileLayer {
    role: &'static str,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: RotatingFile,
    /// Lines that could not be written since the last one that could.
    lost: u64,
}

impl FileLayer {
    pub(super) fn new(role: &'static str, file: RotatingFile) -> Self {
        Self { role, state: Mutex::new(State { file, lost: 0 }) }
    }
}

impl State {
    fn write(&mut self, role: &str, now: Timestamp, line: String) -> Result<(), FileError> {
        self.write_gap(role, now)
            .and_then(|()| self.file.write_line(now, line))
            .inspect_err(|_| self.lost += 1)
    }

    /// If lines are missing, the log says so: otherwise a reader would think that nothing happened.
    fn write_gap(&mut self, role: &str, now: Timestamp) -> Result<(), FileError> {
        if self.lost > 0 {
            let lost = self.lost;
            let gap =
                format!("{} WARN {role}: log could not be written, lines are missing lost={lost}", time(now));
            self.file.write_line(now, gap)?;
            self.lost = 0;
        }
        Ok(())
    }
}

impl<S: Subscriber> Layer<S> for FileLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let now = clock::now();
        let line = line(event, self.role, now, LineStyle::Full);
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match state.write(self.role, now, line) {
            Ok(()) => {}
            // A full disk must not stop the platform; it is reported once, to stderr, which is all that is left.
            Err(error) if state.lost == 1 => {
                print(&format!(
                    "{}: the log cannot be written: {}",
                    self.role,
                    mysimbdp_model::error_chain(&error)
                ));
            }
            Err(_) => {}
        }
    }
}

/// Writes each event to stderr.
#[derive(Debug)]
pub(super) struct StderrLayer {
    role: &'static str,
    style: LineStyle,
    timings: bool,
}

impl StderrLayer {
    /// For a terminal: without the timings, which people read as a table.
    pub(super) fn new(role: &'static str, style: LineStyle) -> Self {
        Self { role, style, timings: false }
    }

    pub(super) fn with_timings(role: &'static str, style: LineStyle) -> Self {
        Self { role, style, timings: true }
    }
}

impl<S: Subscriber> Layer<S> for StderrLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if self.timings || event.metadata().target() != crate::timing::TARGET {
            print(&line(event, self.role, clock::now(), self.style));
        }
    }
}

/// Prints in one `write`, so that the lines of several processes on one terminal do not mix. Ignores errors: a closed stderr is
/// not a reason to stop.
fn print(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
