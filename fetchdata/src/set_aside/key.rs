//! Keys under which originals wait: the ingestion, with a prefix if a writer may have the file open. An original with
//! that prefix has a record beside it.

use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_platform::files::FileError;
use mysimbdp_spool::drop_directory::DropDirectory;

/// Prefix of the ingestion, in the key of an original whose writer may have it open.
const LATE_PREFIX: &str = "late-";
pub(crate) const RECORD_SUFFIX: &str = ".json";

/// The key of an original whose writer may have it open.
pub(crate) fn of_late(ingestion: IngestionId) -> String {
    format!("{LATE_PREFIX}{ingestion}")
}

/// The ingestion that an original with this key belongs to, and whether it waits for its writer.
pub(crate) fn ingestion_of(key: &str) -> Option<(IngestionId, bool)> {
    let late = key.strip_prefix(LATE_PREFIX);
    Some((late.unwrap_or(key).parse().ok()?, late.is_some()))
}

pub(crate) fn is_late(key: &str) -> bool {
    key.starts_with(LATE_PREFIX)
}

/// Removes the record of an original, if there is one.
pub(crate) fn forget(drop_directory: &DropDirectory, key: &str) -> Result<(), FileError> {
    if !is_late(key) {
        return Ok(());
    }
    match drop_directory.platform_directory()?.remove_file(record_name(key).as_ref()) {
        Err(error) if error.is_not_found() => Ok(()),
        removed => removed,
    }
}

pub(crate) fn record_name(key: &str) -> String {
    format!("{key}{RECORD_SUFFIX}")
}
