//! Everything that the operator reads: the logs ([`logging`]), and the [`timing`] line of each step in them.

pub mod logging;
pub mod timing;
