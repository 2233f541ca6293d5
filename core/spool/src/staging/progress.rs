//! How far the work units of a staged ingestion have come: `outcomes/`.
//!
//! `NNNNN.attempt.json` is written before a unit is begun and after it has failed, `NNNNN.json` when it is done, and
//! `NNNNN.rejects.ndjson` just before that. They are not synced, as that would cost more than a small unit does: what a
//! power cut takes is derived again by running the unit again, which adds nothing twice. So that a torn file is noticed,
//! an outcome has the checksum of its rejects. Only a baseline above 0 cannot be counted again, and is synced.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use mysimbdp_model::layout::{Layout, outcome_file};
use mysimbdp_model::outcome::Outcome;
use mysimbdp_platform::files::{self, FileError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::StagingError;

/// How often a work unit has been begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Number of the last one, from 1.
    pub attempt: u32,
    /// Attempts that failed by the app's fault. One that asked to be tried later, or was cut off by the end of the
    /// manager, is none.
    pub failures: u32,
    /// With ids of the platform: the unit's records that were in coredms before the first attempt of this run. 0 if no
    /// earlier run is known.
    pub baseline: Option<u64>,
    /// Why the last attempt failed, or what the next one waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A record that the app or the store refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Its number in the whole file, from 0.
    pub record: u64,
    pub reason: String,
}

/// A file that is torn, or whose rejects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    pub path: PathBuf,
    pub reason: String,
}

/// How far all units have come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) outcomes: BTreeMap<u32, Outcome>,
    pub(super) attempts: BTreeMap<u32, Attempt>,
    pub(super) torn: Vec<Torn>,
}

/// Reads all outcomes and attempts.
pub(super) fn read(directory: &Path) -> Result<Progress, FileError> {
    let mut progress = Progress::default();
    for path in files::list(&directory.join(Layout::OUTCOMES))? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let read = if let Some(index) = index_of(name, ".attempt.json") {
            parse(&path)?.map(|attempt| drop(progress.attempts.insert(index, attempt)))
        } else if let Some(index) = index_of(name, ".json") {
            outcome(directory, &path)?.map(|outcome| drop(progress.outcomes.insert(index, outcome)))
        } else {
            Ok(())
        };
        if let Err(reason) = read {
            progress.torn.push(Torn { path, reason });
        }
    }
    Ok(progress)
}

/// Reads an outcome; it is torn if its rejects are.
fn outcome(directory: &Path, path: &Path) -> Result<Result<Outcome, String>, FileError> {
    let outcome = match parse::<Outcome>(path)? {
        Ok(outcome) if outcome.counts.rejected > 0 => outcome,
        other => return Ok(other),
    };
    let rejects = directory.join(Layout::OUTCOMES).join(rejects_file(outcome.index));
    let are_whole = outcome.rejects_xxh3.is_some() && outcome.rejects_xxh3 == checksum(&rejects)?;
    let torn = || format!("{} does not hold its {} rejects", rejects.display(), outcome.counts.rejected);
    Ok(if are_whole { Ok(outcome) } else { Err(torn()) })
}

/// The checksum of a file; `None` if there is none.
fn checksum(path: &Path) -> Result<Option<String>, FileError> {
    let file = match files::open(path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut hasher, mut file) = (Xxh3::new(), files::buffered(file));
    let error = |source| FileError { action: "read", path: path.to_owned(), source };
    loop {
        let bytes = file.fill_buf().map_err(error)?;
        if bytes.is_empty() {
            return Ok(Some(in_hex(&hasher)));
        }
        hasher.update(bytes);
        let length = bytes.len();
        file.consume(length);
    }
}

fn in_hex(hasher: &Xxh3) -> String {
    format!("{:016x}", hasher.digest())
}

fn index_of(name: &str, ending: &str) -> Option<u32> {
    let digits = name.strip_suffix(ending)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The content of a file, or why it cannot be read as such.
fn parse<T: DeserializeOwned>(path: &Path) -> Result<Result<T, String>, FileError> {
    Ok(serde_json::from_slice(&files::read(path)?).map_err(|error| error.to_string()))
}

/// Writes that a unit is done; what it rejected must have been written before.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_outcome(directory: &Path, outcome: &Outcome) -> Result<(), FileError> {
    let outcomes = directory.join(Layout::OUTCOMES);
    files::create_dir_all(&outcomes)?;
    files::write_atomic(&outcomes.join(outcome_file(outcome.index)), &json(outcome))
}

/// Forgets that a unit is done, so that it is run again.
pub(super) fn remove_outcome(directory: &Path, index: u32) -> Result<(), FileError> {
    files::remove_file_if_there(&directory.join(Layout::OUTCOMES).join(outcome_file(index)))
}

/// Writes how often a unit has been begun.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_attempt(directory: &Path, index: u32, attempt: &Attempt) -> Result<(), FileError> {
    let outcomes = directory.join(Layout::OUTCOMES);
    let path = outcomes.join(format!("{index:05}.attempt.json"));
    if attempt.baseline.is_none_or(|baseline| baseline == 0) {
        files::create_dir_all(&outcomes)?;
        return files::write_atomic(&path, &json(attempt));
    }
    files::create_dir_all_durable(&outcomes)?;
    files::write_durable(&path, &json(attempt))?;
    files::sync_dir(&outcomes)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut json =
        serde_json::to_vec(value).expect("outcomes and attempts have no map with keys other than text");
    json.push(b'\n');
    json
}

/// Collects what one attempt of a unit rejects, on disk, as there may be as many as records.
pub struct RejectsWriter {
    unseen: PathBuf,
    path: PathBuf,
    hasher: Xxh3,
    /// Created with the first one.
    file: Option<std::io::BufWriter<std::fs::File>>,
}

impl RejectsWriter {
    pub fn new(directory: &Path, index: u32) -> Self {
        let outcomes = directory.join(Layout::OUTCOMES);
        let name = rejects_file(index);
        let unseen = outcomes.join(format!(".{name}.tmp"));
        Self { unseen, path: outcomes.join(name), hasher: Xxh3::new(), file: None }
    }

    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&mut self, reject: &Reject) -> Result<(), FileError> {
        if self.file.is_none() {
            if let Some(directory) = self.unseen.parent() {
                files::create_dir_all(directory)?;
            }
            // An earlier attempt may have left its own.
            files::remove_file_if_there(&self.unseen)?;
            self.file = Some(files::buffered_writer(files::create_new(&self.unseen)?));
        }
        let mut line = serde_json::to_vec(reject).expect("a reject is a number and a text");
        line.push(b'\n');
        self.hasher.update(&line);
        match &mut self.file {
            Some(file) => file.write_all(&line).map_err(|source| self.error(source)),
            None => Ok(()),
        }
    }

    /// Makes them those of the unit, in place of any earlier ones; returns their checksum, which belongs to the outcome.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn commit(mut self) -> Result<Option<String>, FileError> {
        let Some(mut file) = self.file.take() else {
            files::remove_file_if_there(&self.path)?;
            return Ok(None);
        };
        file.flush().map_err(|source| self.error(source))?;
        files::rename(&self.unseen, &self.path)?;
        Ok(Some(in_hex(&self.hasher)))
    }

    fn error(&self, source: std::io::Error) -> FileError {
        FileError { action: "write", path: self.unseen.clone(), source }
    }
}

impl fmt::Debug for RejectsWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectsWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The records that a unit rejected, in the order in which its app said so; none where there is no file.
///
/// # Errors
///
/// The file cannot be opened. A line in it that cannot be read is given as an error of its own.
pub fn read_rejects(
    directory: &Path,
    index: u32,
) -> Result<impl Iterator<Item = Result<Reject, StagingError>> + use<>, FileError> {
    let path = directory.join(Layout::OUTCOMES).join(rejects_file(index));
    let file = match files::open(&path) {
        Ok(file) => Some(file),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let lines = file.into_iter().flat_map(|file| files::buffered(file).lines());
    Ok(lines.map(move |line| {
        let file_error = |source| FileError { action: "read", path: path.clone(), source };
        let line = line.map_err(file_error)?;
        serde_json::from_str(&line).map_err(|source| StagingError::Json { path: path.clone(), source })
    }))
}

fn rejects_file(index: u32) -> String {
    format!("{index:05}.rejects.ndjson")
}
