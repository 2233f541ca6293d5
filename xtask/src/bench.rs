//! `cargo xtask bench`: measures the platform and what limits it, in the same run.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::run::{Failure, built, cargo, run, without_own_package, workspace};
use crate::setup::setup;

/// Installs what is missing, builds everything in release mode, then becomes `benches`, so that Ctrl-C and the exit code
/// are those of `benches`.
pub(crate) fn bench(arguments: &[OsString]) -> Result<(), Failure> {
    setup()?;
    run(&mut cargo(&["build", "--locked", "--release", "--workspace", "--exclude", "xtask", "--bins"]))?;
    let mut benches = Command::new(released("benches")?);
    benches.args(arguments).current_dir(workspace());
    without_own_package(&mut benches);
    Err(Failure::of("cannot run benches")(benches.exec()))
}

/// Returns the path of a program of the release build, whose directory is next to that of this program's build.
fn released(name: &str) -> Result<PathBuf, Failure> {
    let own = built(name)?;
    let profiles = own.parent().and_then(|profile| profile.parent());
    let none = || Failure::new("cannot determine where release programs are built");
    Ok(profiles.ok_or_else(none)?.join("release").join(name))
}
