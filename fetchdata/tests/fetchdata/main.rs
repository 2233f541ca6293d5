//! fetchdata as a whole, on real directories: every dropped file ends up staged or discarded, once and never partly.

#![allow(clippy::disallowed_methods, reason = "tests drop files as senders do")]

mod arrivals;
mod broken_folders;
mod crash_recovery;
mod hostile_directories;
mod names;
mod refusals;
mod repeats;
mod running;
mod tenants;
