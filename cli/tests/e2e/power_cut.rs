//! The power is cut at random moments under load, on real file systems: each file has exactly one outcome, which is
//! recorded.
//!
//! The data root is on a disk of its own; broker and MongoDB are elsewhere and lose nothing. Senders sync what they
//! drop, as `mysimbdp drop` does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mysimbdp_testbed::{Daemon, Disk, FileSystem, Random, mongodb, mosquitto, until};
use serde_json::{Value, json};

use crate::support::{Platform, SOON, documents, number, objects};

/// Long enough for several commits of a journal, and for a cut before, in and after any step.
const MOMENT_MAX_MILLISECONDS: u64 = 1_800;
const KINDS: [&str; 3] = ["fetchdata", "batch-manager", "stream-manager"];

#[tokio::test]
async fn heavy_twenty_cuts_on_ext4_leave_no_residue() {
    cuts(FileSystem::Ext4, 20, false).await;
}

#[tokio::test]
async fn heavy_twenty_cuts_on_xfs_leave_no_residue() {
    cuts(FileSystem::Xfs, 20, false).await;
}

#[tokio::test]
async fn heavy_ten_cuts_under_the_embedded_store_leave_no_residue() {
    cuts(FileSystem::Ext4NoAutoDaAlloc, 10, true).await;
}

async fn cuts(file_system: FileSystem, cuts: u32, embedded_store: bool) {
    let Some(mut disk) = Disk::new_or_skip(file_system) else { return };
    let seed = std::env::var("POWER_CUT_SEED").map_or(7, |seed| seed.parse().expect("a number"));
    let mut load = Load::new(&disk, embedded_store).await;
    disk.sync();
    let started = Instant::now();
    let mut daemons = load.start();
    for cut in 0..cuts {
        println!("seed {seed}, {file_system:?}, cut {cut}");
        let mut random = Random::new(seed, cut);
        load.drop_some(&mut random, cut);
        std::thread::sleep(Duration::from_millis(random.below(MOMENT_MAX_MILLISECONDS)));
        disk.cut();
        drop(daemons);
        disk.restore();
        daemons = load.start();
        load.verify_outcome().await;
    }
    let (files, seconds) = (load.sent.len(), started.elapsed().as_secs());
    println!("{cuts} cuts on {file_system:?} in {seconds} s: {files} files, no residue");
}

/// How a file must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Ingested { rows: u64, rejected: u64 },
    Held,
    Discarded,
}

#[derive(Clone, Debug)]
struct Sent {
    client: &'static str,
    name: String,
    end: End,
}

/// A platform on the disk, and all files that were ever dropped.
struct Load {
    platform: Platform,
    store: String,
    sent: Vec<Sent>,
}

impl Load {
    async fn new(disk: &Disk, embedded_store: bool) -> Self {
        let mut rows = documents("documents");
        rows["micro_batching"] = json!({"block_size": "2KiB"});
        rows["receipt"] = json!(true);
        rows["apps"][0]["rejects_max"] = json!("100%");
        let mut files = objects("objects");
        files["archive"] = json!("1d");
        files["files"] = json!({"globs": ["*.bin"]});
        let refused = json!({
            "id": "refused", "apps": [{"name": "app", "command": ["sh", "-c", "exit 65"], "collection": "readings"}],
        });
        let clients = json!([rows, files, refused]);
        let platform = Platform::within(disk.path(), mongodb().url(), mosquitto().url(), clients).await;
        let store = match embedded_store {
            true => format!("sqlite:{}", platform.root.path().join("state/coredms").display()),
            false => mongodb().url().to_owned(),
        };
        platform.set("coredms", json!({"url": store}));
        // The disk is small.
        platform.set("fetchdata", json!({"free_space_min": "0B"}));
        platform.command(0, &["check"]);
        Self { platform, store, sent: Vec::new() }
    }

    fn start(&self) -> Vec<Daemon> {
        KINDS.iter().map(|kind| self.platform.start(kind)).collect()
    }

    /// Drops some files of each kind, and retries a held one.
    fn drop_some(&mut self, random: &mut Random, cut: u32) {
        for file in 0..2 + random.below(5) {
            let (rows, rejected) = (1 + random.below(300), random.below(2) * random.below(30));
            let (client, extension, content, end) = match random.below(6) {
                0 => ("documents", "exe", vec![0; 10], End::Discarded),
                1 => ("refused", "ndjson", lines(cut, file, 2, 0), End::Held),
                2 => ("objects", "bin", lines(cut, file, rows, 0), End::Ingested { rows: 1, rejected: 0 }),
                _ => (
                    "documents",
                    "ndjson",
                    lines(cut, file, rows, rejected),
                    End::Ingested { rows, rejected },
                ),
            };
            let name = format!("{cut}-{file}.{extension}");
            drop_durably(&self.platform.root.drop_directory(client), &name, &content);
            self.sent.push(Sent { client, name, end });
            std::thread::sleep(Duration::from_millis(random.below(200)));
        }
        let held = self.platform.root.list("held/refused");
        if let Some(id) = held.get(random.below(3) as usize) {
            self.platform.command(0, &["retry", id]);
        }
    }

    /// Waits until nothing is in progress, and verifies all files that were ever dropped.
    async fn verify_outcome(&self) {
        let root = &self.platform.root;
        let count = |end: fn(&End) -> bool| self.sent.iter().filter(|sent| end(&sent.end)).count();
        let held = count(|end| *end == End::Held);
        let waiting = || {
            let mut waiting = Vec::new();
            for client in ["documents", "objects", "refused"] {
                let mut dropped = root.list(&format!("client-input-directory/{client}"));
                dropped.retain(|name| name != "backfill" && !name.ends_with(".receipt.json"));
                waiting.extend(dropped);
                waiting.extend(root.list(&format!("staging/{client}")));
            }
            waiting
        };
        let ended = Instant::now() + SOON;
        until(SOON * 2, "nothing is in progress", || {
            let (waiting, held_now) = (waiting(), root.list("held/refused").len());
            assert!(Instant::now() < ended, "still in progress: {waiting:?}; {held_now} of {held} are held");
            waiting.is_empty() && held_now >= held
        });
        assert_eq!(reasons(root.path(), "held/refused"), self.names(End::Held));
        assert_eq!(reasons(root.path(), "discarded/documents"), self.names(End::Discarded));
        for client in ["documents", "objects"] {
            assert_eq!(root.list(&format!("held/{client}")), [""; 0]);
        }
        self.assert_ingested().await;
        self.platform.command(0, &["reconcile"]);
    }

    fn names(&self, end: End) -> Vec<String> {
        let mut names: Vec<String> =
            self.sent.iter().filter(|sent| sent.end == end).map(|sent| sent.name.clone()).collect();
        names.sort_unstable();
        names
    }

    async fn assert_ingested(&self) {
        let database = &self.platform.database;
        let history = self.find(database, "ingestions", doc! {"state": "ingested"}).await;
        let readings = self.find(&format!("{database}_documents"), "readings", doc! {}).await;
        let rejects = self.find(&format!("{database}_documents"), "rejected", doc! {}).await;
        for reject in &rejects {
            assert!(reject.get_str("content").is_ok_and(|content| content.ends_with("not JSON")), "{reject}");
        }
        let of = |documents: &[Document], name: &str| {
            documents
                .iter()
                .filter(|document| document.get_str("file").is_ok_and(|file| file == name))
                .count() as u64
        };
        let mut expected = 0;
        for Sent { client, name, end } in &self.sent {
            let End::Ingested { rows, rejected } = *end else { continue };
            expected += 1;
            let runs: Vec<&Document> =
                history.iter().filter(|run| run.get_str("file").is_ok_and(|file| file == name)).collect();
            let [run] = runs[..] else { panic!("{name} has {} runs: {runs:?}", runs.len()) };
            let counts =
                ["received", "stored", "duplicates", "rejected"].map(|field| number(run, field) as u64);
            assert_eq!(counts, [rows + rejected, rows, 0, rejected], "{name}");
            if *client == "documents" {
                assert_eq!((of(&readings, name), of(&rejects, name)), (rows, rejected), "{name}");
                let receipt = self.platform.root.drop_directory(client).join(format!("{name}.receipt.json"));
                let receipt = fs::read(receipt).expect("the sender has a receipt");
                let receipt: Value = serde_json::from_slice(&receipt).expect("a receipt is JSON");
                assert_eq!(receipt["stored"], rows, "{name}");
            }
        }
        assert_eq!(history.len(), expected);
    }

    /// Opens the store for each query: open files on the disk would prevent it from being mounted again.
    async fn find(&self, database: &str, collection: &str, filter: Document) -> Vec<Document> {
        let store = mysimbdp_store::open(&self.store, database).await.expect("open the store");
        let found = store.find(collection, filter, i64::MAX).await.expect("read the store");
        store.close().await;
        found
    }
}

/// NDJSON that no other file has, with bad lines among the good ones.
fn lines(cut: u32, file: u64, rows: u64, rejected: u64) -> Vec<u8> {
    let mut lines: Vec<String> =
        (0..rows).map(|row| format!("{{\"file\":\"{cut}-{file}.ndjson\",\"row\":{row}}}\n")).collect();
    for bad in 0..rejected {
        lines.insert((bad * 7 % (rows + 1)) as usize, format!("{{\"row\": {bad}, not JSON\n"));
    }
    lines.concat().into_bytes()
}

fn drop_durably(directory: &Path, name: &str, content: &[u8]) {
    fs::create_dir_all(directory).expect("make the drop directory");
    let (partial, whole) = (directory.join(format!(".{name}.part")), directory.join(name));
    fs::write(&partial, content).expect("write a file");
    File::open(&partial).and_then(|file| file.sync_all()).expect("sync a file");
    fs::rename(&partial, &whole).expect("rename a file");
    File::open(directory).and_then(|directory| directory.sync_all()).expect("sync the drop directory");
}

/// The names of the files in the reasons of a directory.
fn reasons(root: &Path, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(directory)).into_iter().flatten();
    let directories: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    let mut names: Vec<String> = directories
        .iter()
        .map(|directory| {
            let text = fs::read(directory.join("reason.json")).expect("it has a reason");
            let reason: Value = serde_json::from_slice(&text).unwrap_or_else(|error| {
                panic!("{}: {error}: {:?}", directory.display(), String::from_utf8_lossy(&text))
            });
            reason["file"].as_str().expect("the reason names the file").to_owned()
        })
        .collect();
    names.sort_unstable();
    names
}
