//! Finds the program of a command.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::ProcessError;

/// Searched if this process itself has no `PATH`.
pub(super) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Finds the program that `command` names. A name without a slash is searched beside this executable, then on the `PATH`; one
/// with a slash is a path relative to the data root `root`.
///
/// # Errors
///
/// [`ProcessError::NotFound`], which lists every path that was searched.
pub fn find_program(command: &str, root: &Path) -> Result<PathBuf, ProcessError> {
    let searched: Vec<PathBuf> = if command.contains('/') {
        vec![root.join(command)]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let beside = std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
        beside
            .into_iter()
            .chain(std::env::split_paths(&path))
            .map(|directory| directory.join(command))
            .collect()
    };
    match searched.iter().find(|path| is_executable(path)) {
        Some(path) => Ok(path.clone()),
        None => Err(ProcessError::NotFound { command: command.to_owned(), searched }),
    }
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_searched_on_the_path_and_a_path_below_the_root() {
        let root = tempfile::tempdir().expect("temporary directory");
        assert!(find_program("sh", root.path()).expect("sh is on every PATH").is_absolute());
        std::fs::write(root.path().join("app.sh"), "#!/bin/sh\n").expect("write app");
        let refused = find_program("./app.sh", root.path()).expect_err("not executable yet").to_string();
        assert!(refused.contains("./app.sh") && refused.contains("not executable"), "{refused}");
        std::fs::set_permissions(root.path().join("app.sh"), std::fs::Permissions::from_mode(0o755))
            .expect("chmod");
        assert_eq!(
            find_program("./app.sh", root.path()).expect("executable now"),
            root.path().join("./app.sh")
        );
        assert!(find_program("no-such-program-anywhere", root.path()).is_err());
    }
}
