//! The HTTP server: queries by many at a time, long lists, events for a thousand listeners, and ingestion meanwhile.

mod burst;
mod callers;
mod dashboard;
mod events;
mod ingest;
mod latest;
mod list;
mod pages;
mod records;
mod windows;

pub use burst::BURST;
pub use dashboard::DASHBOARD;
pub use events::EVENTS;
pub use ingest::INGEST;
pub use latest::LATEST;
pub use list::LIST;
pub use pages::PAGES_OPEN;
pub use windows::WINDOWS;
