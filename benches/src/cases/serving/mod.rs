//! The HTTP server: queries by many at a time, long lists, events for a thousand listeners, and ingestion meanwhile.

mod events;
mod ingest;
mod list;
mod point;
mod records;

pub use events::EVENTS;
pub use ingest::INGEST;
pub use list::LIST;
pub use point::{LATEST, POINT};
