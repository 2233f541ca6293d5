//! The platform as its users run it: real processes, a real broker, a real database.

#![allow(clippy::disallowed_methods, reason = "tests write files as clients do")]

mod backlog;
mod batch;
mod commands;
#[cfg(feature = "failpoints")]
mod crashes;
mod damaged;
mod dashboard;
mod demo;
mod drops;
mod edge;
mod embedded;
mod fairness;
mod health;
mod hostile;
mod live_config;
mod network;
mod outages;
mod power_cut;
mod pressure;
mod privacy;
mod reconcile;
mod refused;
mod reprocess;
mod retention;
mod scaling;
mod serving;
mod sftp;
mod streams;
mod support;
mod tail;
mod takeover;
mod tenants;
mod tls;
mod top;
mod uploads;
mod values;
mod weathervane;
