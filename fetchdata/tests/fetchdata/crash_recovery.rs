//! If fetchdata is interrupted between any two steps, the next start finishes or undoes them; and two never work at
//! once.

use std::fs;
use std::path::PathBuf;

use mysimbdp_fetchdata::{Error, PROCESS_NAME};
use mysimbdp_model::layout::Layout;
use mysimbdp_testbed::{Root, until};
use serde_json::{Value, json};

use crate::running::{DEADLINE, Running, Staged, config, dropped, staged};

const ROWS: &[u8] = b"a,b\n1,2\n3,4\n";

/// A root whose one file has been staged, after fetchdata has stopped.
async fn after_staging(config: &Value) -> (Root, Staged) {
    let running = Running::with(config);
    running.root.drop_file("client1", "cut.csv", ROWS);
    let staged = running.one_staged().await;
    (running.stop().await, staged)
}

/// Renames the staged directory to its hidden name, as it is before it is published.
fn unpublish(staged: &Staged) -> PathBuf {
    let unpublished = staged.directory.with_file_name(format!(".{}", staged.manifest.ingestion));
    fs::rename(&staged.directory, &unpublished).expect("rename");
    unpublished
}

fn with_parts() -> Value {
    let mut all = config(json!({}));
    all["fetchdata"]["staging_parts"] = json!("files");
    all
}

fn drop_directory(root: &Root, name: &str) -> PathBuf {
    root.drop_directory("client1").join(name)
}

async fn assert_staged_once(root: Root, why: &str) {
    let running = Running::on(root);
    let found = running.one_staged().await;
    assert_eq!(found.content(), ROWS, "{why}");
    until(DEADLINE, "the drop directory is empty", || dropped(&running.root).is_empty());
    let root = running.stop().await;
    assert_eq!(staged(&root).len(), 1, "{why}");
    assert_eq!(root.list("discarded/client1"), [] as [&str; 0], "{why}");
    for directory in ["staging/client1", "client-input-directory/client1", "client-input-directory/.mysimbdp"]
    {
        let hidden: Vec<_> = fs::read_dir(root.path().join(directory))
            .expect("directory")
            .map(|entry| entry.expect("entry").file_name())
            .filter(|name| directory.ends_with(".mysimbdp") || name.to_string_lossy().starts_with('.'))
            .collect();
        assert!(hidden.is_empty(), "{why}: {hidden:?} is left in {directory}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_interrupted_before_the_file_was_moved_in_is_repeated() {
    let (root, staged) = after_staging(&config(json!({}))).await;
    let unpublished = unpublish(&staged);
    fs::rename(unpublished.join("cut.csv"), drop_directory(&root, "cut.csv")).expect("rename");
    assert_staged_once(root, "a manifest without data is removed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_interrupted_before_publication_is_completed() {
    let (root, staged) = after_staging(&config(json!({}))).await;
    unpublish(&staged);
    assert_staged_once(root, "a complete one is published").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_with_a_torn_manifest_is_repeated() {
    let (root, staged) = after_staging(&config(json!({}))).await;
    let unpublished = unpublish(&staged);
    fs::write(unpublished.join(Layout::MANIFEST), b"{\"version\":1,").expect("tear");
    assert_staged_once(root, "the data is returned and staged again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staged_data_that_does_not_match_is_returned_even_if_its_name_is_in_use_again() {
    let (root, staged) = after_staging(&config(json!({}))).await;
    let unpublished = unpublish(&staged);
    fs::write(unpublished.join("cut.csv"), b"a,b\n9,9\n").expect("change");
    fs::write(drop_directory(&root, "cut.csv"), ROWS).expect("drop again");
    let running = Running::on(root);
    let found = running.until_staged(2).await;
    let mut contents: Vec<_> = found.iter().map(Staged::content).collect();
    contents.sort();
    assert_eq!(contents, [ROWS.to_vec(), b"a,b\n9,9\n".to_vec()]);
    assert!(found.iter().all(|staged| staged.manifest.file == "cut.csv"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_interrupted_while_parts_were_written_is_repeated() {
    let (root, staged) = after_staging(&with_parts()).await;
    let unpublished = unpublish(&staged);
    fs::remove_file(unpublished.join(Layout::MANIFEST)).expect("remove");
    fs::write(drop_directory(&root, "cut.csv"), ROWS).expect("the original");
    assert_staged_once(root, "parts without a manifest are made again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_interrupted_before_the_original_was_set_aside_is_repeated() {
    let (root, staged) = after_staging(&with_parts()).await;
    unpublish(&staged);
    fs::write(drop_directory(&root, "cut.csv"), ROWS).expect("the original");
    assert_staged_once(root, "parts beside their original are made again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_interrupted_with_an_empty_set_aside_directory_is_repeated() {
    let (root, staged) = after_staging(&with_parts()).await;
    unpublish(&staged);
    fs::write(drop_directory(&root, "cut.csv"), ROWS).expect("the original");
    fs::create_dir_all(set_aside(&root, &staged)).expect("directory");
    assert_staged_once(root, "parts beside their original are made again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_interrupted_after_the_original_was_set_aside_is_completed() {
    let (root, staged) = after_staging(&with_parts()).await;
    unpublish(&staged);
    set_original_aside(&root, &staged);
    assert_staged_once(root, "a complete one is published, and the original removed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn torn_parts_are_made_again_from_the_original_set_aside() {
    let (root, staged) = after_staging(&with_parts()).await;
    let unpublished = unpublish(&staged);
    fs::write(unpublished.join("parts/00000"), b"1,").expect("tear");
    set_original_aside(&root, &staged);
    assert_staged_once(root, "the original is restored and staged again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_whose_parts_are_staged_is_removed_at_start() {
    let (root, staged) = after_staging(&with_parts()).await;
    set_original_aside(&root, &staged);
    assert_staged_once(root, "the parts are published, so the original is removed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_set_aside_with_nothing_staged_is_inspected_again() {
    let (root, staged) = after_staging(&with_parts()).await;
    set_original_aside(&root, &staged);
    fs::remove_dir_all(&staged.directory).expect("remove");
    assert_staged_once(root, "nothing is known of its copy, so it is inspected again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_set_aside_by_an_earlier_version_is_restored() {
    let (root, staged) = after_staging(&with_parts()).await;
    let beside = drop_directory(&root, &format!(".taken-{}", staged.manifest.ingestion));
    fs::create_dir(&beside).expect("directory");
    fs::write(beside.join("cut.csv"), ROWS).expect("the original");
    fs::remove_dir_all(&staged.directory).expect("remove");
    assert_staged_once(root, "an original set aside by an earlier version is restored").await;
}

fn set_original_aside(root: &Root, staged: &Staged) {
    let directory = set_aside(root, staged);
    fs::create_dir_all(&directory).expect("directory");
    fs::write(directory.join("cut.csv"), ROWS).expect("the original");
}

/// Where the original of the client's file waits.
fn set_aside(root: &Root, staged: &Staged) -> PathBuf {
    root.drop_directory(".mysimbdp").join(staged.manifest.ingestion.to_string()).join("client1")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_discard_is_completed() {
    let running = Running::start();
    running.root.drop_file("client1", "wrong.exe", ROWS);
    running.one_discarded("client1").await;
    let root = running.stop().await;
    let discarded = root.path().join("discarded/client1");
    let name = root.list("discarded/client1").remove(0);
    fs::rename(discarded.join(&name), discarded.join(format!(".{name}"))).expect("rename");
    fs::create_dir(discarded.join(".empty")).expect("directory");
    fs::write(discarded.join(".empty/reason.json"), b"{}").expect("reason");
    let running = Running::on(root);
    running.one_discarded("client1").await;
    let root = running.stop().await;
    assert_eq!(root.list("discarded/client1"), [name]);
    assert_eq!(fs::read_dir(discarded).expect("directory").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_discard_to_another_file_system_is_completed_or_repeated() {
    let name = "20260131T000000Z-0123456789abcdef";
    for copied in [false, true] {
        let root = Root::new(&config(json!({})));
        let waiting = root.drop_directory(".mysimbdp").join(name).join("client1");
        fs::create_dir_all(&waiting).expect("directory");
        fs::write(waiting.join("wrong.exe"), ROWS).expect("the original");
        let unpublished = root.path().join(format!("discarded/client1/.{name}"));
        fs::create_dir_all(&unpublished).expect("directory");
        fs::write(unpublished.join("reason.json"), b"{}").expect("reason");
        fs::write(unpublished.join(".0123.part"), &ROWS[..4]).expect("half a copy");
        if copied {
            fs::rename(unpublished.join(".0123.part"), unpublished.join("wrong.exe")).expect("rename");
            fs::write(unpublished.join("wrong.exe"), ROWS).expect("the copy");
        }
        // `.mysimbdp` is the platform's own; the test has made it in its place.
        let running = Running::on(root);
        until(DEADLINE, "the file is discarded", || running.root.list("discarded/client1").len() == 1);
        until(DEADLINE, "no original waits", || {
            fs::read_dir(running.root.drop_directory(".mysimbdp")).expect("list").count() == 0
        });
        let root = running.stop().await;
        let found = root.list("discarded/client1");
        assert_eq!((found.len(), found[0] == name), (1, copied), "{found:?}");
        let kept = root.path().join("discarded/client1").join(&found[0]).join("wrong.exe");
        assert_eq!(fs::read(kept).expect("file"), ROWS);
        assert!(dropped(&root).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_while_files_keep_coming_lose_and_repeat_none() {
    let mut root = Root::new(&config(json!({})));
    let mut number = 0;
    for _ in 0..4 {
        let running = Running::on(root);
        for _ in 0..25 {
            running.root.drop_file("client1", &format!("{number}.csv"), format!("a\n{number}\n").as_bytes());
            number += 1;
        }
        running.until_staged(number / 2).await;
        root = running.stop().await;
    }
    let running = Running::on(root);
    let found = running.until_staged(number).await;
    assert_eq!(found.len(), number);
    assert!(dropped(&running.root).is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_fetchdata_reports_which_process_holds_the_drop_directory() {
    let running = Running::start();
    running.root.drop_file("client1", "first.csv", ROWS);
    running.one_staged().await;
    let config = mysimbdp_config::Config::load(&running.root.config(), |_| None).expect("config");
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    match mysimbdp_fetchdata::run(std::sync::Arc::new(config), stopped).await {
        Err(Error::Lock(error)) => {
            let text = error.to_string();
            assert!(
                text.contains(&format!("another {PROCESS_NAME}"))
                    && text.contains(&std::process::id().to_string()),
                "{text}"
            );
        }
        other => panic!("expected the lock to be held, got {other:?}"),
    }
    running.stop().await;
}
