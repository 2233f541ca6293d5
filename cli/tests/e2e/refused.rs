//! Nothing that is refused is thrown away: rejected records and messages are kept with their bytes, so that they can be
//! repaired.

use std::fs;
use std::path::PathBuf;

use bson::{Document, doc};
use mysimbdp_testbed::{Daemon, mongodb, mosquitto, until_async};
use serde_json::{Value, json};

use crate::support::{Platform, SOON, documents};

/// A platform for files whose column `time` must hold times.
async fn platform() -> (Platform, Vec<Daemon>) {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([times()])).await;
    let daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    (platform, daemons.into())
}

fn times() -> Value {
    let mut client = documents("times");
    client["micro_batching"] = json!({"block_size": "100B"});
    client["apps"][0]["command"] = json!(["document-app", "--type", "time=date"]);
    client
}

fn file(platform: &Platform, name: &str, content: &[u8]) -> PathBuf {
    let path = platform.root.path().join(name);
    fs::write(&path, content).expect("write a file");
    path
}

/// Drops a file and waits for its outcome; the exit code must be `code`.
fn drop_file(platform: &Platform, code: i32, name: &str, content: &[u8]) -> String {
    let path = file(platform, name, content);
    platform.command(code, &["drop", "times", path.to_str().expect("UTF-8"), "--wait"])
}

/// The id of the ingestion in the output about a file.
fn ingestion(printed: &str) -> String {
    let (_, id) = printed.split_once("mysimbdp rejected ").unwrap_or_else(|| panic!("{printed}"));
    id[..32].to_owned()
}

/// What the command prints, byte for byte.
fn exported(platform: &Platform, words: &[&str]) -> Vec<u8> {
    let output = Daemon::run(&platform.root, words, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_records_of_a_file_are_shown_exported_repaired_and_dropped_again() {
    let (platform, _daemons) = platform().await;
    let mut rows: Vec<String> = (0..40).map(|row| format!("{row},2013-01-01T00:00:00Z")).collect();
    rows[7] = "\"seven\r\n, 7\",not yet".to_owned();
    rows[39] = "39,\"\"\"never\"\"\"".to_owned();
    let content = format!("name,time\r\n{}", rows.join("\r\n"));
    let printed = drop_file(&platform, 65, "times.csv", content.as_bytes());
    assert!(printed.contains("stored 38, duplicates 0, rejected 2"), "{printed}");
    let id = ingestion(&printed);
    let log = platform.root.log("batch-manager.log");
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&id)), "{log}");

    let shown = platform.command(0, &["rejected", &id]);
    for part in ["record 7: ", "record 39: ", "not yet", "seven\\r\\n, 7", "never"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let rejected = exported(&platform, &["rejected", &id, "--csv"]);
    assert_eq!(String::from_utf8_lossy(&rejected), format!("name,time\r\n{}\n{}\n", rows[7], rows[39]));
    let repaired = String::from_utf8(rejected).expect("text").replace("not yet", "2014-01-01T00:00:00Z");
    let repaired = repaired.replace("\"\"never\"\"", "2015-01-01T00:00:00Z");
    assert!(drop_file(&platform, 0, "repaired.csv", repaired.as_bytes()).contains("stored 2"));
    assert_eq!(platform.count("times", "readings").await, 40);
    platform.command(0, &["reconcile"]);
    platform.command(66, &["rejected", &"0".repeat(32)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_lines_and_elements_are_exported_in_the_format_of_their_file() {
    let (platform, _daemons) = platform().await;
    let good: Vec<String> = (0..20).map(|row| format!("{{\"row\":{row}}}")).collect();
    let ndjson = format!("{}\n{{\"row\": 20, \n\n[21]\n", good.join("\n"));
    let id = ingestion(&drop_file(&platform, 65, "a.ndjson", ndjson.as_bytes()));
    assert_eq!(exported(&platform, &["rejected", &id, "--ndjson"]), b"{\"row\": 20, \n[21]\n");
    let json = format!("[ {} , \"]\" ,\n{{\"$a\":\"\u{e4}\"}} ]", good.join(",\n"));
    let id = ingestion(&drop_file(&platform, 65, "a.json", json.as_bytes()));
    let exported = exported(&platform, &["rejected", &id, "--content"]);
    let exported: Value = serde_json::from_slice(&exported).expect("an array");
    assert_eq!(exported, json!(["]", {"$a": "\u{e4}"}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_rejected_as_a_whole_is_held_with_every_row_until_its_app_is_repaired() {
    let (platform, mut daemons) = platform().await;
    let rows: String = (0..569).map(|row| format!("{row},{row} o'clock\n")).collect();
    let content = format!("name,time\n{rows}");
    let printed = drop_file(&platform, 65, "all.csv", content.as_bytes());
    assert!(printed.contains("held: 569 of 569 records were rejected, the limit is 56"), "{printed}");
    let id = ingestion(&printed);
    assert_eq!(exported(&platform, &["rejected", &id, "--csv"]), content.as_bytes());
    assert!(platform.command(0, &["rejected", &id]).contains("record 568: "));
    assert_eq!(platform.count("times", "readings").await, 0);
    assert_eq!(platform.count("times", "rejected").await, 0);
    platform.command(0, &["reconcile"]);

    assert!(daemons.remove(1).terminate().success());
    platform.configure(|config| config["clients"][0]["apps"][0]["command"] = json!(["document-app"]));
    platform.command(0, &["retry", &id]);
    let _batch_manager = platform.start("batch-manager");
    let ingested = async || {
        let runs = platform.history("times").await;
        runs.iter().any(|run: &Document| run.get_str("state").is_ok_and(|state| state == "ingested"))
    };
    until_async(SOON, "it is ingested", ingested).await;
    platform.until_stored("times", "readings", 569, SOON).await;
    platform.command(0, &["reconcile"]);
    let found = platform.client_database("times").collection::<Document>("readings");
    assert!(found.find_one(doc! {"time": "568 o'clock"}).await.expect("find").is_some());
}

/// The command used to say that no record was rejected.
#[tokio::test(flavor = "multi_thread")]
async fn rejects_that_cannot_be_shown_are_reported_with_the_reason() {
    let (platform, mut daemons) = platform().await;
    let rows: String = (0..20).map(|row| format!("{row},{row} o'clock\n")).collect();
    let printed = drop_file(&platform, 65, "all.csv", format!("name,time\n{rows}").as_bytes());
    let id = ingestion(&printed);
    let held_at = async || {
        platform.history("times").await.first().and_then(|run| run.get_datetime("finished_at").ok().copied())
    };
    until_async(SOON, "the history says so", async || held_at().await.is_some()).await;
    let first = held_at().await;
    // Nothing processes the file that is staged again.
    assert!(daemons.remove(1).terminate().success());
    platform.command(0, &["retry", &id]);
    for words in [&["rejected", &id][..], &["rejected", &id, "--csv"]] {
        let output = Daemon::run(&platform.root, words, &[]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{error}");
        assert!(error.contains("is being ingested") && output.stdout.is_empty(), "{error}");
    }
    daemons.push(platform.start("batch-manager"));
    until_async(SOON, "it is held again", async || held_at().await != first).await;
    platform.command(0, &["purge", "--held", "--older-than", "1ms"]);
    let printed = platform.command(66, &["rejected", &id]);
    assert!(printed.contains("was purged"), "{printed}");
    let reconciled: Value =
        serde_json::from_slice(&exported(&platform, &["reconcile", "--json"])).expect("the report is JSON");
    assert_eq!(reconciled["runs"][0]["verdict"], "purged", "{reconciled:#}");

    let mut rows: Vec<String> = (0..40).map(|row| format!("{row},2013-01-01T00:00:00Z")).collect();
    (rows[7], rows[8]) = ("7,never".to_owned(), "8,never".to_owned());
    let content = format!("name,time\n{}\n", rows.join("\n"));
    let id = ingestion(&drop_file(&platform, 65, "some.csv", content.as_bytes()));
    let rejected = platform.client_database("times").collection::<Document>("rejected");
    for left in ["1", "none"] {
        rejected.delete_one(doc! {}).await.expect("delete");
        let printed = platform.command(65, &["rejected", &id]);
        let expected = format!("2 records were rejected, but the collection rejected has {left} of them");
        assert!(printed.contains(&expected), "{printed}");
    }
}
