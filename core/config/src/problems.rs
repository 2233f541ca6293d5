//! Collects the faults of a config until all of it has been checked.

use super::Fault;
use super::location::{ConfigText, Path, SourceLocation};

/// The faults found so far.
pub(super) struct Problems<'a> {
    source: &'a ConfigText<'a>,
    faults: Vec<Fault>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(source: &'a ConfigText<'a>) -> Self {
        Self { source, faults: source.duplicate_keys() }
    }

    /// The text that is being checked.
    pub(super) fn text(&self) -> &str {
        self.source.text()
    }

    /// Reports that the value at `path` is wrong.
    pub(super) fn value(&mut self, path: &Path, message: impl Into<String>) {
        self.faults.push(Fault::new(self.source.value(path), path, message));
    }

    /// Reports that the last key of `path` is wrong.
    pub(super) fn key(&mut self, path: &Path, message: impl Into<String>) {
        self.faults.push(Fault::new(self.source.key(path), path, message));
    }

    /// Reports that an environment variable is wrong; it has no location in the file.
    pub(super) fn variable(&mut self, name: &str, message: impl Into<String>) {
        self.faults.push(Fault::new(SourceLocation::START, &Path::default().key(name), message));
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, Vec<Fault>> {
        if self.faults.is_empty() { Ok(value) } else { Err(self.faults) }
    }
}
