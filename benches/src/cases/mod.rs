//! All cases, by importance.

mod backlog;
mod documents;
mod growth;
mod latency;
mod objects;
mod serving;
mod small_files;
mod staging;
mod stream;
mod up;

use crate::case::Plan;

pub use documents::CSV;
pub use staging::STAGING;
pub use stream::QOS_1;

/// Each process of the platform, at full rate, whatever the size of the file.
const MEMORY_KIB_MAX: u64 = 64 * 1024;

/// Where contenders stand in all cases that have them; the platform comes first.
const YARDSTICK: usize = 1;
const PEER: usize = 2;

/// All there are.
pub const ALL: &[Plan] = &[
    CSV,
    documents::NDJSON,
    objects::GRIDFS_50,
    small_files::SMALL_FILES,
    QOS_1,
    stream::QOS_0,
    STAGING,
    objects::GRIDFS_500,
    latency::AT_1_000,
    latency::AT_20_000,
    stream::INSTANCES,
    backlog::BACKLOG,
    up::IDLE,
    up::START,
    growth::GROWTH,
    serving::LATEST,
    serving::BURST,
    serving::LIST,
    serving::WINDOWS,
    serving::EVENTS,
    serving::INGEST,
    serving::PAGES_OPEN,
    serving::DASHBOARD,
];
