//! Finds what the machine has, and installs what it lacks.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Failure, run, succeeds};

/// Returns the value of an environment variable, if it is set and not empty.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Returns the directory for downloads. It is outside of the tree, so that all clones share it.
///
/// # Errors
///
/// If the environment defines no home directory.
pub(crate) fn cache() -> Result<PathBuf, Failure> {
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let none = || Failure::new("neither HOME nor XDG_CACHE_HOME is set: no directory for downloads");
    Ok(cache.ok_or_else(none)?.join("mysimbdp"))
}

/// Whether a program is installed: on the PATH, or in a directory for daemons, which the PATH of ordinary users may lack.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(daemons).any(|directory| directory.join(program).is_file())
}

/// Installs packages of the distribution.
///
/// # Errors
///
/// If this is not Debian or Ubuntu, if the user may not install packages, or if the package manager fails. The message says
/// what to do.
pub(crate) fn apt_install(packages: &[&str]) -> Result<(), Failure> {
    let packages_missing = packages.join(" ");
    if !has("apt-get") {
        return Err(Failure::new(format!(
            "missing: {packages_missing} (names as in Debian); without apt-get, install them yourself"
        )));
    }
    if !is_root() && !has("sudo") {
        let command = format!("apt-get update && apt-get install --yes {packages_missing}");
        return Err(Failure::new(format!(
            "missing: {packages_missing}; sudo is not installed, so run this as root: {command}"
        )));
    }
    run(apt_get().arg("update"))?;
    run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

/// Downloads a package of the distribution into a directory, without installing it.
///
/// # Errors
///
/// As [`apt_install`].
pub(crate) fn apt_download(package: &str, directory: &Path) -> Result<(), Failure> {
    if !has("apt-get") {
        return Err(Failure::new(format!(
            "missing: {package} (name as in Debian); without apt-get, install it yourself"
        )));
    }
    // If the package lists are recent enough, this needs no privileges.
    if !succeeds(Command::new("apt-get").args(["--quiet", "download", package]).current_dir(directory)) {
        run(apt_get().arg("update"))?;
        run(Command::new("apt-get").args(["--quiet", "download", package]).current_dir(directory))?;
    }
    Ok(())
}

fn apt_get() -> Command {
    // `env`, because sudo does not pass the environment on.
    let mut words = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"];
    if !is_root() {
        words.insert(0, "sudo");
    }
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
