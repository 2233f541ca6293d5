//! Hostile files: they change while they are processed, pretend to be something else, or try to fill the memory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bson::{Bson, Document, doc};
use mysimbdp_store::Coredms;
use mysimbdp_store::rejected::RejectedBytes;
use mysimbdp_testbed::{
    Daemon, MEMORY_KIB_MAX, Root, binary, canonical, memory_peak_kib, mongodb, mosquitto, unique, until,
    until_async,
};
use serde_json::{Value, json};

use crate::support::{LOADED, SOON};

/// A batch platform on one of the stores, without a broker, as files need none.
struct BatchPlatform {
    root: Root,
    store: String,
    database: String,
}

impl BatchPlatform {
    fn new(store: &str, clients: Value, changes: Value) -> Self {
        let database = unique("hostile");
        let mut config = json!({
            "coredms": {"database": database},
            "fetchdata": {"settle": "100ms", "scan_every": "1s"},
            "batch_manager": {"scan_every": "200ms", "backoff_first": "100ms", "backoff_max": "1s"},
            "clients": clients,
        });
        if store != "embedded" {
            config["coredms"]["url"] = json!(store);
        }
        for (section, settings) in changes.as_object().expect("an object") {
            config[section] = settings.clone();
        }
        let root = Root::new(&config);
        let embedded = format!("sqlite:{}", root.path().join("state/coredms").display());
        let store = if store == "embedded" { embedded } else { store.to_owned() };
        Self { root, store, database }
    }

    fn start(&self, kind: &str) -> Daemon {
        Daemon::start(&self.root, &[kind], &[])
    }

    async fn open(&self, client: &str) -> std::sync::Arc<dyn Coredms> {
        mysimbdp_store::open(&self.store, &format!("{}_{client}", self.database))
            .await
            .expect("the store opens")
    }

    async fn find(&self, client: &str, collection: &str) -> Vec<Document> {
        self.open(client).await.find(collection, doc! {}, 100_000).await.expect("documents")
    }

    /// The history of a client.
    async fn runs(&self, client: &str) -> Vec<Document> {
        let platform = mysimbdp_store::open(&self.store, &self.database).await.expect("the store opens");
        platform.find("ingestions", doc! {"client": client}, 1_000).await.expect("the history")
    }

    async fn until_runs(&self, client: &str, count: usize) -> Vec<Document> {
        let what = format!("{count} files of {client} have ended");
        until_async(LOADED, &what, async || self.runs(client).await.len() >= count).await;
        self.runs(client).await
    }

    async fn until_discarded(&self, client: &str, count: usize) -> Vec<Value> {
        let reasons = || self.root.reasons("discarded", client);
        until(LOADED, &format!("{count} files of {client} are discarded"), || reasons().len() >= count);
        reasons()
    }
}

fn client(id: &str, block_size: Option<&str>, app: Value) -> Value {
    let mut settings = json!({
        "name": "documents", "command": ["document-app"], "collection": "records", "protocol": "worker",
        "rejects_max": "100%",
    });
    for (name, value) in app.as_object().expect("an object") {
        settings[name] = value.clone();
    }
    let mut client = json!({"id": id, "apps": [settings]});
    if let Some(size) = block_size {
        client["micro_batching"] = json!({"block_size": size});
    }
    client
}

fn number(value: Option<&Bson>) -> i64 {
    match value {
        Some(Bson::Int32(number)) => i64::from(*number),
        Some(Bson::Int64(number)) => *number,
        other => panic!("{other:?} is not an integer"),
    }
}

/// The records of a file in the store, by record number: the fields of stored ones, and the reasons of rejected ones.
#[derive(Debug, Default, PartialEq)]
struct Records {
    stored: BTreeMap<u64, String>,
    rejected: BTreeMap<u64, String>,
}

/// The records of each file of a client, by the file's name.
async fn records(platform: &BatchPlatform, client: &str) -> BTreeMap<String, Records> {
    let mut files = BTreeMap::new();
    let mut names = BTreeMap::new();
    for run in platform.runs(client).await {
        assert_eq!(run.get_str("state").ok(), Some("ingested"), "{run}");
        let name = run.get_str("file").expect("a name").to_owned();
        names.insert(run.get_str("ingestion").expect("an id")[..16].to_owned(), name.clone());
        files.insert(name, Records::default());
    }
    let position = |id: &Bson| match id {
        Bson::Binary(id) => {
            let ingestion: String = id.bytes[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            (names[&ingestion].clone(), u64::from_be_bytes(id.bytes[8..].try_into().expect("16 bytes")))
        }
        other => panic!("the _id is {other:?}"),
    };
    for mut document in platform.find(client, "records").await {
        let (file, record) = position(&document.remove("_id").expect("an _id"));
        files.get_mut(&file).expect("a file").stored.insert(record, canonical(document));
    }
    for document in platform.find(client, "rejected").await {
        let (file, record) = position(&document["_id"]);
        assert_eq!(number(document.get("record")) as u64, record);
        let reason = document.get_str("reason").expect("a reason").to_owned();
        assert_ne!(RejectedBytes::of(&document, "content"), RejectedBytes::NotKept, "{document}");
        files.get_mut(&file).expect("a file").rejected.insert(record, reason);
    }
    for run in platform.runs(client).await {
        let records = &files[run.get_str("file").expect("a name")];
        let counts =
            ["received", "stored", "duplicates", "rejected"].map(|name| number(run.get(name)) as usize);
        let (stored, rejected) = (records.stored.len(), records.rejected.len());
        assert_eq!(counts, [stored + rejected, stored, 0, rejected], "{run}");
    }
    files
}

/// Pseudo-random, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len() as u64) as usize]
    }
}

/// Generated files of every text format, made of pieces that could confuse a splitter.
fn generated() -> Vec<(String, Vec<u8>)> {
    let mut dice = Dice(20_261_121);
    let mut files = Vec::new();
    for number in 0..4 {
        let (mut csv, mut ndjson, mut json) = (format!("{number},b\n"), String::new(), String::from("["));
        for row in 0..80 {
            csv += &format!("{row}");
            for _ in 0..dice.roll(8) {
                csv += dice.pick(&[",", "5\"", "\n", "\r\n", "\r", ",\"x\n\"\"\",", "ä€", " "]);
            }
            csv += "\n";
            ndjson += &format!("{{\"row\":{row},\"t\":\"");
            for _ in 0..dice.roll(8) {
                ndjson += dice.pick(&["\\n", "\\\"", "}", "ä€", "\u{b}", "x", "\\", "[,"]);
            }
            ndjson += dice.pick(&["\"}\n", "\"}\r\n", "\n", "\"}\n\n \t\n"]);
            json += if row == 0 { "" } else { dice.pick(&[",", " ,\n", "\t,\r\n "]) };
            json += &format!("{{\"row\":{row},\"t\":[\"");
            for _ in 0..dice.roll(8) {
                json += dice.pick(&["]", "}", ",", "\\\"", "\\\\", "ä€", "\n", "[{"]);
            }
            json += dice.pick(&["\"]}", "\",{}]}", "\"],\"t\":1}", "\"]} x"]);
        }
        json += "]\n";
        let kinds = [("csv", csv), ("ndjson", ndjson), ("json", json)];
        files.extend(kinds.map(|(kind, text)| (format!("generated-{number}.{kind}"), text.into_bytes())));
    }
    files
}

/// Files that are split into the smallest micro-batches have exactly the same result as files that are not split.
async fn corpus(store: &str) {
    let clients =
        json!([client("split", Some("20B"), json!({})), client("whole", None, json!({"protocol": "stdin"}))]);
    let platform = BatchPlatform::new(store, clients, json!({}));
    let samples = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/hostile"));
    let table = fs::read(samples.join("files.json")).expect("the table of hostile files");
    let table: Vec<Value> = serde_json::from_slice(&table).expect("a JSON array");
    let name = |entry: &Value| entry["file"].as_str().expect("a name").to_owned();
    let generated = generated();
    for client in ["split", "whole"] {
        for entry in &table {
            let content = fs::read(samples.join("files").join(name(entry))).expect("a file of the corpus");
            platform.root.drop_file(client, &name(entry), &content);
        }
        for (name, content) in &generated {
            platform.root.drop_file(client, name, content);
        }
    }
    let (_fetchdata, _batch_manager) = (platform.start("fetchdata"), platform.start("batch-manager"));
    let discarded = table.iter().filter(|entry| entry["discarded"].is_string()).count();
    let mut of_generated = Vec::new();
    for client in ["split", "whole"] {
        let files = table.len() + generated.len();
        let ended = async || {
            platform.runs(client).await.len() + platform.root.reasons("discarded", client).len() == files
        };
        until_async(LOADED, &format!("all files of {client} have ended"), ended).await;
        let reasons = platform.root.reasons("discarded", client);
        let of_corpus =
            |reason: &&Value| !reason["file"].as_str().is_some_and(|file| file.starts_with("generated"));
        assert_eq!(reasons.iter().filter(of_corpus).count(), discarded, "{reasons:#?}");
        let files = records(&platform, client).await;
        for entry in &table {
            let file = name(entry);
            match entry["discarded"].as_str() {
                Some(expected) => {
                    let found = reasons.iter().find(|reason| reason["file"] == file);
                    assert_eq!(found.map(|found| &found["reasons"]), Some(&json!([expected])), "{file}");
                }
                None => {
                    check(entry, files.get(&file).unwrap_or_else(|| panic!("{file} is not ingested")), client)
                }
            }
        }
        let mut own: Vec<String> = files
            .iter()
            .filter(|(file, _)| file.starts_with("generated"))
            .map(|file| format!("{file:?}"))
            .collect();
        own.extend(
            reasons
                .iter()
                .filter(|reason| !of_corpus(reason))
                .map(|reason| format!("{} {}", reason["file"], reason["reasons"])),
        );
        own.sort_unstable();
        of_generated.push(own);
    }
    assert!(
        of_generated[0] == of_generated[1],
        "split: {:#?}\nwhole: {:#?}",
        of_generated[0],
        of_generated[1]
    );
    assert_eq!(of_generated[0].len(), generated.len());
}

fn check(entry: &Value, found: &Records, client: &str) {
    let pairs = |key: &str| entry[key].as_array().cloned().unwrap_or_default();
    let expected: BTreeMap<u64, String> = pairs("stored")
        .into_iter()
        .map(|pair| {
            let fields = Bson::try_from(pair[1].clone()).expect("the table has plain JSON");
            let fields = fields.as_document().expect("an object").clone();
            (pair[0].as_u64().expect("a number"), canonical(fields))
        })
        .collect();
    assert_eq!(found.stored, expected, "{} of {client}", entry["file"]);
    let rejected = pairs("rejected");
    assert_eq!(found.rejected.len(), rejected.len(), "{} of {client}: {found:?}", entry["file"]);
    for pair in rejected {
        let reason = &found.rejected[&pair[0].as_u64().expect("a number")];
        assert!(
            reason.contains(pair[1].as_str().expect("a reason")),
            "{} of {client}: {reason}",
            entry["file"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_has_the_results_of_its_table_whether_split_or_whole_on_mongodb() {
    corpus(mongodb().url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_has_the_results_of_its_table_whether_split_or_whole_on_the_embedded_store() {
    corpus("embedded").await;
}

/// Writes at offset `SEEK` of the inode that `link.csv` names, too.
const THROUGH_A_DESCRIPTOR: &str =
    "exec 3<>link.csv; printf 7 | dd of=link.csv bs=1 seek=$SEEK conv=notrunc 2>&1";
const THROUGH_A_MAP: &str = "python3 -c '
import mmap, os
file = open(\"link.csv\", \"r+b\")
view = mmap.mmap(file.fileno(), 0)
file.close()
at = int(os.environ[\"SEEK\"])
view[at:at + 1] = b\"7\"
view.close()
'";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_overwritten_after_it_was_staged_is_held_and_what_was_stored_before_is_accounted_for()
{
    for (way, batch, stored) in
        [(THROUGH_A_DESCRIPTOR, "0", 10), (THROUGH_A_MAP, "0", 10), (THROUGH_A_DESCRIPTOR, "1", 20)]
    {
        // After this batch has been stored, the app overwrites the last byte but one of the file.
        let app = binary("document-app");
        let script = format!(
            "\"{}\"; code=$?\nif [ \"$MYSIMBDP_BATCH_INDEX\" = {batch} ]; then\n{way}\nfi >&2\nexit $code\n",
            app.display()
        );
        let rows: String = (0..20).map(|row| format!("{row:03}\n")).collect();
        let content = format!("n\n{rows}");
        let changes = json!({
            "command": ["sh", "app.sh"], "protocol": "stdin", "ordered": true,
            "env": {"SEEK": (content.len() - 2).to_string()},
        });
        let platform =
            BatchPlatform::new(mongodb().url(), json!([client("client1", Some("40B"), changes)]), json!({}));
        fs::write(platform.root.path().join("app.sh"), script).expect("write the app");
        let _fetchdata = platform.start("fetchdata");
        let dropped = platform.root.drop_file("client1", ".a.csv.part", content.as_bytes());
        // Two names of one inode: whoever has the other name can continue to write.
        fs::hard_link(&dropped, platform.root.path().join("link.csv")).expect("hard link");
        fs::rename(&dropped, dropped.with_file_name("a.csv")).expect("drop");
        until(SOON, "the file is staged", || platform.root.list("staging/client1").len() == 1);
        let _batch_manager = platform.start("batch-manager");
        let run = platform.until_runs("client1", 1).await.remove(0);
        assert_eq!(run.get_str("state").ok(), Some("held"), "{run}");
        let reason = platform.root.reasons("held", "client1").remove(0)["reasons"].to_string();
        assert!(reason.contains("changed after it was staged"), "{reason}");
        let counts = ["received", "stored", "duplicates", "rejected"].map(|name| number(run.get(name)));
        assert_eq!(counts, [stored, stored, 0, 0], "{run}");
        assert_eq!(platform.find("client1", "records").await.len() as i64, stored);
        let status = Daemon::run(&platform.root, &["status"], &[]);
        assert!(String::from_utf8_lossy(&status.stdout).contains("changed after it was staged"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_about_a_hostile_name_is_one_line_and_adds_no_timing() {
    // This client allows any name that has no slash.
    let mut open = client("open", None, json!({}));
    open["files"] = json!({"file_name_bytes_max": 255});
    open["receipt"] = json!(true);
    let rules = json!({"rules": {"file_name_pattern": "(?s).*", "file_name_bytes_max": 255}});
    let platform = BatchPlatform::new("embedded", json!([open]), rules);
    let invalid = " TIMING stage=whole client=victim bytes=1 records=1 seconds=9 ";
    let longest = format!("{}.csv", "n".repeat(251));
    let taken: [&[u8]; 6] = [
        format!("x\n2026-01-01T00:00:00Z INFO fetchdata:{invalid}.csv").leak().as_bytes(),
        format!("x{invalid}.csv").leak().as_bytes(),
        "x\u{1b}]0;owned\u{7}\u{1b}[2J.csv".as_bytes(),
        "x\u{202e}vsc.csv".as_bytes(),
        b"-rf $(reboot) `id` ;&|<> \"'.csv",
        longest.as_bytes(),
    ];
    let refused: [&[u8]; 2] = [b"not-utf8-\xff\x1b[2J\xc3.csv", b"\xe2\x80\xa8\xf0.csv"];
    let directory = platform.root.drop_file("open", ".first.part", b"").with_file_name("");
    for (number, name) in taken.iter().chain(&refused).enumerate() {
        fs::write(directory.join(OsStr::from_bytes(name)), format!("a\n{number}\n")).expect("file");
    }
    let (mut fetchdata, mut batch_manager) = (platform.start("fetchdata"), platform.start("batch-manager"));
    let runs = platform.until_runs("open", taken.len()).await;
    let reasons = platform.until_discarded("open", refused.len()).await;
    assert!(reasons.iter().all(|reason| reason["reasons"][0] == "name is not UTF-8"), "{reasons:?}");
    for name in taken {
        let name = str::from_utf8(name).expect("text");
        assert!(
            runs.iter().any(|run| run.get_str("file").is_ok_and(|file| file == name)),
            "{name:?}: {runs:?}"
        );
    }
    until(SOON, "nothing is left in staging", || platform.root.list("staging/open").is_empty());
    let status = String::from_utf8(Daemon::run(&platform.root, &["status"], &[]).stdout).expect("text");
    assert!(!status.contains(|letter: char| letter.is_control() && letter != '\n'), "{status:?}");
    fetchdata.terminate();
    batch_manager.terminate();

    for kind in ["fetchdata", "batch-manager"] {
        let log = platform.root.log(&format!("{kind}.log"));
        for line in log.lines() {
            let mut words = line.splitn(4, ' ');
            let time = words.next().and_then(|word| word.parse::<jiff::Timestamp>().ok());
            let level = words.next().is_some_and(|word| ["INFO", "WARN", "ERROR"].contains(&word));
            assert!(time.is_some() && level && words.next() == Some(&format!("{kind}:")), "{line:?}");
            assert!(!line.contains(|letter: char| letter.is_control() || letter == '\u{202e}'), "{line:?}");
        }
        let lines =
            |event: &str| log.lines().filter(|line| line.contains(&format!(" {kind}: {event} "))).count();
        if kind == "fetchdata" {
            assert_eq!((lines("staged"), lines("discarded")), (taken.len(), refused.len()), "{log}");
        }
    }
    let timing = Daemon::run(&platform.root, &["timing", "--json"], &[]);
    let rows: Vec<Value> = serde_json::from_slice(&timing.stdout).expect("JSON");
    assert!(rows.iter().all(|row| row["client"] == "open"), "{rows:#?}");
    for stage in ["split", "stage", "ingest", "whole"] {
        let found = rows.iter().find(|row| row["stage"] == stage).expect("each stage is timed");
        assert_eq!(found["count"], taken.len(), "{stage}");
    }
}

/// Writes `front`, about `bytes` bytes of repeated `piece`, and `behind`.
fn write_flood(path: &Path, front: &[u8], piece: &[u8], bytes: usize, behind: &[u8]) {
    let mut file = fs::File::create(path).expect("new file");
    file.write_all(front).expect("write");
    let block = piece.repeat((1 << 20) / piece.len());
    for _ in 0..bytes / block.len() {
        file.write_all(&block).expect("write");
    }
    file.write_all(behind).expect("write");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_endless_records_take_no_process_over_its_memory_limit() {
    const BYTES: usize = 300_000_000;
    let rules = json!({"rules": {"file_bytes_max": "1GB"}});
    let clients = json!([
        client("client1", Some("1kB"), json!({"files": ["*.ndjson"]})),
        client("client2", Some("10B"), json!({}))
    ]);
    let platform = BatchPlatform::new("embedded", clients, rules);
    let (fetchdata, batch_manager) = (platform.start("fetchdata"), platform.start("batch-manager"));
    let outside = |name: &str| platform.root.path().join(name);
    let drop = |client: &str, name: &str| {
        let directory = platform.root.drop_directory(client);
        until(SOON, "the drop directory exists", || directory.is_dir());
        fs::rename(outside(name), directory.join(name)).expect("drop");
    };
    // Ingested except for one record: the long line passes through all processes.
    write_flood(&outside("line.ndjson"), b"{\"a\":1}\n{\"a\":\"", b"x", BYTES, b"\"}\n{\"a\":2}\n");
    drop("client1", "line.ndjson");
    let run = platform.until_runs("client1", 1).await.remove(0);
    assert_eq!((number(run.get("received")), number(run.get("rejected"))), (3, 1), "{run}");

    // These are refused as a whole.
    let mut refused = Vec::new();
    for (name, front, piece, bytes, behind, reason) in [
        (
            "quote.csv",
            &b"a\n1\n\""[..],
            &b"2\n"[..],
            BYTES,
            &b""[..],
            "the quoted field that begins at line 3 is never closed",
        ),
        ("columns.csv", b"", b"c,", 20_000_000, b"c\n1\n", "header line is larger than 1048576 bytes"),
        (
            "deep.json",
            b"[",
            b"[",
            20_000_000,
            b"",
            "element 0 is nested deeper than 1000 levels, at byte 1001",
        ),
        ("string.json", b"[\"", b"x", BYTES, b"", "is not a complete JSON array: it ends within element 0"),
        // As gzip writes it: not text, and never unpacked.
        (
            "bomb.csv",
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03",
            b"\xec\xc1\x01\x01",
            20_000_000,
            b"",
            "line 1 has a NUL byte",
        ),
    ] {
        write_flood(&outside(name), front, piece, bytes, behind);
        drop("client2", name);
        refused.push((name, reason));
        platform.until_discarded("client2", refused.len()).await;
    }
    let reasons = platform.root.reasons("discarded", "client2");
    for (name, expected) in refused {
        let found = reasons.iter().find(|reason| reason["file"] == name).expect("discarded");
        assert_eq!(found["reasons"][0], expected, "{name}");
    }
    for (kind, process) in [("fetchdata", &fetchdata), ("batch-manager", &batch_manager)] {
        let used = memory_peak_kib(process.pid());
        assert!(used < MEMORY_KIB_MAX, "{kind} used {used} KiB");
    }
}

/// A file in which nearly every record is a micro-batch of its own.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_the_largest_number_of_micro_batches_takes_no_process_over_its_memory_limit() {
    let platform = BatchPlatform::new(
        "embedded",
        json!([client("client1", Some("1B"), json!({"protocol": "worker"}))]),
        json!({}),
    );
    platform.root.drop_file("client1", "many.ndjson", &b"1\n".repeat(2_000_000));
    let fetchdata = platform.start("fetchdata");
    until(LOADED, "the file is staged", || platform.root.list("staging/client1").len() == 1);
    let batch_manager = platform.start("batch-manager");
    let staged = platform.root.path().join("staging/client1").join(&platform.root.list("staging/client1")[0]);
    until(LOADED, "units are done", || {
        fs::read_dir(staged.join("outcomes")).is_ok_and(|done| done.count() > 100)
    });
    for (kind, process) in [("fetchdata", &fetchdata), ("batch-manager", &batch_manager)] {
        let used = memory_peak_kib(process.pid());
        assert!(used < MEMORY_KIB_MAX, "{kind} used {used} KiB");
    }
}

/// Invalid staged notifications: about nothing, about other clients, or endless ones.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_staged_notifications_are_counted_logged_once_per_burst_and_wake_nobody() {
    let changes = json!({
        "broker": {"url": mosquitto().url(), "topic_prefix": unique("bells")},
        "batch_manager": {"scan_every": "2s"},
    });
    let prefix = changes["broker"]["topic_prefix"].as_str().expect("text").to_owned();
    let platform = BatchPlatform::new(
        "embedded",
        json!([client("client1", None, json!({})), client("client2", None, json!({}))]),
        changes,
    );
    let batch_manager = platform.start("batch-manager");
    let listens = || platform.root.log("batch-manager.log").contains("connected");
    until(SOON, "it listens", listens);
    let topic = format!("{prefix}/batch/staged/client1");
    let staged = |client: &str, manifest: &str| {
        json!({"version": 1, "client_id": client, "ingestion": "0".repeat(32), "manifest": manifest,
               "micro_batches": 4_294_967_295_u32, "bytes": u64::MAX, "lane": "live"})
        .to_string()
    };
    let huge = "x".repeat(8_000_000);
    let mut lines = vec![
        staged("client2", "staging/client2/x/manifest.json"),
        staged("../../etc", "/etc/passwd"),
        "nobody".to_owned(),
        "#".to_owned(),
        "{}".to_owned(),
        "[".repeat(50_000),
        "\u{1b}[2J TIMING".to_owned(),
        huge,
    ];
    // Some of these are well-formed, but name nothing that is staged.
    lines.extend(
        (0..10_000)
            .map(|n| if n % 2 == 0 { staged("client1", "/etc/passwd") } else { format!("forged-{n}") }),
    );
    let started = std::time::Instant::now();
    mysimbdp_testbed::mqtt::publish(mosquitto().url(), &topic, &format!("{}\n", lines.join("\n")));
    let took = started.elapsed();
    // It still does its work without delay.
    platform.root.drop_file("client1", "real.ndjson", b"{\"a\":1}\n");
    let _fetchdata = platform.start("fetchdata");
    let run = platform.until_runs("client1", 1).await.remove(0);
    assert_eq!(number(run.get("stored")), 1);
    let used = memory_peak_kib(batch_manager.pid());
    assert!(used < MEMORY_KIB_MAX, "batch-manager used {used} KiB");
    let log = platform.root.log("batch-manager.log");
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("refused")).collect();
    // One for the first message, and one for each full scan, which counts the others.
    let scans = took.as_secs() / 2 + 10;
    assert!(
        (1..=2 * scans as usize).contains(&refused.len()),
        "{} lines in {took:?}: {refused:#?}",
        refused.len()
    );
    assert!(refused.iter().all(|line| line.len() < 10_000), "lines are short");
    until(SOON, "unreported ones are counted", || {
        platform.root.log("batch-manager.log").contains("refused more messages")
    });
}
