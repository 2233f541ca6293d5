//! A batch-manager at work, on the embedded store, with apps that behave and apps that do not.
#![allow(clippy::disallowed_methods)]

mod apps;
mod audits;
mod ends;
mod lifecycle;
mod power_cut;
mod workers;
mod workshop;
