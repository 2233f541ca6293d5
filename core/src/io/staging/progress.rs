//! How far the work units of a staged ingestion have come: `outcomes/`.
//!
//! `NNNNN.attempt.json` is written before a unit is begun and after it has failed, `NNNNN.json` when it is done, and
//! `NNNNN.rejects.ndjson` just before that. None of it is synced: what a power cut takes is derived again by running
//! the unit again, which adds nothing twice.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::StagingError;
use crate::io::files::{self, FileError};
use crate::layout::{Layout, outcome_file};
use crate::outcome::Outcome;

/// How often a work unit has been begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Number of the last one, from 1.
    pub attempt: u32,
    /// Attempts that failed by the app's fault. One that asked to be tried later, or was cut off by the end of the
    /// manager, is none.
    pub failures: u32,
    /// With ids of the platform: the unit's records that were in coredms before the first attempt of this run.
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

type Progress = (BTreeMap<u32, Outcome>, BTreeMap<u32, Attempt>);

/// Reads all outcomes and attempts; removes those that are torn.
pub(super) fn read(directory: &Path) -> Result<Progress, FileError> {
    let (mut outcomes, mut attempts) = Progress::default();
    for path in files::list(&directory.join(Layout::OUTCOMES))? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some(index) = index_of(name, ".attempt.json") {
            if let Some(attempt) = read_or_remove(&path)? {
                attempts.insert(index, attempt);
            }
        } else if let Some(index) = index_of(name, ".json")
            && let Some(outcome) = read_or_remove::<Outcome>(&path)?
        {
            outcomes.insert(index, outcome);
        }
    }
    Ok((outcomes, attempts))
}

fn index_of(name: &str, ending: &str) -> Option<u32> {
    let digits = name.strip_suffix(ending)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn read_or_remove<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    match serde_json::from_slice(&files::read(path)?) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "removed a torn file, its work unit is run again");
            files::remove_file(path)?;
            Ok(None)
        }
    }
}

/// Writes that a unit is done; what it rejected must have been written before.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_outcome(directory: &Path, outcome: &Outcome) -> Result<(), FileError> {
    write(directory, &outcome_file(outcome.index), outcome)
}

/// Writes how often a unit has been begun.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_attempt(directory: &Path, index: u32, attempt: &Attempt) -> Result<(), FileError> {
    write(directory, &format!("{index:05}.attempt.json"), attempt)
}

fn write(directory: &Path, name: &str, value: &impl Serialize) -> Result<(), FileError> {
    let outcomes = directory.join(Layout::OUTCOMES);
    files::create_dir_all(&outcomes)?;
    let mut json =
        serde_json::to_vec(value).expect("outcomes and attempts have no map with keys other than text");
    json.push(b'\n');
    files::write_atomic(&outcomes.join(name), &json)
}

/// Collects what one attempt of a unit rejects, on disk, as there may be as many as records.
#[derive(Debug)]
pub struct RejectsWriter {
    unseen: PathBuf,
    path: PathBuf,
    /// Created with the first one.
    file: Option<std::io::BufWriter<std::fs::File>>,
}

impl RejectsWriter {
    pub fn new(directory: &Path, index: u32) -> Self {
        let outcomes = directory.join(Layout::OUTCOMES);
        let name = rejects_file(index);
        Self { unseen: outcomes.join(format!(".{name}.tmp")), path: outcomes.join(name), file: None }
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
        match &mut self.file {
            Some(file) => file.write_all(&line).map_err(|source| self.error(source)),
            None => Ok(()),
        }
    }

    /// Makes them those of the unit, in place of any earlier ones.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn commit(mut self) -> Result<(), FileError> {
        match self.file.take() {
            None => files::remove_file_if_there(&self.path),
            Some(mut file) => {
                file.flush().map_err(|source| self.error(source))?;
                files::rename(&self.unseen, &self.path)
            }
        }
    }

    fn error(&self, source: std::io::Error) -> FileError {
        FileError { action: "write", path: self.unseen.clone(), source }
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
