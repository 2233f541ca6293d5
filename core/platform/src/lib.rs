//! The I/O adapters: everything that has an effect goes through these modules, or through `mysimbdp_broker`,
//! `mysimbdp_store` and `mysimbdp_spool`; clippy refuses it elsewhere.
//!
//! - [`files`]: reads, durable writes, moves and listings; [`modes`]: closes files to other users; [`space`]: free disk space;
//! - [`lock`]: one process for each job; [`lease`]: whether another process has a file open for writing;
//! - [`process`]: children in process groups of their own, found again after a crash; [`secrets`]: kept out of core dumps;
//!   [`memory`]: how the allocator keeps freed memory; [`open_files`]: how many there may be; [`socket`]: local sockets;
//! - [`notice`] and [`status_file`]: what a process reports about itself;
//! - [`clock`], [`random`], [`backoff`]; [`runtime`]: survives a shortage of threads;
//! - [`failpoint`]: places between two steps where a test can make a process die.

#![allow(clippy::disallowed_methods)]

pub mod backoff;
pub mod clock;
pub mod failpoint;
pub mod files;
pub mod lease;
pub mod lock;
pub mod memory;
pub mod modes;
pub mod notice;
pub mod open_files;
pub mod process;
pub mod random;
pub mod runtime;
pub mod secrets;
pub mod socket;
pub mod space;
pub mod status_file;
