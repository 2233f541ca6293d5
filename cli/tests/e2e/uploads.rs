//! Uploads by a user other than the platform's, which has no `CAP_LEASE`: the kernel does not tell it who writes.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use mysimbdp_testbed::{Daemon, OTHER_USER, Process, Root, until};
use serde_json::json;

use crate::support::{SOON, documents};
use crate::tenants::start_unprivileged;

/// A data root whose client's folder belongs to this user, root, and is writable by the platform's user; fetchdata runs
/// as `nobody`.
pub(crate) fn root() -> Option<Root> {
    if fs::metadata("/proc/self").expect("this process").uid() != 0 {
        eprintln!("SKIPPED: only root can be another user than the platform's");
        return None;
    }
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s", "free_space_min": "0B"},
        "clients": [documents("alpha")],
    }));
    fs::create_dir_all(root.drop_directory("alpha")).expect("directory");
    for path in [root.path().to_owned(), root.drop_directory("")] {
        chown(path, Some(OTHER_USER), Some(OTHER_USER)).expect("another owner");
    }
    fs::set_permissions(root.drop_directory("alpha"), Permissions::from_mode(0o777)).expect("mode");
    Some(root)
}

pub(crate) fn rows(from: usize, to: usize) -> String {
    (from..to).map(|row| format!("{row},x\n")).collect()
}

pub(crate) fn staged(root: &Root) -> Vec<serde_json::Value> {
    let manifest = |name: &String| {
        let text =
            fs::read(root.path().join("staging/alpha").join(name).join("manifest.json")).expect("manifest");
        serde_json::from_slice(&text).expect("JSON")
    };
    root.list("staging/alpha").iter().map(manifest).collect()
}

pub(crate) fn records_of(root: &Root, file: &str) -> Option<u64> {
    staged(root)
        .iter()
        .find(|manifest| manifest["file"] == file)
        .and_then(|manifest| manifest["records"].as_u64())
}

/// Uploads and closes files one after the other, which takes longer than any file has to settle.
fn upload_closed(root: &Root, cycle: usize) {
    for number in 0..10 {
        let name = format!("closed-{cycle}-{number}.csv");
        fs::write(root.drop_directory("alpha").join(&name), format!("a,b\n{cycle},{number}\n"))
            .expect("file");
        until(SOON, "a file that was closed is staged", || records_of(root, &name) == Some(1));
    }
}

pub(crate) fn fetchdata(root: &Root) -> Process {
    let fetchdata = start_unprivileged(root, "fetchdata");
    until(SOON, "it has started", || root.log("fetchdata.log").contains("started"));
    fetchdata
}

#[track_caller]
fn retry(root: &Root, code: i32, id: &str) -> String {
    let output = Daemon::run(root, &["retry", id], &[]);
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{printed}");
    printed
}

#[test]
fn an_upload_of_another_user_that_stalls_is_staged_whole() {
    let Some(root) = root() else { return };
    let mut fetchdata = fetchdata(&root);
    upload_closed(&root, 0);
    let mut upload = File::create(root.drop_directory("alpha").join("upload.csv")).expect("new file");
    write!(upload, "a,b\n{}", rows(0, 100)).expect("write");
    upload_closed(&root, 1);
    assert_eq!(records_of(&root, "upload.csv"), None, "its writer has it open");
    write!(upload, "{}", rows(100, 200)).expect("write");
    upload_closed(&root, 2);
    assert_eq!(records_of(&root, "upload.csv"), None, "its writer still has it open");
    drop(upload);
    until(SOON, "it is staged", || records_of(&root, "upload.csv").is_some());
    assert_eq!(records_of(&root, "upload.csv"), Some(200));
    fetchdata.terminate(SOON);
}

/// Its writer had the file open before fetchdata started, and stalls for longer than fetchdata waits.
#[test]
fn a_file_that_is_written_to_after_it_was_taken_is_held() {
    let Some(root) = root() else { return };
    let path = root.drop_directory("alpha").join("upload.csv");
    let mut upload = File::create(&path).expect("new file");
    write!(upload, "a,b\n{}", rows(0, 100)).expect("write");
    let mut other = File::create(root.drop_directory("alpha").join("complete.csv")).expect("new file");
    write!(other, "a,b\n{}", rows(0, 5)).expect("write");
    let mut fetchdata = fetchdata(&root);
    until(SOON, "it is staged", || staged(&root).len() == 2);
    assert_eq!(records_of(&root, "upload.csv"), Some(100));
    assert!(!path.exists());
    // After a restart, too, fetchdata knows that the file may still be written to.
    fetchdata.terminate(SOON);
    let mut fetchdata = start_unprivileged(&root, "fetchdata");
    write!(upload, "{}", rows(100, 150)).expect("write");
    let held = || root.reasons("held", "alpha");
    until(SOON, "it is held", || held().len() == 1);
    let reason = held().remove(0);
    assert_eq!(reason["file"], "upload.csv");
    assert!(reason["reasons"].to_string().contains("changed after it was taken"), "{reason}");
    // Its writer continues.
    write!(upload, "{}", rows(150, 200)).expect("write");
    drop(upload);
    let directory = root.path().join("held/alpha").join(root.list("held/alpha").remove(0));
    // The reason is written first.
    until(SOON, "a person is notified", || root.log("fetchdata.log").contains("ERROR"));
    let content = fs::read_to_string(directory.join("upload.csv")).expect("its file");
    assert_eq!(content, format!("a,b\n{}", rows(0, 200)));
    assert_eq!(staged(&root).len(), 2, "nothing is staged twice");
    fetchdata.terminate(SOON);

    // `status` has shown its id. With ids by record number the part that is ingested already would be stored twice.
    let id = root.list("held/alpha").remove(0);
    let refused = retry(&root, 65, &id);
    assert!(refused.contains("the first part of upload.csv is already ingested"), "{refused}");
    let text = fs::read_to_string(root.config()).expect("the config");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["clients"][0]["apps"][0]["ids"] = json!("key");
    config["clients"][0]["apps"][0]["record_key"] = json!(["a"]);
    root.configure(&config);
    assert!(retry(&root, 0, &id).contains("alpha/upload.csv is dropped again"));
    assert_eq!(fs::read_to_string(&path).expect("its file"), format!("a,b\n{}", rows(0, 200)));
    assert_eq!(root.list("held/alpha"), Vec::<String>::new());
    retry(&root, 66, &id);
}
