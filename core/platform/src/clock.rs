//! The clock.

use jiff::Timestamp;

/// The current time, for people and documents. Durations are measured with `std::time::Instant`.
pub fn now() -> Timestamp {
    Timestamp::now()
}
