//! Why a case, or the whole run, has no result.

use std::error::Error;

/// What was done to what; the cause is its source.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct BenchError {
    what: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

pub type Result<T> = std::result::Result<T, BenchError>;

impl BenchError {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// For `map_err`.
    pub fn of<E: Error + Send + Sync + 'static>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self { what, source: Some(Box::new(error)) }
    }

    /// The failure and its causes in one line.
    pub fn error_chain(&self) -> String {
        let mut line = self.what.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(&format!(": {error}"));
            cause = error.source();
        }
        line
    }
}
