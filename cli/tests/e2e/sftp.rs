//! Uploads through OpenSSH's own server, into a chroot, as `docs/operations.md` sets it up: `alice` uploads, `nobody` is the
//! platform's user and group.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mysimbdp_testbed::{ALICE, OTHER_USER, Process, Root, Signal, Sshd, until};
use serde_json::{Value, json};

use crate::privacy::Unprivileged;
use crate::support::{SOON, documents};
use crate::uploads::{fetchdata, records_of, rows, staged};

const SETTLE: Duration = Duration::from_millis(100);
/// Longer than any file has to settle, which is 60 times `settle`.
const STALLS_FOR: Duration = Duration::from_secs(8);
const ROWS: usize = 60_000;

struct Uploads {
    root: Root,
    sshd: Sshd,
}

impl Uploads {
    fn new_or_skip() -> Option<Self> {
        if fs::metadata("/proc/self").expect("this process").uid() != 0 {
            eprintln!("SKIPPED: only root can be several users");
            return None;
        }
        let root = Root::new(&json!({
            "fetchdata": {"settle": format!("{}ms", SETTLE.as_millis()), "scan_every": "1s", "free_space_min": "0B"},
            "clients": [documents("alpha")],
        }));
        let folder = root.drop_directory("alpha");
        fs::create_dir_all(folder.join("backfill")).expect("directories");
        for path in [root.path().to_owned(), root.drop_directory("")] {
            chown(path, Some(OTHER_USER), Some(OTHER_USER)).expect("another owner");
        }
        for path in [&folder, &folder.join("backfill")] {
            chown(path, Some(ALICE), Some(OTHER_USER)).expect("another owner");
            fs::set_permissions(path, Permissions::from_mode(0o2770)).expect("mode");
        }
        let sshd = Sshd::start_or_skip(&folder)?;
        Some(Self { root, sshd })
    }

    /// Writes a local file of the sender.
    fn local(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.root.path().join(format!("local-{name}"));
        fs::write(&path, content).expect("write");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("mode");
        path
    }

    #[track_caller]
    fn finish(&self, mut sftp: Process) {
        assert!(sftp.wait(SOON).success(), "{}", self.sshd.log());
    }

    /// Begins an upload that takes some seconds, and suspends it in the middle.
    fn begin(&self, name: &str, content: &str) -> Process {
        let local = self.local(name, content, 0o644);
        // Kilobits per second.
        let mut sftp = self.sshd.sftp(&["-l", "800"], &format!("put {} {name}", local.display()));
        let uploaded = self.root.drop_directory("alpha").join(name);
        let bytes = || fs::metadata(&uploaded).map_or(0, |metadata| metadata.len());
        until(SOON, "a part of it has arrived", || bytes() > 0 || !sftp.is_running());
        sftp.signal_group(Signal::STOP);
        let bytes = bytes();
        assert!((1..content.len() as u64).contains(&bytes), "{bytes} bytes: {}", self.sshd.log());
        let owner = fs::metadata(&uploaded).expect("the upload");
        assert_eq!((owner.uid(), owner.gid()), (ALICE, OTHER_USER), "its sender's, in the platform's group");
        sftp
    }

    fn resume(&self, mut sftp: Process) {
        sftp.signal_group(Signal::CONT);
        self.finish(sftp);
    }
}

#[test]
fn an_sftp_upload_that_stalls_is_staged_whole() {
    let Some(uploads) = Uploads::new_or_skip() else { return };
    let root = &uploads.root;
    let mut fetchdata = fetchdata(root);
    let content = format!("a,b\n{}", rows(0, ROWS));
    let sftp = uploads.begin("upload.csv", &content);
    let stalled = Instant::now();
    let whole = uploads.local("whole.csv", "a,b\n1,2\n", 0o644);
    uploads.finish(uploads.sshd.sftp(&[], &format!("put {} whole.csv", whole.display())));
    until(SOON, "the closed file is staged", || records_of(root, "whole.csv") == Some(1));
    until(SOON, "it has stalled for long", || stalled.elapsed() > STALLS_FOR);
    assert_eq!(records_of(root, "upload.csv"), None, "its writer has it open");
    uploads.resume(sftp);
    until(SOON, "it is staged", || records_of(root, "upload.csv").is_some());
    assert_eq!(records_of(root, "upload.csv"), Some(ROWS as u64));
    assert_eq!(root.reasons("held", "alpha"), [Value::Null; 0]);
    fetchdata.terminate(SOON);
}

/// fetchdata did not run when the upload began, so it does not know that the file is open.
#[test]
fn an_sftp_upload_that_continues_after_it_was_taken_is_held_whole() {
    let Some(uploads) = Uploads::new_or_skip() else { return };
    let root = &uploads.root;
    let content = format!("a,b\n{}", rows(0, ROWS));
    let sftp = uploads.begin("upload.csv", &content);
    let mut fetchdata = fetchdata(root);
    until(SOON, "what has arrived is staged", || records_of(root, "upload.csv").is_some());
    assert!(records_of(root, "upload.csv") < Some(ROWS as u64));
    uploads.resume(sftp);
    until(SOON, "it is held", || root.reasons("held", "alpha").len() == 1);
    let held = root.path().join("held/alpha").join(root.list("held/alpha").remove(0)).join("upload.csv");
    assert!(fs::read_to_string(held).expect("the held file") == content, "not all of its bytes");
    assert_eq!(staged(root).len(), 1, "nothing is staged twice");
    fetchdata.terminate(SOON);
}

/// An SFTP client requests the mode of its local file, and the server's umask can only remove permissions.
#[test]
fn an_sftp_upload_that_only_its_sender_may_read_is_named_and_waits() {
    let Some(uploads) = Uploads::new_or_skip() else { return };
    let root = &uploads.root;
    let mut fetchdata = fetchdata(root);
    let secret = uploads.local("secret.csv", "a,b\n1,2\n", 0o600);
    uploads.finish(uploads.sshd.sftp(&[], &format!("put {} secret.csv", secret.display())));
    let user = Unprivileged::new(root.path());
    let output = user.run(root, &["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let notice = "client-input-directory/alpha/secret.csv cannot be read";
    assert!(status["notices"].to_string().contains(notice), "{status:#}");
    assert_eq!(records_of(root, "secret.csv"), None);
    uploads.finish(uploads.sshd.sftp(&[], "chmod 640 secret.csv"));
    until(SOON, "it is staged", || records_of(root, "secret.csv") == Some(1));
    fetchdata.terminate(SOON);
}
