//! Runs programs.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

/// Why the command failed, and its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// For `map_err`: adds what failed on which object to the error.
    pub(crate) fn of(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::new(format!("{what}: {error}"))
    }
}

/// Cargo, in the directory of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace());
    without_own_package(&mut command);
    command
}

/// Removes the variables that `cargo run` sets for this package. Build scripts that depend on them, such as ring's, would
/// otherwise run again.
pub(crate) fn without_own_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CARGO_PKG_")
            || name.as_encoded_bytes().starts_with(b"CARGO_MANIFEST_")
        {
            command.env_remove(name);
        }
    }
}

/// Runs the command to its end; its output goes to the terminal.
///
/// # Errors
///
/// If it cannot be started, or if it fails; in that case with its exit code.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let words = words(command);
    let status = command.stdin(Stdio::null()).status().map_err(Failure::of(format!("cannot run {words}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure { code: exit_code(status), message: format!("{words} failed: {status}") })
}

/// Whether the command runs and succeeds; its output is discarded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The directory of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map_or_else(|| own.clone(), PathBuf::from)
}

/// Returns the path of a program of this workspace: cargo puts all programs of a profile in one directory, including this
/// one.
///
/// # Errors
///
/// If this program's own path cannot be determined.
pub(crate) fn built(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(Failure::of("cannot determine where programs are built"))?;
    Ok(own.with_file_name(name))
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

fn words(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
