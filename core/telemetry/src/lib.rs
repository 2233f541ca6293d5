//! What the operator reads: [`logging`], and in it the [`timing`] of each step.

pub mod logging;
pub mod timing;
