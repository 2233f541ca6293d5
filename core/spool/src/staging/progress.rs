//! Progress of the work units of a staged ingestion: `outcomes/`.
//!
//! `NNNNN.attempt.json` is written before a unit is begun and after it has failed, `NNNNN.json` when it is done, and
//! `NNNNN.rejects.ndjson` just before that. They are not synced, as that would cost more than a small unit does: what
//! is lost in a power cut is recreated by running the unit again, which adds nothing twice. An outcome contains the
//! checksum of its rejects, so that a torn file is noticed. Only a baseline above 0 is synced, because it cannot be
//! counted again: after the first attempt the unit's own records would be counted too.

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

/// The attempts of a work unit so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Number of the last attempt, from 1.
    pub attempt: u32,
    /// Attempts that failed because of the app. An attempt that asked to be repeated later, or was interrupted because the
    /// manager ended, does not count.
    pub failures: u32,
    /// With the platform's ids: the number of the unit's records that were in coredms before the first attempt of this run. 0
    /// if no earlier run is known.
    pub baseline: Option<u64>,
    /// The reason why the last attempt failed, or for which the next one waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A record that the app or the store rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Its number in the whole file, from 0.
    pub record: u64,
    pub reason: String,
}

/// A torn file, or an outcome with torn rejects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    pub path: PathBuf,
    pub reason: String,
}

/// The progress of all units.
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
            parse(&path).map(|attempt| drop(progress.attempts.insert(index, attempt)))
        } else if let Some(index) = index_of(name, ".json") {
            outcome(directory, &path).map(|outcome| drop(progress.outcomes.insert(index, outcome)))
        } else {
            Ok(())
        };
        match read {
            Ok(()) => {}
            Err(ReadError::Torn(reason)) => progress.torn.push(Torn { path, reason }),
            Err(ReadError::File(error)) => return Err(error),
        }
    }
    Ok(progress)
}

/// Why the file of an attempt or outcome was not read.
enum ReadError {
    File(FileError),
    /// It was read, but its content is not whole, for this reason.
    Torn(String),
}

impl From<FileError> for ReadError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// Reads an outcome; it counts as torn if its rejects are torn.
fn outcome(directory: &Path, path: &Path) -> Result<Outcome, ReadError> {
    let outcome = parse::<Outcome>(path)?;
    if outcome.counts.rejected == 0 {
        return Ok(outcome);
    }
    let rejects = directory.join(Layout::OUTCOMES).join(rejects_file(outcome.index));
    let are_whole = outcome.rejects_xxh3.is_some() && outcome.rejects_xxh3 == checksum(&rejects)?;
    let torn = || {
        format!(
            "{} does not contain the {} rejects of the outcome",
            rejects.display(),
            outcome.counts.rejected
        )
    };
    if are_whole { Ok(outcome) } else { Err(ReadError::Torn(torn())) }
}

/// The checksum of a file; `None` if it does not exist.
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

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, ReadError> {
    serde_json::from_slice(&files::read(path)?).map_err(|error| ReadError::Torn(error.to_string()))
}

/// Records that a unit is done; its rejects must have been written before.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_outcome(directory: &Path, outcome: &Outcome) -> Result<(), FileError> {
    let outcomes = directory.join(Layout::OUTCOMES);
    files::create_dir_all(&outcomes)?;
    files::write_atomic(&outcomes.join(outcome_file(outcome.index)), &json(outcome))
}

/// Removes the outcome of a unit, so that the unit is run again.
pub(super) fn remove_outcome(directory: &Path, index: u32) -> Result<(), FileError> {
    files::remove_file_if_exists(&directory.join(Layout::OUTCOMES).join(outcome_file(index)))
}

/// Records the attempts of a unit.
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

/// Collects the rejects of one attempt of a unit, on disk, as every record may be rejected.
pub struct RejectsWriter {
    temporary: PathBuf,
    path: PathBuf,
    hasher: Xxh3,
    /// Created with the first reject.
    file: Option<std::io::BufWriter<std::fs::File>>,
}

impl RejectsWriter {
    pub fn new(directory: &Path, index: u32) -> Self {
        let outcomes = directory.join(Layout::OUTCOMES);
        let name = rejects_file(index);
        let temporary = outcomes.join(format!(".{name}.tmp"));
        Self { temporary, path: outcomes.join(name), hasher: Xxh3::new(), file: None }
    }

    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&mut self, reject: &Reject) -> Result<(), FileError> {
        if self.file.is_none() {
            if let Some(directory) = self.temporary.parent() {
                files::create_dir_all(directory)?;
            }
            // An earlier attempt may have left a file.
            files::remove_file_if_exists(&self.temporary)?;
            self.file = Some(files::buffered_writer(files::create_new(&self.temporary)?));
        }
        let mut line = serde_json::to_vec(reject).expect("a reject is a number and a text");
        line.push(b'\n');
        self.hasher.update(&line);
        match &mut self.file {
            Some(file) => file.write_all(&line).map_err(|source| self.error(source)),
            None => Ok(()),
        }
    }

    /// Publishes the rejects of the unit, in place of earlier ones; returns their checksum, which goes into the outcome.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn commit(mut self) -> Result<Option<String>, FileError> {
        let Some(mut file) = self.file.take() else {
            files::remove_file_if_exists(&self.path)?;
            return Ok(None);
        };
        file.flush().map_err(|source| self.error(source))?;
        files::rename(&self.temporary, &self.path)?;
        Ok(Some(in_hex(&self.hasher)))
    }

    fn error(&self, source: std::io::Error) -> FileError {
        FileError { action: "write", path: self.temporary.clone(), source }
    }
}

impl fmt::Debug for RejectsWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectsWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Reads the rejects of a unit, in the order in which its app reported them; none if there is no file.
///
/// # Errors
///
/// The file cannot be opened. A line that cannot be read yields an error of its own.
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
