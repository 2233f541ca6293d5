//! The values of a file are stored as they are, on a real mongod: no value is changed, and none is guessed.

use std::collections::{BTreeMap, HashMap};

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use mysimbdp_testbed::{mongodb, mosquitto, until};
use serde_json::{Value, json};

use crate::support::{LOADED, Platform, SOON, documents, objects};

/// A client whose files are split after almost every row.
fn client(id: &str, encoding: &str, arguments: &[&str]) -> Value {
    let mut client = documents(id);
    let command: Vec<&str> = ["document-app"].iter().chain(arguments).copied().collect();
    client["apps"][0]["command"] = json!(command);
    // These files have few rows, and must not be held for their share of rejects.
    client["apps"][0]["rejects_max"] = json!("100%");
    client["files"]["encoding"] = json!(encoding);
    client["micro_batching"]["block_size"] = json!("40B");
    client
}

/// The documents of each of the client's files, in the order of their rows.
async fn rows(platform: &Platform, client: &str) -> BTreeMap<String, Vec<Document>> {
    let mut files = BTreeMap::new();
    let records = platform.client_database(client).collection::<Document>("readings");
    for run in platform.history(client).await {
        let id = run.get_str("ingestion").expect("an ingestion");
        let id: Vec<u8> =
            (0..16).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).expect("hex")).collect();
        let bound = |last: u8| {
            Bson::Binary(bson::Binary {
                subtype: bson::spec::BinarySubtype::Generic,
                bytes: [&id[..], &[last; 8]].concat(),
            })
        };
        let filter = doc! {"_id": {"$gte": bound(0), "$lte": bound(255)}};
        let mut found: Vec<Document> = records
            .find(filter)
            .sort(doc! {"_id": 1})
            .await
            .expect("read the records")
            .try_collect()
            .await
            .expect("read the records");
        found.iter_mut().for_each(|document| drop(document.remove("_id")));
        assert_eq!(run.get_str("state").ok(), Some("ingested"), "{run}");
        files.insert(run.get_str("file").expect("a name").to_owned(), found);
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_has_one_type_in_all_micro_batches_and_manifest_and_history_record_it() {
    let clients = json!([client("alpha", "utf-8", &["--null", "NA"])]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let mut content = "zip,sku,version,count,level\n".to_owned();
    (0..40).for_each(|row| content += &format!("12{row:03},{row},1.{},{row},{}\n", row % 9 + 1, row % 4));
    content += "01234,12E4,1.10,NA,0.5\n";
    platform.root.drop_file("alpha", "ids.csv", content.as_bytes());
    let _fetchdata = platform.start("fetchdata");
    until(SOON, "it is staged", || platform.root.list("staging/alpha").len() == 1);
    let [id] = platform.root.list("staging/alpha").try_into().expect("one file");
    let manifest = platform.root.path().join(format!("staging/alpha/{id}/manifest.json"));
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).expect("manifest")).expect("JSON");
    assert!(manifest["micro_batches"].as_array().is_some_and(|batches| batches.len() > 10), "{manifest}");
    let columns = json!([
        {"name": "zip", "type": "string"},
        {"name": "sku", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "count", "type": "int", "except": ["NA"]},
        {"name": "level", "type": "double"},
    ]);
    assert_eq!(manifest["columns"], columns);

    let _batch_manager = platform.start("batch-manager");
    let run = platform.until_ingested("alpha", 1, LOADED).await.remove(0);
    let of_run: Value = run
        .get_array("columns")
        .map(|of_run| Bson::Array(of_run.clone()).into_relaxed_extjson())
        .expect("columns");
    assert_eq!(of_run, columns);
    let found = rows(&platform, "alpha").await.remove("ids.csv").expect("its rows");
    assert_eq!(found[0], doc! {"zip": "12000", "sku": "0", "version": "1.1", "count": 0, "level": 0.0});
    assert_eq!(
        found[40],
        doc! {"zip": "01234", "sku": "12E4", "version": "1.10", "count": null, "level": 0.5}
    );
    assert_eq!(found.len(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_another_encoding_or_with_dates_at_the_ends_is_exact_or_refused_with_the_remedy() {
    let clients = json!([
        client("latin", "iso-8859-1", &[]),
        client("windows", "windows-1252", &[]),
        client("dates", "utf-8", &["--type", "t=date"]),
        objects("objects"),
    ]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    let prices = b"name,price\nM\xfcller,5 \x80\nO\x92Neil,\x931\x94\n";
    for client in ["latin", "windows"] {
        platform.root.drop_file(client, "prices.csv", prices);
    }
    let dates = "t,v\n9999-12-31T23:59:59Z,1\n0000-01-01T00:00:00Z,2\n2026-01-01T00:00:00Z,3\n";
    platform.root.drop_file("dates", "dates.csv", dates.as_bytes());
    // A client that stores whole files stores this one, too: nothing reads fields in it.
    platform.root.drop_file("objects", "other.csv", b"a;b\n1;2\n\"x\"y;3\n");

    until(SOON, "it is refused", || platform.root.reasons("discarded", "latin").len() == 1);
    let reason = platform.root.reasons("discarded", "latin").remove(0);
    let expected = "line 2 has the byte 0x80, which is not text in iso-8859-1; if it is Windows-1252, set \
                    \"files.encoding\" to \"windows-1252\"";
    assert_eq!(reason["reasons"], json!([expected]));
    for client in ["windows", "dates", "objects"] {
        platform.until_ingested(client, 1, LOADED).await;
    }
    let found = rows(&platform, "windows").await.remove("prices.csv").expect("its rows");
    assert_eq!(found, [doc! {"name": "Müller", "price": "5 €"}, doc! {"name": "O’Neil", "price": "“1”"}]);
    let found = rows(&platform, "dates").await.remove("dates.csv").expect("its rows");
    let date = |millis| bson::DateTime::from_millis(millis);
    assert_eq!(
        found,
        [doc! {"t": date(253_402_300_799_000), "v": 1}, doc! {"t": date(1_767_225_600_000), "v": 3}]
    );
    let rejected = platform.client_database("dates").collection::<Document>("rejected");
    let rejected = rejected.find_one(doc! {}).await.expect("read the rejects").expect("one");
    assert!(rejected.get_str("reason").is_ok_and(|reason| reason.contains("years 1 to 9999")), "{rejected}");
}

/// Pseudo-random, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// A value for a column of this kind, or sometimes one of another kind.
    fn value(&mut self, kind: u64) -> String {
        let number = self.roll(2_000);
        match if self.roll(40) == 0 { self.roll(8) } else { kind } {
            0 => number.to_string(),
            1 => (f64::from(number as u32) / 10.0).to_string(),
            2 => format!("{:?}", f64::from(number as u32) / 10.0),
            3 => format!("{number:05}"),
            4 => format!("{}E{}", number % 10, number % 7),
            5 => ["true", "false", ""][number as usize % 3].to_owned(),
            6 => ["", "NA", "7", "9007199254740993", "1.10", "-0"][number as usize % 6].to_owned(),
            _ => ["a;b", "say \"hi\"", "two\nlines", ",", "€ ü", "\\", " x "][number as usize % 7].to_owned(),
        }
    }

    /// A table with a header that no other table has.
    fn table(&mut self, number: u32) -> Vec<Vec<String>> {
        let kinds: Vec<u64> = (0..1 + self.roll(4)).map(|_| self.roll(8)).collect();
        let header = (0..kinds.len()).map(|column| format!("t{number}c{column}")).collect();
        let rows = (0..1 + self.roll(30)).map(|_| kinds.iter().map(|kind| self.value(*kind)).collect());
        [header].into_iter().chain(rows.collect::<Vec<_>>()).collect()
    }

    fn csv(&mut self, table: &[Vec<String>]) -> String {
        let line_end = ["\n", "\r\n", "\r"][self.roll(3) as usize];
        let quotes_all = self.roll(4) == 0;
        let mut text = if self.roll(4) == 0 { "\u{feff}".to_owned() } else { String::new() };
        for row in table {
            let field = |field: &String| {
                let must = row.len() == 1 && field.is_empty();
                if quotes_all || must || field.contains(['"', ',', '\n', '\r']) {
                    format!("\"{}\"", field.replace('"', "\"\""))
                } else {
                    field.clone()
                }
            };
            text += &row.iter().map(field).collect::<Vec<_>>().join(",");
            text += line_end;
        }
        text
    }
}

/// The texts that a value can have been written as. A whole double has a decimal point either everywhere in its column
/// or nowhere.
fn written(value: &Bson) -> Vec<String> {
    match value {
        Bson::Null => vec![String::new()],
        Bson::String(text) => vec![text.clone()],
        Bson::Int32(number) => vec![number.to_string()],
        Bson::Int64(number) => vec![number.to_string()],
        Bson::Double(number) => vec![number.to_string(), format!("{number:.1}")],
        Bson::Boolean(value) => vec![value.to_string()],
        other => panic!("{other:?} was never in a table"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_tables_are_read_back_as_they_were_written() {
    let platform =
        Platform::new(mongodb().url(), mosquitto().url(), json!([client("tables", "utf-8", &[])])).await;
    platform.configure(|config| config["clients"][0]["apps"][0]["protocol"] = json!("worker"));
    let mut dice = Dice(20_261_126);
    let tables: Vec<Vec<Vec<String>>> = (0..60).map(|number| dice.table(number)).collect();
    for (number, table) in tables.iter().enumerate() {
        let content = dice.csv(table);
        platform.root.drop_file("tables", &format!("{number:02}.csv"), content.as_bytes());
    }
    let _daemons = ["fetchdata", "batch-manager"].map(|kind| platform.start(kind));
    platform.until_ingested("tables", tables.len(), LOADED).await;
    assert_eq!(platform.count("tables", "rejected").await, 0);
    let stored = rows(&platform, "tables").await;
    let mut numeric = 0;
    for ((name, found), table) in stored.iter().zip(&tables) {
        assert_eq!(found.len(), table.len() - 1, "{name}");
        for (column, field) in table[0].iter().enumerate() {
            let (mut kinds, mut texts) = (Vec::new(), HashMap::new());
            for (row, document) in table[1..].iter().zip(found) {
                let (text, value) = (&row[column], document.get(field).expect("each field"));
                assert!(written(value).contains(text), "{name}: {text:?} is stored as {value:?}");
                assert_eq!(
                    *texts.entry(value.to_string()).or_insert(text),
                    text,
                    "{name}: two values became one"
                );
                if *value != Bson::Null {
                    kinds.push(value.element_type());
                }
            }
            kinds.dedup();
            assert!(kinds.len() <= 1, "{name}: {field} has values of {kinds:?}");
            numeric +=
                usize::from(kinds.first().is_some_and(|kind| *kind != bson::spec::ElementType::String));
        }
    }
    // Otherwise this test would prove nothing.
    assert!(numeric > 20, "{numeric} columns are of numbers or truth values");
}
