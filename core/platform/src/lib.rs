//! Doors to the machine: whatever has an effect goes through one of these, and clippy refuses it elsewhere.
//!
//! - [`files`]: read, written durably, moved, listed; [`modes`]: closed to others; [`space`]: what is free;
//! - [`lock`]: one process for each job; [`lease`]: who else has a file open;
//! - [`process`]: children of their own group, found again after a crash; [`secrets`]: kept out of dumps;
//!   [`memory`]: what a process may take; [`socket`]: the local socket;
//! - [`sign`] and [`status_file`]: what a process shows of itself;
//! - [`clock`], [`random`], [`backoff`];
//! - [`failpoint`]: where a test can have a process die, between any two steps.

#![allow(clippy::disallowed_methods)]

pub mod backoff;
pub mod clock;
pub mod failpoint;
pub mod files;
pub mod lease;
pub mod lock;
pub mod memory;
pub mod modes;
pub mod process;
pub mod random;
pub mod secrets;
pub mod sign;
pub mod socket;
pub mod space;
pub mod status_file;
