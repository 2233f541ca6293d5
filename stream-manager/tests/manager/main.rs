//! The manager as a whole, on a real mosquitto and the embedded store, with shell scripts as stream apps.

#![allow(clippy::disallowed_methods)]

mod bed;
mod control;
mod documented;
mod lifecycle;
mod processes;
mod scaling;
