//! The operator's logs: a file for each process, a line for each event.
//!
//! `2026-11-21T03:22:11.123456Z INFO fetchdata: staged client=client1 file="we ather.csv" bytes=12`: time in UTC, level,
//! process kind, a constant message, and fields in logfmt. WARN = it recovered or discarded something; ERROR = a person is
//! needed. Text from outside is escaped ([`escape`]), so that no file name can create a line of its own.

mod burst;
mod client_log;
mod escape;
mod format;
mod layer;
mod outage;
mod rotate;
mod settings;
mod throttle;

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use burst::{Bursts, Unreported};
pub use client_log::{ClientLog, LINE_BYTES_MAX};
pub use escape::{escape, escape_controls, escape_controls_in_json, one_line, quote, unescape, visible};
pub use outage::Outage;
pub use rotate::RotateByCopy;
pub use settings::{LogLevel, Logs};

use mysimbdp_model::layout::Layout;
use mysimbdp_platform::clock;
use mysimbdp_platform::files::FileError;

use format::LineStyle;
use layer::{FileLayer, StderrLayer};
use rotate::RotatingFile;

/// The environment variable that overrides the config's `logs.level`: a level, or filters of `tracing-subscriber`'s
/// `EnvFilter`, such as `debug` or `info,mysimbdp_broker=trace`.
pub const LEVEL_VARIABLE: &str = "MYSIMBDP_LOG";

/// Libraries that log more than an operator needs; they are limited to WARN unless a filter names them.
const QUIET: [&str; 3] = ["mongodb", "mqtt5", "rumqttc"];

/// Logs the start of the process when it is created, and its end when it is dropped.
#[derive(Debug)]
#[must_use = "if it is dropped at once, the log says that the process has ended"]
pub struct LogGuard {
    _private: (),
}

impl LogGuard {
    fn begin() -> Self {
        tracing::info!(pid = std::process::id(), version = env!("CARGO_PKG_VERSION"), "process started");
        Self { _private: () }
    }
}

impl Drop for LogGuard {
    /// If this line is missing, the process was killed.
    fn drop(&mut self) {
        tracing::info!(pid = std::process::id(), "process ended");
    }
}

/// Starts logging to `logs/<process_name>.log`, and with `terminal` to stderr as well. Call it once in each process.
///
/// # Errors
///
/// The log file cannot be opened.
pub fn init(
    process_name: &'static str,
    layout: &Layout,
    settings: &Logs,
    terminal: bool,
) -> Result<LogGuard, FileError> {
    let path = layout.logs().join(format!("{process_name}.log"));
    let file = RotatingFile::open(&path, settings.into(), clock::now())?;
    let stderr = terminal.then(|| StderrLayer::new(process_name, stderr_style()));
    start(settings.level, Some(FileLayer::new(process_name, file)), stderr);
    Ok(LogGuard::begin())
}

/// Starts logging to stderr alone, for an app whose stderr is already a log file. Call it once in each process.
pub fn init_stderr(process_name: &'static str, level: LogLevel) {
    // Its timings belong in that file, as those of the managers belong in theirs.
    start(level, None, Some(StderrLayer::with_timings(process_name, stderr_style())));
}

fn start(level: LogLevel, file: Option<FileLayer>, stderr: Option<StderrLayer>) {
    let (filter, refused) = filter(level, std::env::var(LEVEL_VARIABLE).ok().as_deref());
    // A second call comes from a test that shares its process with others: the first one's log is good enough.
    if tracing_subscriber::registry().with(filter).with(file).with(stderr).try_init().is_err() {
        return;
    }
    if let Some(error) = refused {
        tracing::warn!(variable = LEVEL_VARIABLE, error, "log filter ignored");
    }
    log_panics();
}

/// Returns the filter, and what is wrong with the one from the environment.
fn filter(level: LogLevel, variable: Option<&str>) -> (EnvFilter, Option<String>) {
    let quiet = QUIET.map(|library| format!("{library}=warn")).join(",");
    let parts = variable.into_iter().flat_map(|text| text.split(',')).map(str::trim);
    let trimmed = parts.collect::<Vec<_>>().join(",");
    let refused = not_a_level(&trimmed);
    let default = match level {
        LogLevel::Error => "error".to_owned(),
        LogLevel::Warn => "warn".to_owned(),
        LogLevel::Info => format!("info,{quiet}"),
        LogLevel::Debug => format!("debug,{quiet}"),
        LogLevel::Trace => format!("trace,{quiet}"),
    };
    // A level in it comes later than the default's, and so replaces it.
    let given = Some(trimmed)
        .filter(|text| !text.is_empty() && refused.is_none())
        .map(|text| EnvFilter::try_new(format!("{default},{quiet},{text}")));
    match given {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(default), Some(error.to_string())),
        None => (EnvFilter::new(default), refused),
    }
}

/// What is wrong with a filter if one of its parts is a word that is not a level: it would stand for a target that does not
/// exist, and switch everything else off.
fn not_a_level(filter: &str) -> Option<String> {
    let is_level = |part: &str| part.is_empty() || part.contains('=') || part.parse::<LevelFilter>().is_ok();
    let wrong = filter.split(',').find(|part| !is_level(part))?;
    Some(format!("{wrong:?} is not a level: expected off, error, warn, info, debug or trace"))
}

fn stderr_style() -> LineStyle {
    match (io::stderr().is_terminal(), std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty())) {
        (true, true) => LineStyle::Coloured,
        (true, false) => LineStyle::Short,
        (false, _) => LineStyle::Full,
    }
}

/// Logs panics, because a panic is a fault of the platform that otherwise only its task may notice.
fn log_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
        tracing::error!(location, text, "panicked");
        print(panic);
    }));
}

#[cfg(test)]
mod tests;
