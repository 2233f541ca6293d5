//! Tests of a running batch-manager on the embedded store, with apps that behave and apps that do not.
#![allow(clippy::disallowed_methods)]

mod apps;
mod arrivals;
mod audits;
mod ends;
mod fixture;
mod lifecycle;
mod power_cut;
mod workers;
