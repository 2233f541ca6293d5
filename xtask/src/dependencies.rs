//! Checks third-party dependencies: none with a known vulnerability, an unknown origin, or a licence that was not reviewed.
//!
//! `tests/dependencies.rs` compares `Cargo.lock` with `advisories.tsv` and `deny.toml`, on every machine and without a
//! network. This module generates that list, and runs cargo-deny on the same rules if it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::machine::variable;
use crate::run::{Failure, cargo, run, succeeds, workspace};

/// Looks up the locked packages in a clone of <https://github.com/rustsec/advisory-db>, and writes the result to
/// `advisories.tsv`.
pub(crate) fn advisories(clone: &Path) -> Result<(), Failure> {
    let mut git = Command::new("git");
    let date = output(git.arg("-C").arg(clone).args(["log", "-1", "--format=%cs"]))?;
    let path = workspace().join("xtask/advisories.tsv");
    let mut python = Command::new("python3");
    python.arg("-c").arg(include_str!("advisories.py")).arg(clone).arg(date.trim());
    let list = output(python.arg(workspace().join("Cargo.lock")).arg(&path))?;
    fs::write(&path, list).map_err(Failure::of(format!("cannot write {}", path.display())))
}

/// Runs cargo-deny too, if it is installed; it checks advisories only if its database is on this machine.
pub(crate) fn deny() -> Result<(), Failure> {
    if !succeeds(&mut cargo(&["deny", "--version"])) {
        println!("    cargo-deny is not installed: the tests compare with the checked-in list of advisories");
        return Ok(());
    }
    let mut checks =
        vec!["deny", "--offline", "--locked", "--all-features", "check", "bans", "licenses", "sources"];
    if has_advisories() {
        checks.push("advisories");
    } else {
        println!("    cargo-deny has no advisories: the tests compare with the checked-in list of them");
    }
    run(&mut cargo(&checks))
}

fn has_advisories() -> bool {
    let home = variable("CARGO_HOME").or_else(|| variable("HOME").map(|home| home.join(".cargo")));
    let databases = home.unwrap_or_else(|| PathBuf::from(".cargo")).join("advisory-dbs");
    fs::read_dir(databases).is_ok_and(|mut databases| databases.next().is_some())
}

fn output(command: &mut Command) -> Result<String, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stderr(Stdio::inherit()).output().map_err(Failure::of(format!("cannot run {program}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("{program} failed: {}", output.status)));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::new(format!("the output of {program} is not UTF-8")))
}
