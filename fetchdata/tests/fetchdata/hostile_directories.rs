//! A client's folder belongs to the client, who may replace anything in it with a symlink at any moment.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::{Hasher, IngestionId};
use mysimbdp_testbed::{OTHER_USER, OtherUser, Root, until, until_async};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};

use crate::running::{DEADLINE, Running, config, dropped, staged};

const ROWS: &[u8] = b"a,b\n1,2\n3,4\n";

/// Files of each kind that are taken while their directory is exchanged.
const FILES: usize = 100;

fn with_parts() -> Value {
    let mut all = config(json!({}));
    all["fetchdata"]["staging_parts"] = json!("files");
    all
}

fn ingestion_of(content: &[u8]) -> IngestionId {
    let mut hasher = Hasher::new();
    hasher.update(content);
    IngestionId::new(&"client1".parse::<ClientId>().expect("client"), &hasher.finalize())
}

/// A directory below the data root that no client may touch, with a file of each name.
fn outside(root: &Root, names: &[String]) -> PathBuf {
    let outside = root.path().join("state/outside");
    fs::create_dir_all(&outside).expect("directory");
    for name in names {
        fs::write(outside.join(name), "theirs").expect("file");
    }
    outside
}

fn assert_untouched(outside: &Path, names: &[String]) {
    let mut found: Vec<String> = fs::read_dir(outside)
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, names, "files outside");
    for name in names {
        assert_eq!(fs::read(outside.join(name)).expect("file"), b"theirs", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symlink_in_place_of_a_set_aside_directory_is_not_followed() {
    let root = Root::new(&with_parts());
    let names = ["config.csv".to_owned()];
    let outside = outside(&root, &names);
    fs::create_dir_all(root.drop_directory("client1")).expect("folder");
    symlink(&outside, root.drop_directory("client1").join(format!(".taken-{}", ingestion_of(ROWS))))
        .expect("symlink");
    root.drop_file("client1", "config.csv", ROWS);
    let running = Running::on(root);
    assert_eq!(running.one_staged().await.content(), ROWS);
    until(DEADLINE, "the original is removed", || dropped(&running.root).is_empty());
    assert_untouched(&outside, &names);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_user_named_like_a_set_aside_original_is_left_alone() {
    let running = Running::start();
    running.root.drop_file("client1", "known.csv", ROWS);
    running.one_staged().await;
    let root = running.stop().await;
    let theirs = root.drop_directory("client1").join(format!(".taken-{}", ingestion_of(ROWS)));
    fs::create_dir(&theirs).expect("directory");
    fs::write(theirs.join("theirs"), "theirs").expect("file");
    if let Err(error) = chown(&theirs, Some(OTHER_USER), Some(OTHER_USER)) {
        eprintln!("SKIPPED: only root can give a directory to somebody else: {error}");
        return;
    }
    let running = Running::on(root);
    running.root.drop_file("client1", "later.csv", b"a,b\n5,6\n");
    running.until_staged(2).await;
    assert_untouched(&theirs, &["theirs".to_owned()]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_returns_to_a_directory_replaced_by_a_symlink_is_put_beside_it() {
    let running = Running::start();
    running.root.drop_file("client1/backfill", "cut.csv", ROWS);
    let staged = running.one_staged().await;
    let root = running.stop().await;
    let unpublished = staged.directory.with_file_name(format!(".{}", staged.manifest.ingestion));
    fs::rename(&staged.directory, &unpublished).expect("rename");
    fs::write(unpublished.join("cut.csv"), b"a,b\n7,8\n").expect("change");
    let outside = outside(&root, &[]);
    let lane = root.drop_directory("client1").join("backfill");
    fs::remove_dir(&lane).expect("remove");
    symlink(&outside, &lane).expect("symlink");

    let running = Running::on(root);
    assert_eq!(running.one_staged().await.content(), b"a,b\n7,8\n");
    running.until_discarded("client1", 1).await;
    assert_untouched(&outside, &[]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_is_taken_while_another_user_exchanges_directories() {
    assert_nothing_outside_is_taken(&config(json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_is_taken_in_parts_while_another_user_exchanges_directories() {
    assert_nothing_outside_is_taken(&with_parts()).await;
}

/// The client exchanges the directory of its files with a symlink to a directory with files of the same names.
async fn assert_nothing_outside_is_taken(config: &Value) {
    let root = Root::new(config);
    let (good, bad) = (|n| format!("{n:03}.csv"), |n| format!("{n:03}.exe"));
    let mut names: Vec<String> = (0..FILES).flat_map(|n| [good(n), bad(n)]).collect();
    names.sort();
    let outside = outside(&root, &names);
    for n in 0..FILES {
        for name in [good(n), bad(n)] {
            root.drop_file("client1/d", &name, format!("a,b\n{n},mine\n").as_bytes());
        }
    }
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).expect("mode");
    let folder = root.drop_directory("client1");
    for path in [folder.clone(), folder.join("d")] {
        // If this is not root, everything belongs to the user of the test.
        let _ = chown(path, Some(OTHER_USER), Some(OTHER_USER));
    }
    let other_user = OtherUser::start({
        let (directory, link, outside) = (folder.join("d"), folder.join(".link"), outside.clone());
        move || exchange(&directory, &link, &outside)
    });
    until(DEADLINE, "the other user is at work", || other_user.steps() > 100);
    let running = Running::on(root);
    let some = || staged(&running.root).len() >= FILES / 4;
    until_async(DEADLINE, "files are taken all the same", async || some()).await;
    let exchanges = other_user.stop();
    if folder.join("d").is_symlink() {
        exchange(&folder.join("d"), &folder.join(".link"), &outside);
    }
    until_async(DEADLINE, "all files are staged", async || staged(&running.root).len() >= FILES).await;
    let refused = || running.root.reasons("discarded", "client1").into_iter();
    let refused =
        || refused().filter(|reason| reason["file"].as_str().is_some_and(|name| name.ends_with(".exe")));
    until_async(DEADLINE, "all others are discarded", async || refused().count() >= FILES).await;
    println!("{exchanges} exchanges while {} files were taken", 2 * FILES);

    assert_untouched(&outside, &names);
    let found = staged(&running.root);
    assert_eq!((found.len(), refused().count()), (FILES, FILES), "each file exactly once");
    for staged in found {
        let content = String::from_utf8(staged.content()).expect("text");
        assert!(content.ends_with(",mine\n"), "{content:?} of {}", staged.manifest.file);
    }
    running.stop().await;
}

/// Exchanges the two, or restores them if the link has been discarded.
fn exchange(directory: &Path, link: &Path, outside: &Path) {
    if renameat_with(CWD, directory, CWD, link, RenameFlags::EXCHANGE).is_ok() {
        return;
    }
    if !directory.exists() {
        // The link was taken from the directory's path, so the directory has the link's name now.
        let _ = fs::rename(link, directory);
    }
    let _ = symlink(outside, link);
}
