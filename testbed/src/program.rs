//! Finds programs: those of this workspace, and the external ones that the tests need.

use std::path::{Path, PathBuf};
use std::process::Command;

const SETUP: &str = "`cargo xtask setup` installs what the tests need";

/// Returns the path of an executable that this workspace builds, such as `mysimbdp`.
///
/// # Panics
///
/// If it has not been built.
#[track_caller]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    // Tests are in target/<profile>/deps, programs one level up; a program may also look for another one beside itself.
    let found =
        test.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not built beside {}: `cargo build --workspace --bins` builds it", test.display())
    })
}

/// Returns the path of an installed program: on the PATH, or in a directory for daemons, which ordinary users may not have on
/// their PATH.
///
/// # Panics
///
/// If it is not installed.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    on_path(name).unwrap_or_else(|| panic!("{name} is not installed: {SETUP}"))
}

/// Returns the path of a Python with pymongo and paho-mqtt.
///
/// # Panics
///
/// If it is not installed.
#[track_caller]
pub fn python() -> PathBuf {
    let python = variable("MYSIMBDP_TEST_PYTHON").unwrap_or_else(|| cache().join("venv/bin/python"));
    assert!(python.is_file(), "{} does not exist: {SETUP}", python.display());
    python
}

/// Returns `MYSIMBDP_MONGOD`, otherwise a mongod on the PATH, otherwise the one that `cargo xtask setup` installs.
#[track_caller]
pub(crate) fn mongod() -> PathBuf {
    if let Some(given) = variable("MYSIMBDP_MONGOD") {
        assert!(given.is_file(), "MYSIMBDP_MONGOD names {}, which is not a file", given.display());
        return given;
    }
    let installed = cache().join("mongod-6.0.5/bin/mongod");
    on_path("mongod").or_else(|| installed.is_file().then_some(installed)).unwrap_or_else(|| {
        panic!("mongod is not installed: {SETUP}; or set MYSIMBDP_MONGOD to one, or MYSIMBDP_TEST_MONGODB to a running server")
    })
}

/// Returns the installed sshd, otherwise the one that `cargo xtask setup` unpacks.
#[track_caller]
pub(crate) fn sshd() -> PathBuf {
    let unpacked = cache().join("openssh/usr/sbin/sshd");
    on_path("sshd")
        .or_else(|| unpacked.is_file().then_some(unpacked))
        .unwrap_or_else(|| panic!("sshd is not installed: {SETUP}"))
}

/// Returns the installed promtool, otherwise the one that `cargo xtask setup` unpacks.
///
/// # Panics
///
/// If it is not installed.
#[track_caller]
pub fn promtool() -> PathBuf {
    let unpacked = cache().join("prometheus/usr/bin/promtool");
    on_path("promtool")
        .or_else(|| unpacked.is_file().then_some(unpacked))
        .unwrap_or_else(|| panic!("promtool is not installed: {SETUP}"))
}

/// Returns `MYSIMBDP_TEST_AXE`, otherwise the axe-core that `cargo xtask setup` unpacks.
#[track_caller]
pub(crate) fn axe() -> PathBuf {
    let script = variable("MYSIMBDP_TEST_AXE").unwrap_or_else(|| cache().join("axe-core-4.14.1/axe.min.js"));
    assert!(script.is_file(), "{} does not exist: {SETUP}", script.display());
    script
}

/// Runs a command to its end. Returns its stdout, or why it failed.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The directory that `cargo xtask setup` installs to.
fn cache() -> PathBuf {
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    cache.expect("HOME or XDG_CACHE_HOME is set").join("mysimbdp")
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories =
        std::env::split_paths(&path).chain([Path::new("/usr/sbin").into(), "/usr/local/sbin".into()]);
    directories.map(|directory| directory.join(name)).find(|program| program.is_file())
}
