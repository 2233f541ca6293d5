//! The stderr of a client's apps: `logs/clients/<client>/batch.log`.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use mysimbdp_platform::clock;
use mysimbdp_platform::files::FileError;

use super::escape::escape;
use super::format::time;
use super::rotate::RotatingFile;
use super::settings::Logs;

/// Longer lines are cut: an app that writes no line endings must not fill memory or the disk with one line.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// A log of lines from outside, rotated daily and whenever it is full.
#[derive(Debug)]
pub struct ClientLog {
    file: Mutex<RotatingFile>,
    /// Whether the last line was lost, which is reported once and not for each line.
    failing: AtomicBool,
}

impl ClientLog {
    /// Opens the log; creates its directory if it is missing.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn open(path: &Path, settings: &Logs) -> Result<Self, FileError> {
        let file = RotatingFile::open(path, settings.into(), clock::now())?;
        Ok(Self { file: Mutex::new(file), failing: AtomicBool::new(false) })
    }

    /// Appends one line after the time: escaped, so that it stays one line, and cut after [`LINE_BYTES_MAX`].
    ///
    /// A line that cannot be written is lost, and the platform's own log says so; the client's work continues.
    pub fn line(&self, text: &[u8]) {
        let now = clock::now();
        let line = format!("{} {}", time(now), shown(text));
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match file.write_line(now, line) {
            Ok(()) => self.failing.store(false, Ordering::Relaxed),
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(error = %mysimbdp_model::error_chain(&error), "client log cannot be written, its lines are lost");
            }
            Err(_) => {}
        }
    }
}

/// Escapes the text, and cuts it at its limit.
fn shown(text: &[u8]) -> String {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let (text, cut) = match text.get(..LINE_BYTES_MAX) {
        Some(start) if text.len() > LINE_BYTES_MAX => (start, "…"),
        _ => (text, ""),
    };
    format!("{}{cut}", escape(&String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    use mysimbdp_platform::files;

    use super::*;

    #[test]
    fn whatever_an_app_writes_is_one_line_without_control_characters() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("clients/a/batch.log");
        let settings = Logs::default();
        let log = ClientLog::open(&path, &settings).expect("a log");
        log.line(b"plain\r\n");
        log.line(b"\x1b[2J two\nlines \xff");
        log.line(&vec![b'x'; 3 * LINE_BYTES_MAX]);
        let text = files::read_to_string(&path).expect("the log");
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').expect("a time").1).collect();
        assert_eq!(lines[..2], ["plain", "\\u{1b}[2J two\\nlines \u{fffd}"]);
        assert_eq!(lines[2].len(), LINE_BYTES_MAX + '…'.len_utf8());
        assert_eq!(lines.len(), 3);
    }
}
