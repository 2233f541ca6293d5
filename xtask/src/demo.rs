//! `cargo xtask demo`: from a clone to the running demo.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::run::{Failure, built, cargo, run, without_own_package};

/// Builds the platform and its apps, then becomes `mysimbdp demo`, so that Ctrl-C and the exit code are those of the demo.
pub(crate) fn demo(arguments: &[OsString]) -> Result<(), Failure> {
    run(&mut cargo(&[
        "build",
        "--locked",
        "--workspace",
        "--exclude",
        "xtask",
        "--exclude",
        "mysimbdp-testbed",
        "--exclude",
        "mysimbdp-chaos",
        "--exclude",
        "mysimbdp-benches",
        "--bins",
    ]))?;
    let mut demo = Command::new(built("mysimbdp")?);
    demo.arg("demo").args(arguments);
    without_own_package(&mut demo);
    Err(Failure::of("cannot run mysimbdp")(demo.exec()))
}
