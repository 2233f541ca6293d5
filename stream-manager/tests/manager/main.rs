//! The whole manager, on a real mosquitto and the embedded store, with shell scripts as stream apps.

#![allow(clippy::disallowed_methods)]

mod control;
mod documented;
mod fixture;
mod lifecycle;
mod processes;
mod scaling;
