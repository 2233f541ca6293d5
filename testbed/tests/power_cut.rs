//! A power cut loses data that was not synced and keeps data that was. Nothing remains of a disk, however its test ends.

#![allow(clippy::disallowed_methods, reason = "tests write files and start processes themselves")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mysimbdp_testbed::{Disk, FileSystem, Process, until};

const WITHIN: Duration = Duration::from_secs(60);
/// If this variable is set, the test, which was started by another one, waits with a mounted disk until it is killed.
const HOLD: &str = "TESTBED_HOLD_DISK";

#[test]
fn power_cut_loses_what_was_not_synced_on_ext4() {
    loses_what_was_not_synced(FileSystem::Ext4);
}

#[test]
fn power_cut_loses_what_was_not_synced_on_ext4_without_auto_da_alloc() {
    loses_what_was_not_synced(FileSystem::Ext4NoAutoDaAlloc);
}

#[test]
fn power_cut_loses_what_was_not_synced_on_xfs() {
    loses_what_was_not_synced(FileSystem::Xfs);
}

fn loses_what_was_not_synced(file_system: FileSystem) {
    let Some(mut disk) = Disk::new_or_skip(file_system) else { return };
    let path = disk.path().to_owned();
    let write = |name: &str| fs::write(path.join(name), name).expect("write");
    let sync = |name: &str| File::open(path.join(name)).and_then(|file| file.sync_all()).expect("sync");
    for cut in 0..3 {
        let [before, synced, after] = ["before", "synced", "after"].map(|name| format!("{name}-{cut}"));
        write(&before);
        disk.sync();
        write(&synced);
        sync(&synced);
        sync(".");
        // Children see the disk as well.
        let child = Command::new("cat").arg(path.join(&synced)).output().expect("run cat");
        assert_eq!(child.stdout, synced.as_bytes());
        write(&after);
        disk.cut();
        assert!(fs::write(path.join("dead"), "dead").is_err());
        disk.restore();
        for name in [&before, &synced] {
            assert_eq!(fs::read_to_string(path.join(name)).ok().as_ref(), Some(name));
        }
        assert!(!path.join(&after).exists() && !path.join("dead").exists());
    }
}

#[test]
fn power_cut_leaves_no_mount_and_no_loop_device_if_its_test_is_killed() {
    if std::env::var_os(HOLD).is_some() {
        let disk = Disk::new_or_skip(FileSystem::Ext4).expect("the test that started this one had a disk");
        let _open = File::create(disk.path().join("open")).expect("a file");
        println!("{disk:?}");
        std::thread::sleep(WITHIN);
        return;
    }
    if Disk::new_or_skip(FileSystem::Ext4).is_none() {
        return;
    }
    let output = tempfile::NamedTempFile::new().expect("temporary file");
    let temporary = tempfile::tempdir().expect("temporary directory");
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    let own = std::thread::current().name().expect("tests have names").to_owned();
    command.args(["--exact", &own, "--nocapture"]).env(HOLD, "1").env("TMPDIR", temporary.path());
    command.stdout(output.reopen().expect("reopen")).stderr(Stdio::null());
    let mut test = Process::spawn(command);
    let printed = || fs::read_to_string(output.path()).expect("output");
    until(WITHIN, "it has a disk", || printed().contains("Ext4"));
    let directories: Vec<_> = fs::read_dir(temporary.path()).expect("list").flatten().collect();
    let [directory] = directories.as_slice() else { panic!("{directories:?}") };
    let image = directory.path().join("image");
    assert!(is_attached(&image));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(temporary.path().to_str().expect("UTF-8")), "visible outside: {mounts}");
    test.kill9();
    until(WITHIN, "its loop device is released", || !is_attached(&image));
}

fn is_attached(image: &Path) -> bool {
    let devices = fs::read_dir("/sys/block").expect("list devices").flatten();
    let mut files =
        devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.any(|file| file.trim_end().starts_with(image.to_str().expect("UTF-8")))
}
