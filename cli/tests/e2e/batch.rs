//! Files, from the drop directory to the database.

use bson::{Bson, Document, doc};
use futures::io::AsyncReadExt;
use mongodb::gridfs::GridFsBucket;
use mongodb::options::GridFsBucketOptions;
use mysimbdp_testbed::{mongodb, mosquitto, until};
use serde_json::json;

use crate::support::{LOADED, Platform, SOON, documents, number, objects, readings};

const FIFTY_MB: usize = 50_000_000;

/// Two clients, one whose files are objects and one whose files are documents, with 50 MB each; and every kind of file
/// that must be discarded.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_two_clients_with_fifty_megabytes_each_and_every_kind_of_discarded_file() {
    let mut client2 = documents("client2");
    client2["files"]["file_name_bytes_max"] = json!(30);
    let platform =
        Platform::new(mongodb().url(), mosquitto().url(), json!([objects("client1"), client2])).await;
    let (content, rows) = readings(FIFTY_MB);
    platform.root.drop_file("client1", "year.csv", &content);
    platform.root.drop_file("client2", "year.csv", &content);
    // These files, like the ones above, are dropped before the platform starts.
    platform.root.drop_file("client1", "year.txt", b"wrong extension");
    platform.root.drop_file("client2", "a-name-that-is-longer-than-this-client-may-send.exe", b"two reasons");
    platform.root.drop_file("client2", "huge.csv", &vec![b'x'; 100_000_001]);
    platform.root.drop_file("", "claimed-by-nobody.bin", b"no client's globs match");

    let _fetchdata = platform.start("fetchdata");
    let _batch_manager = platform.start("batch-manager");

    let client1 = &platform.until_ingested("client1", 1, LOADED).await[0];
    assert_eq!(client1.get_str("state").expect("state"), "ingested");
    assert_eq!(
        stored_object(&platform, "client1", "year.csv").await,
        content,
        "the GridFS file is byte-identical"
    );

    let client2 = &platform.until_ingested("client2", 1, LOADED).await[0];
    assert_eq!(number(client2, "received"), rows as i64);
    assert_eq!(number(client2, "stored"), rows as i64);
    assert_eq!(number(client2, "micro_batches"), 6, "blocks of at most 10 MB, the header in front of each");
    assert_eq!(platform.count("client2", "readings").await, rows);
    assert_types(&platform, rows).await;

    assert_all_reasons(&platform);
    assert_duplicate_recognised(&platform, &content);
}

/// A binary file is stored in GridFS in parallel ranges, by one process per range and by workers.
#[tokio::test(flavor = "multi_thread")]
async fn a_binary_file_is_stored_in_ranges() {
    let clients = ["stdin", "worker"].map(|protocol| {
        let mut client = objects(protocol);
        client["micro_batching"] = json!({"block_size": "1MB"});
        client["apps"][0]["unit"] = json!("range");
        client["apps"][0]["protocol"] = json!(protocol);
        client["files"] = json!({"globs": ["*.bin"]});
        client
    });
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!(clients)).await;
    let content: Vec<u8> =
        (0..3_500_000_usize).map(|position| (position / 7 + position * position) as u8).collect();
    let _fetchdata = platform.start("fetchdata");
    let _batch_manager = platform.start("batch-manager");
    for client in ["stdin", "worker"] {
        platform.root.drop_file(client, "year.bin", &content);
        let run = &platform.until_ingested(client, 1, LOADED).await[0];
        assert_eq!((number(run, "received"), number(run, "stored")), (1, 1), "a binary file is one record");
        assert_eq!(number(run, "micro_batches"), 5, "of 3 chunks each");
        assert!(run.get_bool("audited").expect("a flag"));
        assert_eq!(stored_object(&platform, client, "year.bin").await, content);
    }
}

async fn stored_object(platform: &Platform, client: &str, name: &str) -> Vec<u8> {
    let options = GridFsBucketOptions::builder().bucket_name("files".to_owned()).build();
    let bucket: GridFsBucket = platform.client_database(client).gridfs_bucket(options);
    let mut stream = bucket.open_download_stream_by_name(name).await.expect("the file exists");
    let mut content = Vec::new();
    stream.read_to_end(&mut content).await.expect("read the file back");
    content
}

/// Numbers are numbers, `NA` is null, a declared date is a date.
async fn assert_types(platform: &Platform, rows: u64) {
    let readings = platform.client_database("client2").collection::<Document>("readings");
    let filter = doc! {"visib": (rows - 1) as i64};
    let last = readings.find_one(filter).await.expect("ask").expect("the last row is stored");
    assert_eq!(last.get_str("origin").expect("text"), ["EWR", "JFK", "LGA"][(rows - 1) as usize % 3]);
    assert_eq!(number(&last, "year"), 2013);
    assert!(matches!(last.get("temp"), Some(Bson::Double(_))), "{last}");
    assert!(matches!(last.get("time_hour"), Some(Bson::DateTime(_))), "{last}");
    for field in ["origin", "year", "temp", "visib", "time_hour"] {
        let missing = readings.count_documents(doc! {field: Bson::Null}).await.expect("count");
        assert_eq!(missing, 0, "{field}");
    }
    let without_gust = readings.count_documents(doc! {"wind_gust": Bson::Null}).await.expect("count");
    assert_eq!(without_gust, rows.div_ceil(4), "every fourth is NA");
}

fn assert_all_reasons(platform: &Platform) {
    let reasons = |client: &str| -> Vec<String> {
        let discarded = platform.root.reasons("discarded", client);
        discarded.iter().map(|reason| format!("{} {}", reason["file"], reason["reasons"])).collect()
    };
    until(SOON, "every invalid file is discarded", || {
        [("client1", 1), ("client2", 2), ("_unrouted", 1)]
            .iter()
            .all(|(client, count)| reasons(client).len() == *count)
    });
    let all = [reasons("client1"), reasons("client2"), reasons("_unrouted")].concat();
    let discarded =
        |file: &str| all.iter().find(|line| line.contains(file)).unwrap_or_else(|| panic!("{file}: {all:?}"));
    assert!(discarded("year.txt").contains("txt"), "{all:?}");
    let long = discarded("a-name-that-is");
    assert!(long.contains("exe") && long.contains("30"), "both reasons: {long}");
    assert!(discarded("huge.csv").contains("100"), "{all:?}");
    discarded("claimed-by-nobody.bin");
}

fn assert_duplicate_recognised(platform: &Platform, content: &[u8]) {
    platform.root.drop_file("client2", "again.csv", content);
    until(SOON, "the copy is discarded", || {
        let discarded = platform.root.reasons("discarded", "client2");
        let again = discarded.iter().find(|reason| reason["file"] == "again.csv");
        again.is_some_and(|reason| reason["reasons"].to_string().contains("year.csv"))
    });
}

/// Every row is stored once, although batch-manager was killed in the middle of the load.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_kill_9_of_batch_manager_in_the_middle_of_fifty_megabytes() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([documents("client2")])).await;
    let (content, rows) = readings(FIFTY_MB);
    let _fetchdata = platform.start("fetchdata");
    let mut batch_manager = platform.start("batch-manager");
    platform.root.drop_file("client2", "year.csv", &content);
    let half_way = async || platform.count("client2", "readings").await > rows / 3;
    mysimbdp_testbed::until_async(LOADED, "a third is stored", half_way).await;
    batch_manager.kill9();
    assert!(platform.history("client2").await.is_empty(), "killed before the end");

    let _batch_manager = platform.start("batch-manager");
    let run = &platform.until_ingested("client2", 1, LOADED).await[0];
    assert_eq!((number(run, "received"), number(run, "stored")), (rows as i64, rows as i64));
    assert_eq!(
        (number(run, "duplicates"), number(run, "rejected")),
        (0, 0),
        "what the killed run stored counts as stored"
    );
    assert_eq!(platform.count("client2", "readings").await, rows);
    assert!(
        platform.root.list("staging/client2").is_empty() && platform.root.list("held/client2").is_empty()
    );
}
