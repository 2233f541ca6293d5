//! Opens a path beneath a directory and through no symlink.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::LazyLock;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Opens a directory only as the start of further paths.
pub(super) const OPEN_PATH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// A single attempt fails if it is interrupted by a signal, or by a concurrent rename.
const ATTEMPTS: usize = 16;

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Whether `openat2` is available, which resolves a path in one step. Linux before 5.6 lacks it, and some containers forbid it.
static KERNEL_RESOLVES: LazyLock<bool> = LazyLock::new(|| {
    let probe = openat2(CWD, ".", OPEN_PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    if let Err(error) = probe {
        let error = io::Error::from(error);
        tracing::warn!(%error, "openat2 is unavailable, paths in the drop directory are opened component by component");
    }
    probe.is_ok()
});

/// Opens `path` beneath `directory`; the directory itself if the path is empty.
///
/// # Errors
///
/// Among others `ELOOP` or `ENOTDIR`: a component of the path is a symlink, possibly the last one.
pub(super) fn open(directory: BorrowedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    // Only `openat2` itself would refuse `..`; an invalid path is refused either way.
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Errno::INVAL.into());
    }
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    match *KERNEL_RESOLVES {
        true => in_one_step(directory, path, flags),
        false => part_by_part(directory, path, flags),
    }
}

fn in_one_step(directory: BorrowedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        match openat2(directory, path, flags, Mode::empty(), BENEATH) {
            Err(Errno::INTR | Errno::AGAIN) if attempts > 0 => {}
            opened => return Ok(opened?),
        }
    }
}

/// Gives the same guarantees without `openat2`: each component is opened by itself, and none may be a symlink.
fn part_by_part(directory: BorrowedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let step = |from: BorrowedFd, part: &Path, flags: OFlags| {
        openat(from, part, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    };
    let mut parts = path.iter().map(Path::new).peekable();
    let mut opened: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_some() { OPEN_PATH } else { flags };
        let from = opened.as_ref().map_or(directory, AsFd::as_fd);
        opened = Some(step(from, part, flags)?);
    }
    opened.ok_or_else(|| Errno::INVAL.into())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn both_ways_open_paths_beneath_and_nothing_through_a_symlink() {
        let root = tempfile::tempdir().expect("temporary directory");
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("drop/a/b")).expect("directories");
        fs::create_dir(at("outside")).expect("directory");
        for file in ["drop/a/b/file", "outside/file"] {
            fs::write(at(file), file).expect("file");
        }
        symlink(at("outside"), at("drop/absolute")).expect("symlink");
        symlink("../outside", at("drop/relative")).expect("symlink");
        symlink("a", at("drop/inside")).expect("symlink");
        symlink("a/b/file", at("drop/at-the-end")).expect("symlink");
        symlink("/proc/self/root", at("drop/magic")).expect("symlink");
        let directory = File::open(at("drop")).expect("directory");
        for way in [in_one_step, part_by_part] {
            let open = |path: &str, flags| way(directory.as_fd(), Path::new(path), flags);
            open("a/b/file", OFlags::RDONLY).expect("a file beneath it");
            open("a/b", OPEN_PATH).expect("a directory");
            open(".", OPEN_PATH).expect("the directory itself");
            for path in [
                "absolute/file",
                "relative/file",
                "inside/b/file",
                "at-the-end",
                "magic/etc/passwd",
                "absolute",
            ] {
                for flags in [OFlags::RDONLY, OPEN_PATH] {
                    let error = open(path, flags).expect_err(path);
                    let code = error.raw_os_error();
                    assert!(matches!(code, Some(libc::ELOOP | libc::ENOTDIR)), "{path}: {error}");
                }
            }
            assert_eq!(open("a/c/file", OFlags::RDONLY).expect_err("absent").kind(), io::ErrorKind::NotFound);
        }
        for path in ["..", "../outside", "a/../../outside", "/etc"] {
            open(directory.as_fd(), Path::new(path), OPEN_PATH).expect_err(path);
        }
    }
}
