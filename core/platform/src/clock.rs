//! The door to the clock.

use jiff::Timestamp;

/// The time of day, for what people and documents read. Durations are measured with `std::time::Instant`.
pub fn now() -> Timestamp {
    Timestamp::now()
}
