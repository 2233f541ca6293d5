//! However a file arrives, it is staged once, whole, and in the right lane.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::{Format, Lane};
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath};
use mysimbdp_testbed::{Disk, FileSystem, Root, python, until, until_async};
use serde_json::json;

use crate::running::{DEADLINE, Running, SETTLE, config, dropped, staged};

const ROWS: &[u8] = b"a,b\n1,2\n3,4\n";

/// `count` rows, all different.
fn rows(count: usize) -> Vec<u8> {
    let mut content = b"number,text\n".to_vec();
    for row in 0..count {
        writeln!(content, "{row},\"text of row\n{row}\"").expect("write to memory");
    }
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn files_present_at_start_and_files_dropped_later_are_staged_with_their_manifests() {
    let root = Root::new(&config(json!({"micro_batching": {"block_size": "1kB"}})));
    let content = rows(1_000);
    root.drop_file("client1", "before.csv", &content);
    let running = Running::on(root);
    let first = running.one_staged().await;
    assert_eq!(first.content(), content);
    let manifest = &first.manifest;
    assert_eq!((manifest.file.as_str(), manifest.app.as_str()), ("before.csv", "documents"));
    assert_eq!((manifest.records, manifest.format, manifest.lane), (1_000, Format::Csv, Lane::Live));
    assert!(
        manifest.micro_batches.len() > 20 && manifest.micro_batches.iter().all(|batch| batch.length <= 1_000)
    );
    assert!(first.directory.ends_with(format!("client1/{}", manifest.ingestion)));

    running.root.drop_file("client1", "later.csv", ROWS);
    running.until_staged(2).await;
    assert_eq!(dropped(&running.root), [] as [std::path::PathBuf; 0]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_or_else_the_globs_decide_which_client_owns_a_file() {
    let app = json!({"name": "documents", "command": ["document-app"]});
    let client = |id: &str, glob: &str| json!({"id": id, "apps": [app], "files": {"globs": [glob, "both*"]}});
    let mut all = config(json!({}));
    all["clients"] = json!([client("one", "one*"), client("two", "two*")]);
    let running = Running::with(&all);
    running.root.drop_file("", "one.csv", b"a\n1\n");
    running.root.drop_file("two", "both.csv", b"a\n2\n");
    running.root.drop_file("two/backfill", "two-old.csv", b"a\n3\n");
    running.root.drop_file("", "both.csv", b"a\n5\n");
    running.root.drop_file("", "nobody.csv", b"a\n6\n");
    let unrouted = running.until_discarded("_unrouted", 2).await;
    let mut staged: Vec<_> =
        running.until_staged(3).await.into_iter().map(|staged| staged.manifest).collect();
    staged.sort_by(|one, other| one.file.cmp(&other.file));
    let ends: Vec<_> = staged.iter().map(|m| (m.file.as_str(), m.client.as_str(), m.lane)).collect();
    assert_eq!(
        ends,
        [
            ("both.csv", "two", Lane::Live),
            ("one.csv", "one", Lane::Live),
            ("two-old.csv", "two", Lane::Backfill),
        ]
    );
    for reason in unrouted {
        let expected = match reason["file"].as_str() {
            Some("both.csv") => {
                "the globs of one and two match the name; expected those of exactly one client"
            }
            _ => "no client's globs match the name; expected one*, both* for one; two*, both* for two",
        };
        assert_eq!(reason["reasons"], json!([expected]));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_on_another_file_system_gets_synced_parts_and_the_original_is_removed() {
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("directory in memory");
    let root = Root::new(&config(json!({"micro_batching": {"block_size": "1kB"}})));
    let device = |path| fs::metadata(path).expect("metadata").dev();
    assert_ne!(device(elsewhere.path()), device(root.path()), "the test needs two file systems");
    std::os::unix::fs::symlink(elsewhere.path(), root.path().join("staging")).expect("symlink");
    let content = rows(500);
    root.drop_file("client1", "far.csv", &content);
    let running = Running::on(root);
    let staged = running.one_staged().await;
    assert_eq!(staged.content(), content);
    assert!(
        staged.manifest.micro_batches.iter().all(|batch| batch.path == format!("parts/{:05}", batch.index))
    );
    until(DEADLINE, "the original is removed", || {
        fs::read_dir(running.root.drop_directory("client1")).expect("drop directory").count() == 1
    });
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symlinked_drop_directory_is_watched_like_any_other() {
    let mut all = config(json!({}));
    // So that a later file is taken in time only because of an event.
    all["fetchdata"]["scan_every"] = json!("1h");
    let root = Root::new(&all);
    let elsewhere = root.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("directory");
    std::os::unix::fs::symlink(&elsewhere, root.path().join("client-input-directory")).expect("symlink");
    root.drop_file("", "before.csv", ROWS);
    let running = Running::on(root);
    running.one_staged().await;
    running.root.drop_file("", "later.csv", b"a,b\n5,6\n");
    running.until_staged(2).await;
    running.stop().await;
}

/// Not asynchronous: a thread sees the mount only if it is started after it.
#[test]
fn files_of_a_client_whose_folder_is_a_mount_are_staged_and_receipts_are_written_there() {
    let Some(disk) = Disk::new_or_skip(FileSystem::Ext4) else { return };
    let root = Root::new(&config(json!({})));
    let folder = root.drop_directory("client1");
    fs::create_dir_all(&folder).expect("folder");
    let run = |program: &str, words: &[&Path]| {
        assert!(
            Command::new(program).args(words).status().expect("program").success(),
            "{program} {words:?}"
        );
    };
    run("mount", &[Path::new("--bind"), disk.path(), &folder]);
    tokio::runtime::Runtime::new().expect("runtime").block_on(async {
        root.drop_file("client1/sub", "far.csv", ROWS);
        root.drop_file("client1/sub", "wrong.exe", ROWS);
        let running = Running::on(root);
        let staged = running.one_staged().await;
        assert_eq!(
            (staged.content(), staged.manifest.micro_batches[0].path.as_str()),
            (ROWS.to_vec(), "parts/00000")
        );
        running.one_discarded("client1").await;
        let root = running.stop().await;
        assert_eq!(dropped(&root), [] as [std::path::PathBuf; 0]);
        for waiting in [root.drop_directory(".mysimbdp"), folder.join("sub")] {
            assert_eq!(fs::read_dir(&waiting).expect("list").count(), 0, "{}", waiting.display());
        }
        let receipt = DropPath::parse("client-input-directory/client1/sub/receipt").expect("path");
        let drop_directory = DropDirectory::open(&Layout::new(root.path())).expect("drop directory");
        drop_directory.write(&receipt, "temporary".as_ref(), b"one").expect("written");
        assert_eq!(fs::read(folder.join("sub/receipt")).expect("file"), b"one");
        assert_eq!(fs::read_dir(folder.join("sub")).expect("list").count(), 1);
        run("umount", &[&folder]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_made_if_the_config_says_so_and_for_names_reserved_in_staging() {
    let mut all = config(json!({}));
    all["fetchdata"]["staging_parts"] = json!("files");
    let running = Running::with(&all);
    running.root.drop_file("client1", "wanted.csv", ROWS);
    let staged = running.one_staged().await;
    assert_eq!(
        (staged.content(), staged.manifest.micro_batches[0].path.as_str()),
        (ROWS.to_vec(), "parts/00000")
    );
    running.stop().await;

    let running = Running::start();
    running.root.drop_file("client1", "manifest.json", b"[1, 2]");
    let staged = running.one_staged().await;
    assert_eq!((staged.content(), staged.manifest.file.as_str()), (b"[1, 2]".to_vec(), "manifest.json"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_files_are_found_when_the_queue_of_the_watcher_overflows() {
    /// The kernel reads the limit when a watcher is made, so only ours has such a short queue.
    struct ShortQueue(Vec<u8>);
    const QUEUE: &str = "/proc/sys/fs/inotify/max_queued_events";
    impl Drop for ShortQueue {
        fn drop(&mut self) {
            let _ = fs::write(QUEUE, &self.0);
        }
    }

    let short = ShortQueue(fs::read(QUEUE).expect("kernel with inotify"));
    // Only root may write it; for others, the flood alone has to overflow the queue.
    let _ = fs::write(QUEUE, "16");
    let mut all = config(json!({}));
    all["fetchdata"]["files_in_parallel"] = json!(4);
    let running = Running::with(&all);
    running.root.drop_file("client1", "first.csv", ROWS);
    running.one_staged().await;
    drop(short);
    let directory = running.root.drop_directory("client1");
    for number in 0..600 {
        fs::write(directory.join(format!("{number}.csv")), format!("a\n{number}\n")).expect("write a file");
    }
    let staged = running.until_staged(601).await;
    assert_eq!(staged.len(), 601);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_links_and_files_in_directories_that_are_moved_in_are_found() {
    let running = Running::start();
    until(DEADLINE, "the drop directory exists", || {
        running.root.drop_directory("client1").join("backfill").exists()
    });
    let outside = running.root.path().join("outside");
    fs::create_dir_all(outside.join("inner")).expect("directory");
    fs::write(outside.join("linked.csv"), b"a\n1\n").expect("file");
    fs::hard_link(outside.join("linked.csv"), running.root.drop_directory("client1").join("linked.csv"))
        .expect("link");
    running.one_staged().await;

    fs::write(outside.join("moved.csv"), b"a\n2\n").expect("file");
    fs::write(outside.join("inner/deeper.csv"), b"a\n3\n").expect("file");
    fs::remove_file(outside.join("linked.csv")).expect("remove");
    fs::rename(&outside, running.root.drop_directory("client1").join("moved-in")).expect("move in");
    let staged = running.until_staged(3).await;
    let mut files: Vec<_> = staged.iter().map(|staged| staged.manifest.file.as_str()).collect();
    files.sort_unstable();
    assert_eq!(files, ["deeper.csv", "linked.csv", "moved.csv"]);
    running.stop().await;
}

/// Half of a file would be another content, and so another ingestion beside the whole one.
async fn assert_taken_once(running: Running, name: &str, content: &[u8]) {
    let staged_file = running.one_staged().await;
    assert_eq!((staged_file.manifest.file.as_str(), staged_file.content()), (name, content.to_vec()));
    let root = running.stop().await;
    assert_eq!(staged(&root).len(), 1);
    assert_eq!(root.list("discarded"), [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_writer_is_waited_for_however_long_its_pauses() {
    let running = Running::start();
    let path = running.root.drop_file("client1", ".slow.csv.part", b"");
    let path = path.with_file_name("slow.csv");
    let mut file = File::create(&path).expect("new file");
    let content = rows(40);
    for piece in content.chunks(content.len() / 4 + 1) {
        file.write_all(piece).expect("write");
        // Not a guess: the pause is what is tested.
        tokio::time::sleep(SETTLE * 3).await;
        assert!(staged(&running.root).is_empty(), "must not be staged while it is open");
    }
    drop(file);
    assert_taken_once(running, "slow.csv", &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_through_a_memory_map_is_waited_for() {
    const WRITER: &str = "
import mmap, sys
file = open(sys.argv[1], 'r+b')
view = mmap.mmap(file.fileno(), 0)
file.close()
print('mapped', flush=True)
sys.stdin.readline()
view[4:5] = b'9'
view.close()
";
    let running = Running::start();
    let hidden = running.root.drop_file("client1", ".mapped.part", b"a,b\n1,2\n");
    let path = hidden.with_file_name("mapped.csv");
    let mut writer = Command::new(python());
    writer.args(["-c", WRITER]).arg(&hidden).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut writer = writer.spawn().expect("python runs");
    let mut line = String::new();
    BufReader::new(writer.stdout.as_mut().expect("piped"))
        .read_line(&mut line)
        .expect("first line of its output");
    assert_eq!(line, "mapped\n");
    fs::rename(&hidden, &path).expect("rename");
    // Not a guess: the file must not be taken during this time.
    tokio::time::sleep(SETTLE * 4).await;
    assert!(staged(&running.root).is_empty(), "must not be staged while it is mapped");
    drop(writer.stdin.take());
    assert!(writer.wait().expect("wait for its end").success());
    assert_taken_once(running, "mapped.csv", b"a,b\n9,2\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_name_is_not_taken_until_it_is_renamed() {
    let running = Running::start();
    let temporary = [
        "weather.csv.part",
        "weather.csv.filepart",
        "weather.csv.tmp",
        "weather.csv~",
        ".weather.csv.8sKd2a",
    ];
    let directory = running.root.drop_file("client1", ".first.part", b"").with_file_name("");
    for name in temporary {
        fs::write(directory.join(name), b"a,b\n1").expect("file");
    }
    running.root.drop_file("client1", "witness.csv", b"a\n1\n");
    running.until_staged(1).await;
    // A whole settle time and a scan after another file was taken, they are still there.
    tokio::time::sleep(SETTLE * 2).await;
    assert_eq!(running.one_staged().await.manifest.file, "witness.csv");
    let last = directory.join(temporary[4]);
    OpenOptions::new().append(true).open(&last).and_then(|mut file| file.write_all(b",2\n")).expect("append");
    fs::rename(&last, directory.join("weather.csv")).expect("rename");
    let staged = running.until_staged(2).await;
    let renamed =
        staged.iter().find(|staged| staged.manifest.file == "weather.csv").expect("the renamed file");
    assert_eq!(renamed.content(), b"a,b\n1,2\n");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reopening_to_append_within_the_settle_time_restarts_it() {
    let mut all = config(json!({}));
    all["fetchdata"]["settle"] = json!("600ms");
    let running = Running::with(&all);
    let directory = running.root.drop_file("client1", ".first.part", b"").with_file_name("");
    let path = directory.join("appended.csv");
    fs::write(&path, b"number\n").expect("new file");
    let mut content = b"number\n".to_vec();
    let started = Instant::now();
    let mut number = 0;
    while started.elapsed() < Duration::from_secs(2) {
        let line = format!("{number}\n");
        number += 1;
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("append");
        content.extend_from_slice(line.as_bytes());
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_taken_once(running, "appended.csv", &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_waits_for_its_sentinel_and_both_leave_together() {
    let running = Running::with(&config(json!({"files": {"sentinel": ".done"}})));
    let path = running.root.drop_file("client1", "waiting.csv", ROWS);
    tokio::time::sleep(SETTLE * 4).await;
    assert!(staged(&running.root).is_empty(), "must not be staged without its sentinel");
    fs::write(path.with_file_name("waiting.csv.done"), b"").expect("sentinel");
    assert_eq!(running.one_staged().await.content(), ROWS);
    until_async(DEADLINE, "the sentinel is removed", async || dropped(&running.root).is_empty()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_of_the_platform_are_not_ingested() {
    // Also if the client no longer gets receipts.
    for receipt in [true, false] {
        let running = Running::with(&config(json!({"receipt": receipt})));
        let receipt = running.root.drop_file("client1", "old.csv.receipt.json", b"[]");
        running.root.drop_file("client1", "new.csv", ROWS);
        running.one_staged().await;
        running.root.drop_file("client1", "next.csv", b"a\n7\n");
        running.until_staged(2).await;
        assert_eq!(dropped(&running.root), [receipt]);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_opened_delays_no_other_and_is_staged_once_it_can_be() {
    let running = Running::start();
    // A directory without permissions would not stop root; a name longer than the path limit stops everybody.
    let deep = (0..18).fold(running.root.drop_directory("client1"), |path, _| path.join("d"));
    fs::create_dir_all(&deep).expect("directories");
    fs::write(deep.join("deep.csv"), b"a\n1\n").expect("file");
    running.root.drop_file("client1", "other.csv", ROWS);
    assert_eq!(running.one_staged().await.manifest.file, "other.csv");
    fs::rename(deep.join("deep.csv"), running.root.drop_directory("client1").join("deep.csv"))
        .expect("move up");
    running.until_staged(2).await;
    running.stop().await;
}

/// Backfill never uses all worker slots, however much of it there is: a live file finds a free one.
#[tokio::test(flavor = "multi_thread")]
async fn one_worker_slot_is_reserved_from_backfill() {
    let mut settings = config(json!({}));
    settings["fetchdata"]["files_in_parallel"] = json!(2);
    let running = Running::with(&settings);
    for number in 0..6 {
        let content = [format!("file,{number}a\n").into_bytes(), rows(200_000)].concat();
        running.root.drop_file("client1/backfill", &format!("{number}.csv"), &content);
    }
    // Files that this process, which fetchdata runs in, inspects and splits.
    let open = |lane: &Path| {
        let open = fs::read_dir("/proc/self/fd").expect("Linux has /proc").flatten();
        let paths = open.filter_map(|open| fs::read_link(open.path()).ok());
        // Not the lane's directory itself, which each walk opens.
        paths.filter(|path| path.parent() == Some(lane)).collect::<BTreeSet<_>>().len()
    };
    let lane = running.root.drop_directory("client1").join("backfill");
    until(DEADLINE, "the first file is being split", || open(&lane) > 0);
    running.root.drop_file("client1", "live.csv", ROWS);
    let is_staged = |name: &str| staged(&running.root).iter().any(|staged| staged.manifest.file == name);
    until(DEADLINE, "the live file is staged", || {
        assert!(open(&lane) <= 1, "backfill occupies both worker slots");
        is_staged("live.csv")
    });
    running.until_staged(7).await;
    running.stop().await;
}

/// With the usual programs, writing to the final name: `cp` writes for a while, and so does `mv` from another file
/// system. If rsync is not installed, its way (`.name.XXXXXX` and a rename) is done by hand.
#[tokio::test(flavor = "multi_thread")]
async fn files_from_cp_mv_install_ln_and_rsync_are_staged_once_and_whole() {
    let running = Running::start();
    let far = tempfile::tempdir_in("/dev/shm").expect("directory in memory");
    let near = running.root.path().join("outside");
    fs::create_dir_all(&near).expect("directory");
    let to = running.root.drop_file("client1", ".first.part", b"").with_file_name("");
    let mut contents = Vec::new();
    for (number, (program, words, from)) in (0..).zip([
        ("cp", vec![], near.as_path()),
        ("cp", vec!["--preserve=all"], far.path()),
        ("mv", vec![], near.as_path()),
        ("mv", vec![], far.path()),
        ("install", vec!["-m", "600"], near.as_path()),
        ("ln", vec![], near.as_path()),
        ("rsync", vec!["-a"], near.as_path()),
    ]) {
        let name = format!("{number}-{program}.csv");
        let content = [format!("file,{name}\n").into_bytes(), rows(60_000)].concat();
        fs::write(from.join(&name), &content).expect("file");
        let ran = Command::new(program).args(words).arg(from.join(&name)).arg(to.join(&name)).status();
        match ran {
            Ok(status) => assert!(status.success(), "{program} ended with {status}"),
            Err(_) if program == "rsync" => {
                let hidden = to.join(format!(".{name}.Xa81bZ"));
                fs::copy(from.join(&name), &hidden).expect("copy");
                fs::rename(hidden, to.join(&name)).expect("rename");
            }
            Err(error) => panic!("{program}: {error}"),
        }
        contents.push((name, content));
    }
    let staged_files = running.until_staged(contents.len()).await;
    for (name, content) in &contents {
        let staged = staged_files.iter().find(|staged| staged.manifest.file == *name).expect("staged");
        assert!(staged.content() == *content, "{name} has other content");
    }
    until(DEADLINE, "the drop directory is empty", || dropped(&running.root).is_empty());
    let root = running.stop().await;
    assert_eq!((staged(&root).len(), root.list("discarded").len()), (contents.len(), 0));
}
