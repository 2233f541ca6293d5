//! Power cuts: a file system that loses all data that was not synced.
//!
//! A [`Disk`] is an image file on a loop device, mounted with default options. [`Disk::cut`] shuts the file system down
//! without flushing anything, which the kernel supports for such tests: from then on every operation on it fails, and data that
//! was neither synced nor written back is lost. [`Disk::restore`] mounts it again, which replays its journal.
//!
//! Nothing can leak. The mount is in a mount namespace of this test process (see [`crate::namespace`]), and the kernel releases
//! the loop device when its last user has closed it, however the test ends.

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::program::run;
use crate::{namespace, program, until};

/// The size of the image. XFS needs at least 300 MB. The file is sparse: only written blocks use disk space.
const BYTES: u64 = 320 << 20;
/// `FS_IOC_SHUTDOWN`, the same number for ext4 and XFS.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// Not even the journal is flushed.
const NO_LOG_FLUSH: u32 = 2;
/// How long killed processes may take to close their files.
const RELEASED_WITHIN: Duration = Duration::from_secs(60);

/// A file system and its mount options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// With default options. If a file is renamed over another one, its data is written before the name.
    Ext4,
    /// Without that guarantee.
    Ext4NoAutoDaAlloc,
    /// With default options.
    Xfs,
}

/// A mounted file system for one test, unmounted and removed when dropped.
pub struct Disk {
    file_system: FileSystem,
    mounted_at: PathBuf,
    /// Kept open, so that the device exists while nothing is mounted.
    _device: File,
    device_path: PathBuf,
    _directory: TempDir,
}

impl Disk {
    /// Creates and mounts a file system. The calling thread sees it, and so do threads and children that are started afterwards.
    ///
    /// Returns `None` and prints the reason if this process may not mount, or the kernel does not have the file system. Then the
    /// test must end.
    ///
    /// # Panics
    ///
    /// If the programs that create and mount file systems are missing.
    pub fn new_or_skip(file_system: FileSystem) -> Option<Self> {
        let skip = |reason: &String| eprintln!("SKIPPED: cannot cut the power here: {reason}");
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
        // It exists as long as it is open or mounted; then the kernel releases it.
        run(Command::new(program("losetup")).arg("--detach").arg(&device_path))?;
        let disk = Self { file_system, mounted_at, _device: device, device_path, _directory: directory };
        disk.mount()?;
        Ok(disk)
    }

    /// The root directory of the file system.
    pub fn path(&self) -> &Path {
        &self.mounted_at
    }

    /// Writes back all data, so that a test starts from a known state.
    ///
    /// # Panics
    ///
    /// If the power has been cut.
    pub fn sync(&self) {
        rustix::fs::syncfs(self.root()).expect("a mounted file system");
    }

    /// Cuts the power: every operation fails from now on, and data that was not synced is lost.
    ///
    /// # Panics
    ///
    /// If the kernel refuses, or the power has been cut already.
    pub fn cut(&self) {
        let root = self.root();
        let flags = NO_LOG_FLUSH;
        // SAFETY: this request reads one u32 from the given address, which is that of a live local variable.
        #[allow(unsafe_code)]
        let result = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const flags) };
        assert_eq!(result, 0, "cannot cut the power: {}", std::io::Error::last_os_error());
    }

    /// Mounts it again. Processes that have files open on it must have been killed before.
    ///
    /// # Panics
    ///
    /// If a process still has files open on it, or the journal cannot be replayed.
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
        // Lazily, because a test that panics may have files open. The remaining mount ends with the test process.
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
