//! Real brokers, databases and processes for the tests.
//!
//! - [`mongodb()`] and [`mosquitto()`] return the servers that all tests share: those named in the environment (`cargo xtask
//!   test` starts them once), otherwise servers that this test process starts for itself;
//! - [`Mongod`] and [`Mosquitto`] belong to one test, which may kill, pause and restart them on the same port and data;
//! - [`Root`] is a data root in a temporary directory, [`Daemon`] a `mysimbdp` process on it;
//! - [`Proxy`] simulates network faults between a program and its server;
//! - [`Http`] sends requests to an HTTP server;
//! - [`Browser`] uses a page as a person does, and checks what no page may do;
//! - [`mqtt`] publishes and subscribes with the clients that users have;
//! - [`Disk`] is a file system of one test, whose power can be cut;
//! - [`Sshd`] is an SFTP server whose user has access to a directory;
//! - [`OtherUser`] is another user of the machine, who interferes;
//! - [`until`] waits for a condition; nothing here sleeps for a guessed time.
//!
//! Every process ends with the test that started it, however that ends. A missing server is a failure. This crate uses none of
//! the platform's crates: it sees the platform as an operator does.

#![allow(clippy::disallowed_methods, reason = "tests start processes and write files themselves")]

mod browser;
mod daemon;
mod faults;
mod hostile;
mod http;
mod mongod;
mod mosquitto;
pub mod mqtt;
mod name;
mod namespace;
mod other_user;
mod power_cut;
mod process;
mod processes;
mod program;
mod proxy;
mod random;
mod root;
mod shared;
mod sshd;
mod wait;

pub use browser::{Browser, Screen};
pub use daemon::Daemon;
pub use faults::SystemFaults;
pub use hostile::{Expected, HostileRecord, MEMORY_KIB_MAX, canonical, hostile_records};
pub use http::{Answer, Http};
pub use mongod::Mongod;
pub use mosquitto::Mosquitto;
pub use name::{free_port, unique};
pub use other_user::{OTHER_USER, OtherUser};
pub use power_cut::{Disk, FileSystem};
pub use process::Process;
pub use processes::{
    become_reaper, descendants, is_running, limit_descriptors, memory_peak_kib, reap_orphans, signal,
    signal_if_running,
};
pub use program::{binary, program, promtool, python};
pub use proxy::{Proxy, ProxyFault};
pub use random::Random;
pub use root::Root;
pub use rustix::process::Signal;
pub use shared::{MongoHandle, MosquittoHandle, mongodb, mosquitto};
pub use sshd::{ALICE, Sshd};
pub use wait::{SOON, until, until_async};
