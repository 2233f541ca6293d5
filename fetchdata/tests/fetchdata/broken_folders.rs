//! If a client's directory cannot be used, only that client is affected, and the directory is tried again.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::PathBuf;

use mysimbdp_testbed::{OTHER_USER, Root, until};
use serde_json::{Value, json};

use crate::running::{DEADLINE, Running, config, staged};
use crate::tenants::notices;

const ROWS: &[u8] = b"a,b\n1,2\n";

/// `client1`, whose folder may be broken, and `other`.
fn two_clients(changes: Value) -> Value {
    let mut all = config(changes);
    let app = json!({"name": "documents", "command": ["document-app"]});
    all["clients"].as_array_mut().expect("clients").push(json!({"id": "other", "apps": [app]}));
    all
}

/// A directory outside the drop directory.
fn elsewhere(root: &Root) -> PathBuf {
    let elsewhere = root.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("directory");
    elsewhere
}

fn staged_of(root: &Root, client: &str) -> usize {
    staged(root).iter().filter(|staged| staged.manifest.client.as_str() == client).count()
}

async fn assert_other_client_is_staged(running: &Running) {
    let before = staged_of(&running.root, "other");
    running.root.drop_file("other", "other.csv", format!("a\n{before}\n").as_bytes());
    until(DEADLINE, "the other client's file is staged", || staged_of(&running.root, "other") > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symlink_in_place_of_a_folder_is_left_alone_and_reported() {
    let root = Root::new(&two_clients(json!({})));
    let elsewhere = elsewhere(&root);
    fs::write(elsewhere.join("x.csv"), ROWS).expect("file");
    fs::create_dir_all(root.drop_directory("")).expect("directory");
    symlink(&elsewhere, root.drop_directory("client1")).expect("symlink");
    let running = Running::on(root);
    assert_other_client_is_staged(&running).await;
    until(DEADLINE, "the status reports it", || {
        notices(&running.root).contains("client-input-directory/client1 is a symlink")
    });
    assert_other_client_is_staged(&running).await;
    assert!(running.root.drop_directory("client1").is_symlink(), "the symlink is not discarded");
    assert_eq!(fs::read(elsewhere.join("x.csv")).expect("a file behind the symlink, untouched"), ROWS);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symlinked_folder_is_followed_if_the_config_allows_it() {
    let mut all = two_clients(json!({"folder_may_be_symlink": true}));
    // So that a later file is taken in time only because of an event.
    all["fetchdata"]["scan_every"] = json!("1h");
    let root = Root::new(&all);
    // On another file system, so that originals have to wait beside where they were.
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("directory in memory");
    let device = |path: &std::path::Path| fs::metadata(path).expect("metadata").dev();
    assert_ne!(device(elsewhere.path()), device(root.path()), "the test needs two file systems");
    fs::create_dir_all(root.drop_directory("")).expect("directory");
    symlink(elsewhere.path(), root.drop_directory("client1")).expect("symlink");
    for (name, content) in [("x.csv", "a\n1\n"), ("wrong.exe", "no")] {
        root.drop_file("client1", name, content.as_bytes());
    }
    root.drop_file("client1/deeper", "y.csv", b"a\n2\n");
    let running = Running::on(root);
    running.until_staged(2).await;
    running.until_discarded("client1", 1).await;
    running.root.drop_file("client1/backfill", "z.csv", b"a\n3\n");
    running.until_staged(3).await;
    let left = || {
        let names = fs::read_dir(elsewhere.path()).expect("list");
        names.filter(|entry| !entry.as_ref().expect("entry").path().is_dir()).count()
    };
    until(DEADLINE, "all originals are removed", || left() == 0);
    until(DEADLINE, "their records are removed", || {
        let own = fs::read_dir(running.root.drop_directory(".mysimbdp")).expect("list");
        own.count() == 0
    });
    assert_eq!(notices(&running.root), "");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_set_aside_in_a_clients_folder_is_found_by_its_record_after_a_crash() {
    let running = Running::with(&two_clients(json!({})));
    running.root.drop_file("client1", "known.csv", ROWS);
    let staged = running.one_staged().await;
    let root = running.stop().await;
    let ingestion = staged.manifest.ingestion;
    let beside = root.drop_directory("client1").join("d").join(format!(".taken-{ingestion}"));
    fs::create_dir_all(&beside).expect("directory");
    fs::write(beside.join("known.csv"), ROWS).expect("the original");
    let record = root.drop_directory(".mysimbdp").join(format!("beside-{ingestion}"));
    fs::write(&record, format!("client1/d/.taken-{ingestion}")).expect("record");
    let running = Running::on(root);
    until(DEADLINE, "the original of a staged copy is removed", || !beside.exists() && !record.exists());
    assert_eq!(staged_of(&running.root, "client1"), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symlink_of_another_user_is_not_followed_whatever_the_config_allows() {
    let root = Root::new(&two_clients(json!({"folder_may_be_symlink": true})));
    let elsewhere = elsewhere(&root);
    fs::write(elsewhere.join("x.csv"), ROWS).expect("file");
    fs::create_dir_all(root.drop_directory("")).expect("directory");
    let link = root.drop_directory("client1");
    symlink(&elsewhere, &link).expect("symlink");
    if let Err(error) = lchown(&link, Some(OTHER_USER), Some(OTHER_USER)) {
        eprintln!("SKIPPED: only root can give a symlink to somebody else: {error}");
        return;
    }
    let running = Running::on(root);
    until(DEADLINE, "the status reports it", || notices(&running.root).contains("symlink of user"));
    assert_other_client_is_staged(&running).await;
    assert_eq!(fs::read(elsewhere.join("x.csv")).expect("a file behind the symlink, untouched"), ROWS);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_place_of_a_folder_pauses_its_client_until_it_is_removed() {
    let root = Root::new(&two_clients(json!({})));
    fs::create_dir_all(root.drop_directory("")).expect("directory");
    fs::write(root.drop_directory("client1"), "in the way").expect("file");
    let running = Running::on(root);
    assert_other_client_is_staged(&running).await;
    until(DEADLINE, "the status reports it", || notices(&running.root).contains("client1 is a regular file"));
    assert_eq!(fs::read(client1_folder(&running)).expect("the file, untouched"), b"in the way");
    fs::remove_file(client1_folder(&running)).expect("remove");
    until(DEADLINE, "the folder is created", || client1_folder(&running).is_dir());
    running.root.drop_file("client1", "x.csv", ROWS);
    until(DEADLINE, "its files are staged", || staged_of(&running.root, "client1") == 1);
    until(DEADLINE, "nothing is reported any more", || notices(&running.root).is_empty());
    running.stop().await;
}

fn client1_folder(running: &Running) -> PathBuf {
    running.root.drop_directory("client1")
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_removed_while_fetchdata_runs_are_made_and_watched_again() {
    let running = Running::with(&two_clients(json!({})));
    assert_other_client_is_staged(&running).await;
    fs::remove_dir_all(running.root.drop_directory("client1")).expect("remove");
    until(DEADLINE, "the folder is created again", || {
        running.root.drop_directory("client1/backfill").is_dir()
    });
    running.root.drop_file("client1", "x.csv", ROWS);
    until(DEADLINE, "its files are staged", || staged_of(&running.root, "client1") == 1);
    assert_other_client_is_staged(&running).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_place_of_a_clients_staging_or_discarded_stops_only_that_client() {
    let root = Root::new(&two_clients(json!({})));
    for directory in ["staging", "discarded"] {
        fs::create_dir_all(root.path().join(directory)).expect("directory");
        fs::write(root.path().join(directory).join("client1"), "in the way").expect("file");
    }
    root.drop_file("client1", "x.csv", ROWS);
    let running = Running::on(root);
    assert_other_client_is_staged(&running).await;
    fs::remove_file(running.root.path().join("staging/client1")).expect("remove");
    until(DEADLINE, "its files are staged", || staged_of(&running.root, "client1") == 1);
    running.stop().await;
}
