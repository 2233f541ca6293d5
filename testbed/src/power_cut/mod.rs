//! Power cuts: a file system that forgets what was not synced.
//!
//! A [`Disk`] is an image file on a loop device, mounted with default options. [`Disk::cut`] shuts the file system down
//! without flushing anything, as the kernel allows for tests of this kind: from then on everything on it fails, and what was
//! neither synced nor written back is lost. [`Disk::restore`] mounts it again, which replays its journal.
//!
//! Nothing can leak. The mount lies in a mount namespace of this test process (see [`crate::namespace`]), and the loop device
//! is released by the kernel when its last user is gone, however the test ends.

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::program::run;
use crate::{namespace, program, until};

/// XFS makes none below 300 MB. Sparse: only what is written takes room.
const BYTES: u64 = 320 << 20;
/// `FS_IOC_SHUTDOWN`, which ext4 and XFS have under the same number.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// Not even the journal is flushed.
const NO_LOG_FLUSH: u32 = 2;
/// Processes that were killed may still be about to close their files.
const RELEASED_WITHIN: Duration = Duration::from_secs(60);

/// A file system, and with which options it is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// With default options. A file that is renamed over another one is written before the name is.
    Ext4,
    /// Without that kindness.
    Ext4NoAutoDaAlloc,
    /// With default options.
    Xfs,
}

/// A mounted file system of the test's own; unmounted and removed when dropped.
pub struct Disk {
    file_system: FileSystem,
    mounted_at: PathBuf,
    /// Held open, so that the device stays while nothing is mounted.
    _device: File,
    device_path: PathBuf,
    _directory: TempDir,
}

impl Disk {
    /// Makes and mounts one. The calling thread sees it, and so do threads and children that are started afterwards.
    ///
    /// Where this process may not mount, or the kernel has no such file system, there is none: that is printed, with the
    /// reason, and the test is to end.
    ///
    /// # Panics
    ///
    /// If the programs that make and mount file systems are missing.
    pub fn new_or_skip(file_system: FileSystem) -> Option<Self> {
        let skip = |reason: &String| eprintln!("SKIPPED: no power can be cut here: {reason}");
        Self::new(file_system).inspect_err(skip).ok()
    }

    fn new(file_system: FileSystem) -> Result<Self, String> {
        namespace::enter()?;
        let directory = TempDir::with_prefix("mysimbdp-disk-").expect("temporary directory");
        let (image, mounted_at) = (directory.path().join("image"), directory.path().join("mounted"));
        std::fs::create_dir(&mounted_at).expect("directory to mount at");
        File::create(&image).and_then(|file| file.set_len(BYTES)).expect("an image file");
        let mkfs = format!("mkfs.{}", file_system.kind());
        run(Command::new(program(&mkfs)).arg("-q").arg(&image)).unwrap_or_else(|error| panic!("{error}"));

        let attached = run(Command::new(program("losetup")).args(["--find", "--show"]).arg(&image))?;
        let device_path = PathBuf::from(attached.trim());
        let device =
            File::open(&device_path).map_err(|error| format!("{}: {error}", device_path.display()))?;
        // It stays as long as it is open or mounted, and is released by the kernel then.
        run(Command::new(program("losetup")).arg("--detach").arg(&device_path))?;
        let disk = Self { file_system, mounted_at, _device: device, device_path, _directory: directory };
        disk.mount()?;
        Ok(disk)
    }

    /// The root directory of the file system.
    pub fn path(&self) -> &Path {
        &self.mounted_at
    }

    /// Writes back all that is on it, so that a test knows what it begins with.
    ///
    /// # Panics
    ///
    /// If it has been cut.
    pub fn sync(&self) {
        rustix::fs::syncfs(self.root()).expect("a mounted file system");
    }

    /// Cuts the power: everything on it fails from now on, and what was not synced is lost.
    ///
    /// # Panics
    ///
    /// If the kernel refuses, or it has been cut already.
    pub fn cut(&self) {
        let root = self.root();
        let how = NO_LOG_FLUSH;
        // SAFETY: this request reads one u32 from the address given, which is that of a variable that lives longer.
        #[allow(unsafe_code)]
        let result = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const how) };
        assert_eq!(result, 0, "cannot cut the power: {}", std::io::Error::last_os_error());
    }

    /// Mounts it again. Whoever has files open on it must have been killed before.
    ///
    /// # Panics
    ///
    /// If somebody still has files open on it, or the journal cannot be replayed.
    pub fn restore(&mut self) {
        until(RELEASED_WITHIN, "nobody has files open on the disk", || {
            run(Command::new(program("umount")).arg(&self.mounted_at)).is_ok()
        });
        self.mount().unwrap_or_else(|error| panic!("{error}"));
    }

    fn root(&self) -> File {
        File::open(&self.mounted_at).expect("it is mounted and not cut")
    }

    fn mount(&self) -> Result<(), String> {
        let mut mount = Command::new(program("mount"));
        mount.args(["-t", self.file_system.kind()]);
        if self.file_system == FileSystem::Ext4NoAutoDaAlloc {
            mount.args(["-o", "noauto_da_alloc"]);
        }
        run(mount.arg(&self.device_path).arg(&self.mounted_at)).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a test that panics may have files open. What is left of the mount ends with the test process.
        let _ = run(Command::new(program("umount")).arg("--lazy").arg(&self.mounted_at));
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file_system, mounted_at, device_path, _device: _, _directory: _ } = self;
        write!(f, "{file_system:?} of {} at {}", device_path.display(), mounted_at.display())
    }
}

impl FileSystem {
    fn kind(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Ext4NoAutoDaAlloc => "ext4",
            Self::Xfs => "xfs",
        }
    }
}
