//! An edge, a real mosquitto, and a platform that stores in memory and can be made to misbehave.

#![allow(clippy::disallowed_methods, reason = "tests read files as operators do")]

mod losses;
mod outbox;
mod platform;
mod power_cut;
