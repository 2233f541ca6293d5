//! Answers questions about files and processes, and carries out drops, retries and reprocessing; the command line prints the
//! results.
//!
//! - [`snapshot`]: whether everything that the config requires is running; [`files_by_state`]: which files each client
//!   has, and where; [`file_list`]: all files page by page; [`file_counts`]: how many there are; [`ingestion`]: everything
//!   about one of them; [`queues`]: how long files wait, and what for; [`changes`]: what has happened since the last look;
//!   [`arrivals`]: whether the files came that are expected;
//! - [`drop_file`]: drops a file safely;
//! - [`file_outcome`]: how one dropped file ended; [`rejected`]: which of its records were rejected;
//! - [`retry`] and [`reprocess`]: return a file to where it is processed again; [`free_name`]: an unused name for it;
//!   [`notify_staged`]: tells batch-manager at once;
//! - [`records`]: the stored records of both layers in the order of time; [`windows`]: their numbers by windows of time;
//! - [`reconcile`]: compares what was reported with what is stored.
//!
//! Nothing is printed here, and no error is an exit code: [`QueryError::kind`] tells what the caller can do about it.

pub mod arrivals;
pub mod changes;
pub mod drop_file;
pub mod error;
pub mod file_counts;
pub mod file_list;
pub mod file_outcome;
pub mod files_by_state;
pub mod free_name;
pub mod ingestion;
pub mod notify_staged;
pub mod queues;
pub mod reason_file;
pub mod reconcile;
pub mod records;
pub mod rejected;
pub mod reprocess;
pub mod retry;
pub mod snapshot;
pub mod state_files;
pub mod windows;

pub use error::QueryError;

use mysimbdp_config::Config;
use mysimbdp_store::CoredmsError;
use mysimbdp_store::history::History;

/// Opens the history of the files.
///
/// # Errors
///
/// The store is unavailable.
pub async fn open_history(config: &Config) -> Result<History, CoredmsError> {
    History::open(&config.coredms_url, &config.settings.coredms.database).await
}
