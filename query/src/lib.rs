//! What is known about files and processes, and what a person may have done about it; the command line renders it.
//!
//! - [`snapshot`]: whether everything runs that the config demands; [`files_by_state`]: which files each client has, and where;
//! - [`file_outcome`]: what has become of one dropped file;
//! - [`retry`] and [`reprocess`]: back to where a file is processed again; [`free_name`]: under which name;
//! - [`reconcile`]: what was reported against what is stored.
//!
//! Nothing is printed here, and no error is an exit code: [`QueryError::kind`] says what can be done about it.

pub mod error;
pub mod file_outcome;
pub mod files_by_state;
pub mod free_name;
pub mod reason_file;
pub mod reconcile;
pub mod reprocess;
pub mod retry;
pub mod snapshot;
pub mod state_files;

pub use error::QueryError;
