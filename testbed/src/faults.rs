//! Simulates faults of the machine for selected processes: a full disk, a wrong clock.
//!
//! These processes preload a library that overrides functions of the C library, so no privileges, no other file system and no
//! separate machine are needed. It intercepts calls that go through the C library, as all our file operations do.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::program;

/// The offsets of the fields of `struct faults` in faults.c.
const CLOCK_AT: u64 = 0;
const NO_SPACE_AT: u64 = 8;
const NO_FILES_AT: u64 = 12;
const DIRECTORY_AT: u64 = 16;
const BYTES: u64 = DIRECTORY_AT + libc::PATH_MAX as u64;

/// The faults that the processes started with [`SystemFaults::env`] see; none at first.
#[derive(Debug)]
pub struct SystemFaults {
    file: File,
    path: PathBuf,
    library: PathBuf,
    _directory: TempDir,
}

impl SystemFaults {
    /// # Panics
    ///
    /// If there is no C compiler. Building this workspace needs one as well.
    #[expect(clippy::new_without_default, reason = "it compiles and writes files")]
    pub fn new() -> Self {
        let directory = TempDir::with_prefix("mysimbdp-faults-").expect("temporary directory");
        let path = directory.path().join("faults");
        let file = File::create(&path).expect("file of the faults");
        file.set_len(BYTES).expect("file of the faults");
        let library = compiled(directory.path());
        Self { file, path, library, _directory: directory }
    }

    /// The environment for [`crate::Daemon::start`].
    pub fn env(&self) -> [(&str, &str); 2] {
        let [library, path] = [&self.library, &self.path].map(|path| path.to_str().expect("a UTF-8 path"));
        [("LD_PRELOAD", library), ("TESTBED_FAULTS", path)]
    }

    /// From now on nothing can be written below `directory`; empty files can still be created.
    pub fn deny_space(&self, directory: &Path) {
        self.limit(directory);
        self.set(NO_SPACE_AT, &1i32.to_ne_bytes());
    }

    /// From now on no file and no directory can be created below `directory`.
    pub fn deny_files(&self, directory: &Path) {
        self.limit(directory);
        self.set(NO_FILES_AT, &1i32.to_ne_bytes());
    }

    /// Ends both faults: files can be created and written again.
    pub fn allow_all(&self) {
        self.set(NO_SPACE_AT, &0i32.to_ne_bytes());
        self.set(NO_FILES_AT, &0i32.to_ne_bytes());
    }

    /// Steps the clock: from now on it differs from the true time by `seconds`.
    pub fn clock(&self, seconds: i64) {
        self.set(CLOCK_AT, &seconds.to_ne_bytes());
    }

    fn limit(&self, directory: &Path) {
        let mut path = directory.as_os_str().as_bytes().to_vec();
        path.push(0);
        self.set(DIRECTORY_AT, &path);
    }

    fn set(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).expect("file of the faults");
    }
}

fn compiled(directory: &Path) -> PathBuf {
    let (source, library) = (directory.join("faults.c"), directory.join("faults.so"));
    std::fs::write(&source, include_str!("faults.c")).expect("write faults.c");
    let mut compiler = Command::new(program("cc"));
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let output = compiler.stdin(Stdio::null()).output().expect("run the C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}
