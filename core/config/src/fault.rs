//! Faults of a config, each with its location.

use std::fmt;
use std::path::{Path, PathBuf};

use super::location::SourceLocation;

/// One thing that is wrong with a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// Path of the value, such as `clients[0].apps[1].command`; empty for the file as a whole.
    pub path: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Fault {
    pub(super) fn new(
        location: SourceLocation,
        path: &super::location::Path,
        message: impl Into<String>,
    ) -> Self {
        Self { line: location.line, column: location.column, path: path.to_string(), message: message.into() }
    }
}

/// Everything that is wrong with a config file, in the order of the file.
#[derive(Debug)]
pub struct Faults {
    pub file: PathBuf,
    pub faults: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(file: &Path, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults.dedup();
        Self { file: file.to_owned(), faults }
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.faults.iter().enumerate() {
            if position > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}:{}: ", self.file.display(), fault.line, fault.column)?;
            if !fault.path.is_empty() {
                write!(f, "{}: ", fault.path)?;
            }
            write!(f, "{}", fault.message)?;
        }
        Ok(())
    }
}
