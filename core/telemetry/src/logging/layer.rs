//! The destinations of events: the log file, and stderr.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use mysimbdp_platform::clock;
use mysimbdp_platform::files::FileError;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::format::{LineStyle, is_own, line, time};
use super::rotate::RotatingFile;
use super::throttle::Throttle;

/// Writes each event to the process's log file.
///
/// It writes directly, without a thread: a line is in the file when the event returns, even if the process is killed right
/// after that. This costs some microseconds, but there are only a few events for each file or batch, and none for each record.
#[derive(Debug)]
pub(super) struct FileLayer {
    process_name: &'static str,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: RotatingFile,
    /// Lines that could not be written since the last one that could.
    lost: u64,
    libraries: Throttle,
}

impl FileLayer {
    pub(super) fn new(process_name: &'static str, file: RotatingFile) -> Self {
        Self {
            process_name,
            state: Mutex::new(State { file, lost: 0, libraries: Throttle::new(Instant::now()) }),
        }
    }
}

impl State {
    fn write(&mut self, process_name: &str, now: Timestamp, line: String) -> Result<(), FileError> {
        self.write_gap(process_name, now)
            .and_then(|()| self.file.write_line(now, line))
            .inspect_err(|_| self.lost += 1)
    }

    /// A full disk must not stop the platform; it is reported once, to stderr, which is all that is left.
    fn write_or_report(&mut self, process_name: &str, now: Timestamp, line: String) {
        if let Err(error) = self.write(process_name, now, line)
            && self.lost == 1
        {
            let error = mysimbdp_model::error_chain(&error);
            print(&format!("{process_name}: the log cannot be written: {error}"));
        }
    }

    /// If lines are missing, the log says so: otherwise a reader would think that nothing happened.
    fn write_gap(&mut self, process_name: &str, now: Timestamp) -> Result<(), FileError> {
        if self.lost > 0 {
            let lost = self.lost;
            let gap = format!(
                "{} WARN {process_name}: log could not be written, lines are missing lost={lost}",
                time(now)
            );
            self.file.write_line(now, gap)?;
            self.lost = 0;
        }
        Ok(())
    }
}

impl<S: Subscriber> Layer<S> for FileLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let now = clock::now();
        let line = line(event, self.process_name, now, LineStyle::Full);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for line in throttled(&mut state.libraries, event, self.process_name, now, line) {
            state.write_or_report(self.process_name, now, line);
        }
    }
}

/// Writes each event to stderr.
#[derive(Debug)]
pub(super) struct StderrLayer {
    process_name: &'static str,
    style: LineStyle,
    timings: bool,
    libraries: Mutex<Throttle>,
}

impl StderrLayer {
    /// For a terminal: without the timings, which people read as a table.
    pub(super) fn new(process_name: &'static str, style: LineStyle) -> Self {
        Self { process_name, style, timings: false, libraries: Mutex::new(Throttle::new(Instant::now())) }
    }

    pub(super) fn with_timings(process_name: &'static str, style: LineStyle) -> Self {
        Self { timings: true, ..Self::new(process_name, style) }
    }
}

impl<S: Subscriber> Layer<S> for StderrLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if self.timings || event.metadata().target() != crate::timing::TARGET {
            let now = clock::now();
            let line = line(event, self.process_name, now, self.style);
            let mut libraries = self.libraries.lock().unwrap_or_else(PoisonError::into_inner);
            throttled(&mut libraries, event, self.process_name, now, line).for_each(|line| print(&line));
        }
    }
}

/// Returns the line, after one that counts what was left out before it; nothing if it is left out itself.
fn throttled(
    libraries: &mut Throttle,
    event: &Event<'_>,
    process_name: &str,
    now: Timestamp,
    line: String,
) -> impl Iterator<Item = String> + use<> {
    let left_out = if is_own(event) { Some(0) } else { libraries.admit(Instant::now()) };
    let gap = left_out.filter(|count| *count > 0).map(|count| {
        format!("{} WARN {process_name}: lines of libraries were left out count={count}", time(now))
    });
    gap.into_iter().chain(left_out.map(|_| line))
}

/// Prints in one `write`, so that the lines of several processes on one terminal do not mix. Ignores errors: a closed stderr is
/// not a reason to stop.
fn print(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
