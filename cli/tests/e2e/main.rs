//! The platform as its users run it: real processes, a real broker, a real database.

#![allow(clippy::disallowed_methods, reason = "tests write files as clients do")]

mod batch;
mod commands;
mod outages;
mod streams;
mod support;
