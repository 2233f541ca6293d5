//! The only doors to the outside: everything with an effect is here, and clippy refuses it elsewhere.

#![allow(clippy::disallowed_methods)]

pub mod address;
pub mod backoff;
pub mod broker;
pub mod clock;
pub mod coredms;
pub mod drop_directory;
pub mod embedded_broker;
pub mod files;
pub mod lease;
pub mod lock;
pub mod memory;
pub mod modes;
pub mod process;
pub mod process_status;
pub mod random;
pub mod secrets;
pub mod sign;
pub mod socket;
pub mod space;
pub mod staging;
mod status_file;
