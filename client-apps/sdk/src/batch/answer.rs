//! Writes what the app reports to the platform: JSON lines on stdout.

use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use mysimbdp_model::app::Line;
use mysimbdp_model::outcome::Counts;
use mysimbdp_platform::failpoint;

use crate::failure::{Failure, shortened};

/// The shortest time between two progress lines. Progress is for people, who need it no more often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Bytes of keys per line. With the rest of the line they stay below the 64 KiB that a line may have.
const KEYS_BYTES_MAX: usize = 60 << 10;

/// Writes the lines of the contract.
pub struct LineWriter {
    out: BufWriter<Box<dyn Write>>,
    progress_at: Instant,
}

impl LineWriter {
    pub(crate) fn new(out: Box<dyn Write>) -> Self {
        Self { out: BufWriter::new(out), progress_at: Instant::now() }
    }

    /// Reports how many records the app has passed on so far, at most once a second.
    pub fn progress(&mut self, records: u64) -> Result<(), Failure> {
        if self.progress_at.elapsed() < PROGRESS_EVERY {
            return Ok(());
        }
        self.progress_at = Instant::now();
        self.line(&Line::Progress { records })?;
        Ok(self.out.flush()?)
    }

    /// Reports a record that could not be stored; `record` is its number in the whole file.
    pub fn reject(&mut self, record: u64, reason: String) -> Result<(), Failure> {
        self.line(&Line::Reject { record, reason: shortened(reason) })
    }

    /// Reports the keys of records that were stored or were already there, in lines that are short enough for the
    /// platform.
    pub(crate) fn keys(&mut self, keys: impl IntoIterator<Item = serde_json::Value>) -> Result<(), Failure> {
        let (mut line, mut bytes) = (Vec::new(), 0);
        for key in keys {
            let length = key.to_string().len() + 1;
            if bytes + length > KEYS_BYTES_MAX && !line.is_empty() {
                self.line(&Line::Keys { keys: std::mem::take(&mut line) })?;
                bytes = 0;
            }
            bytes += length;
            line.push(key);
        }
        if line.is_empty() { Ok(()) } else { self.line(&Line::Keys { keys: line }) }
    }

    pub(crate) fn done(&mut self, counts: Counts) -> Result<(), Failure> {
        let Counts { stored, duplicates, rejected, .. } = counts;
        self.line(&Line::Done { stored, duplicates, rejected })?;
        self.out.flush()?;
        failpoint::hit("batch-app.done-reported");
        Ok(())
    }

    pub(crate) fn failed(&mut self, retry: bool, reason: String) -> Result<(), Failure> {
        self.line(&Line::Failed { retry, reason: shortened(reason) })?;
        Ok(self.out.flush()?)
    }

    fn line(&mut self, line: &Line) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, line).map_err(std::io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }
}

impl std::fmt::Debug for LineWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineWriter").finish_non_exhaustive()
    }
}
