//! Nothing in a client's folder leads out of it, whoever owns the folder and whatever the owner does meanwhile.

#![allow(clippy::disallowed_methods, reason = "tests create what clients create")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::files;
use mysimbdp_spool::drop_directory::{Directory, DropDirectory, DropPath, Existing, FileKind};
use mysimbdp_testbed::{OTHER_USER, OtherUser, SOON, python, until};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

/// The platform's own directory.
const PLATFORM_DIRECTORY: &str = ".mysimbdp";

/// An attacker needed at most eight attempts.
const ATTEMPTS: usize = 300;

/// A drop directory with a client's folder in it, and beside it a directory that must not be touched.
struct Fixture {
    directory: TempDir,
    layout: Layout,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(directory.path().join("root"));
        let fixture = Self { directory, layout };
        DropDirectory::prepare(&fixture.layout).expect("prepared");
        fs::create_dir_all(fixture.folder("d")).expect("folder");
        fs::create_dir(fixture.outside()).expect("directory");
        fs::write(fixture.outside().join("file"), "theirs").expect("file");
        fs::create_dir(fixture.platform_directory()).expect("directory");
        fixture
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    /// A directory that belongs to the platform.
    fn platform_directory(&self) -> PathBuf {
        self.layout.root().join("staging")
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.layout.drop_directory().join("client1").join(name)
    }

    fn drop_directory(&self) -> DropDirectory {
        DropDirectory::open(&self.layout).expect("drop directory")
    }

    /// Asserts that nothing outside has been read, moved or written, as far as that can be seen there.
    fn assert_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.outside()).expect("list").map(|e| e.expect("entry")).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(fs::read(self.outside().join("file")).expect("file"), b"theirs");
    }
}

fn at(path: &str) -> DropPath {
    DropPath::parse(&format!("{}/client1/{path}", Layout::DROP)).expect("a path")
}

fn name(name: &str) -> &OsStr {
    OsStr::new(name)
}

#[test]
fn no_step_goes_through_a_symlink() {
    let fixture = Fixture::new();
    symlink(fixture.outside(), fixture.folder("link")).expect("symlink");
    fs::write(fixture.folder("d/mine"), "mine").expect("file");
    symlink(fixture.outside().join("file"), fixture.folder("d/link-to-file")).expect("symlink");
    let drop_directory = fixture.drop_directory();
    for path in ["link/file", "link/new/file", "d/link-to-file/file"] {
        assert!(drop_directory.parent(&at(path)).is_err_and(|error| error.is_obstructed()), "{path}");
        assert!(
            drop_directory.open_or_create_directory(&at(path)).is_err_and(|error| error.is_obstructed()),
            "{path}"
        );
        drop_directory.open_file(&at(path)).expect_err(path);
        assert!(!drop_directory.exists(&at(path)), "{path}");
        drop_directory.write(&at(path), name("temporary"), b"mine").expect_err(path);
    }
    drop_directory.open_file(&at("d/link-to-file")).expect_err("a symlink");
    assert_eq!(drop_directory.status(&at("d/link-to-file")).expect("status").kind, FileKind::Symlink);

    let folder = drop_directory.directory(&at("d")).expect("folder");
    folder.create(name("link-to-file")).expect_err("the name is in use");
    let platform_directory = Directory::open_platform(&fixture.platform_directory()).expect("directory");
    folder
        .rename(name("link-to-file"), &platform_directory, name("moved"), Existing::Keep)
        .expect("the symlink itself is moved");
    assert_eq!(platform_directory.status(name("moved")).expect("status").kind, FileKind::Symlink);
    drop_directory
        .directory(&DropPath::parse("client-input-directory/client1").expect("path"))
        .expect("folder")
        .remove_tree(name("link"))
        .expect("only the symlink is removed");
    fixture.assert_untouched();
}

#[test]
fn a_name_is_never_a_path() {
    let fixture = Fixture::new();
    let drop_directory = fixture.drop_directory();
    let folder = drop_directory.directory(&at("d")).expect("folder");
    for bad in ["..", ".", "", "/", "../d/x", "a/b", "/etc/passwd"] {
        folder.open(name(bad)).expect_err(bad);
        folder.create(name(bad)).expect_err(bad);
        folder.directory(name(bad)).expect_err(bad);
        folder.open_or_create(name(bad)).expect_err(bad);
        folder.status(name(bad)).expect_err(bad);
        folder.remove_file(name(bad)).expect_err(bad);
        folder.remove_tree(name(bad)).expect_err(bad);
        folder.rename(name(bad), &folder, name("x"), Existing::Replace).expect_err(bad);
    }
    for bad in ["staging/x", "client-input-directory", "client-input-directory/../staging", "/x", ""] {
        assert_eq!(DropPath::parse(bad), None, "{bad}");
    }
    let client: ClientId = "client1".parse().expect("client");
    for lane in [Lane::Live, Lane::Backfill] {
        let path = DropPath::of_client(&client, lane).join(name("a.csv"));
        assert_eq!(DropPath::parse(&path.to_string()), Some(path));
    }
}

#[test]
fn created_files_belong_to_the_platform_and_can_be_read_by_senders() {
    let fixture = Fixture::new();
    let drop_directory = fixture.drop_directory();
    let mode = |path: PathBuf| fs::metadata(path).expect("metadata").permissions().mode() & 0o7777;
    drop_directory.write(&at("new/receipt"), name("temporary"), b"one").expect("written");
    drop_directory.write(&at("new/receipt"), name("temporary"), b"two").expect("written again");
    assert_eq!(fs::read(fixture.folder("new/receipt")).expect("file"), b"two");
    assert_eq!(mode(fixture.folder("new/receipt")), 0o644);
    assert_eq!(mode(fixture.folder("new")) & 0o022, 0, "others cannot write into it");
    let platform_directory = fixture.layout.drop_directory().join(PLATFORM_DIRECTORY);
    assert_eq!(mode(platform_directory.clone()), 0o700);
    assert_eq!(fs::read_dir(&platform_directory).expect("list").count(), 0, "no temporary file is left");

    fs::set_permissions(&platform_directory, fs::Permissions::from_mode(0o777)).expect("mode");
    let error = drop_directory.platform_directory().expect_err("others can write into it");
    assert!(error_chain(&error).contains("mode 777"), "{}", error_chain(&error));
    fs::remove_dir(&platform_directory).expect("remove");
    symlink(fixture.outside(), &platform_directory).expect("symlink");
    drop_directory.platform_directory().expect_err("a symlink");
    drop_directory
        .write(&at("new/receipt"), name("temporary"), b"three")
        .expect_err("no directory for the temporary file");
    fixture.assert_untouched();
}

#[test]
fn a_tree_is_removed_without_the_targets_of_its_symlinks() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.folder("d/a/b")).expect("directories");
    fs::write(fixture.folder("d/a/b/c"), "").expect("file");
    symlink(fixture.outside(), fixture.folder("d/a/link")).expect("symlink");
    let deep = (0..40).fold(fixture.folder("deep"), |path, _| path.join("d"));
    fs::create_dir_all(deep).expect("directories");
    let folder = fixture.drop_directory().directory(&at("d").parent()).expect("folder");
    folder.remove_tree(name("d")).expect("removed");
    assert!(!fixture.folder("d").exists());
    folder.remove_tree(name("deep")).expect_err("nested deeper than any directory of the platform");
    fixture.assert_untouched();
}

#[test]
fn a_move_to_another_file_system_is_a_copy_and_keeps_an_existing_file() {
    let fixture = Fixture::new();
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("directory in memory");
    let device = |path: &Path| fs::metadata(path).expect("metadata").dev();
    assert_ne!(
        device(elsewhere.path()),
        device(&fixture.platform_directory()),
        "the test needs two file systems"
    );
    fs::write(elsewhere.path().join("file"), "mine").expect("file");
    let from = Directory::open_platform(elsewhere.path()).expect("directory");
    let to = fixture.drop_directory().directory(&at("d")).expect("folder");
    fs::write(fixture.folder("d/taken"), "another").expect("file");
    let error =
        from.move_file(name("file"), &to, name("taken"), Existing::Keep).expect_err("the name is in use");
    assert!(error.is_obstructed(), "{error}");
    from.move_file(name("file"), &to, name("free"), Existing::Keep).expect("moved");
    assert_eq!(fs::read(fixture.folder("d/free")).expect("file"), b"mine");
    assert_eq!(fs::read(fixture.folder("d/taken")).expect("file"), b"another");
    assert_eq!(fs::read_dir(fixture.folder("d")).expect("list").count(), 2, "no partial copy is left");
    assert_eq!(fs::read_dir(elsewhere.path()).expect("list").count(), 0);
}

/// Otherwise a client could make the machine seem to have run out of resources.
#[test]
fn a_file_whose_owner_holds_a_lease_on_it_is_in_use_and_nothing_is_exhausted() {
    const HOLDER: &str = "
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()
";
    let fixture = Fixture::new();
    fs::write(fixture.folder("d/leased"), "mine").expect("file");
    let mut holder = Command::new(python());
    holder.args(["-c", HOLDER]).arg(fixture.folder("d/leased")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.spawn().expect("python runs");
    let mut line = String::new();
    BufReader::new(holder.stdout.as_mut().expect("piped"))
        .read_line(&mut line)
        .expect("first line of its output");
    assert_eq!(line, "held\n");
    let drop_directory = fixture.drop_directory();
    let error = drop_directory.open_file(&at("d/leased")).expect_err("it is leased");
    assert!(error.is_busy() && !error.is_exhausted(), "{error:?}");
    // Like a staged or held file of which its sender has kept another hard link.
    fs::hard_link(fixture.folder("d/leased"), fixture.folder("d/held")).expect("another name");
    let error = files::open(&fixture.folder("d/held")).expect_err("it is leased");
    assert!(error.is_busy() && !error.is_exhausted(), "{error:?}");
    drop(holder.stdin.take());
    assert!(holder.wait().expect("wait for its end").success());
    drop_directory.open_file(&at("d/leased")).expect("the lease has ended");
}

/// The attack: another user exchanges a directory with a symlink to a directory that is not theirs.
#[test]
fn nothing_outside_is_read_moved_or_written_while_another_user_exchanges_directories() {
    let fixture = Fixture::new();
    for directory in [fixture.directory.path(), fixture.layout.root()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o711)).expect("mode");
    }
    symlink(fixture.outside(), fixture.folder("link")).expect("symlink");
    // If the test does not run as root, the folder stays its own.
    for path in [fixture.folder(""), fixture.folder("d")] {
        let _ = chown(path, Some(OTHER_USER), Some(OTHER_USER));
    }
    let (one, other) = (fixture.folder("d"), fixture.folder("link"));
    let other_user = OtherUser::start(move || {
        renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).expect("exchanged");
    });
    let drop_directory = fixture.drop_directory();
    let platform_directory = Directory::open_platform(&fixture.platform_directory()).expect("directory");
    let mut hits = 0;
    for attempt in 0..ATTEMPTS {
        // So that attempts do not all meet the same moment of the exchange.
        let before = other_user.steps();
        until(SOON, "the other user is at work", || other_user.steps() > before);
        let new = format!("new-{attempt}");
        let receipt = at(&format!("d/{new}.receipt"));
        let written = drop_directory.write(&receipt, name("temporary"), b"mine").is_ok();
        hits += usize::from(written);
        if let Ok(mut file) = drop_directory.open_file(&at("d/file")) {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut file, &mut text).expect("read");
            assert_eq!(text, "mine", "the content must be the platform's");
        }
        if let Ok(folder) = drop_directory.parent(&receipt) {
            let _ = folder.create(name("file"));
            let _ = folder.rename(name("file"), &platform_directory, name(&new), Existing::Keep);
            let _ = platform_directory.rename(name(&new), &folder, name("back"), Existing::Replace);
            let _ = folder.remove_file(name("back"));
        }
        let _ = drop_directory.open_or_create_directory(&at(&format!("d/{new}")));
        fixture.assert_untouched();
    }
    let exchanges = other_user.stop();
    println!("{hits} of {ATTEMPTS} receipts were written while there were {exchanges} exchanges");
    assert!(hits > 0 && exchanges >= ATTEMPTS as u64);
    fixture.assert_untouched();
}
