//! `cargo xtask chaos`: the platform under load, with everything failing at random.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::run::{Failure, built, cargo, run, without_own_package};
use crate::setup::setup;

/// Installs and builds what is missing, then becomes `chaos`, so that Ctrl-C and the exit code are those of `chaos`.
pub(crate) fn chaos(arguments: &[OsString]) -> Result<(), Failure> {
    setup()?;
    run(&mut cargo(&["build", "--locked", "--workspace", "--exclude", "xtask", "--bins"]))?;
    let mut chaos = Command::new(built("chaos")?);
    chaos.args(arguments);
    without_own_package(&mut chaos);
    Err(Failure::of("cannot run chaos")(chaos.exec()))
}
