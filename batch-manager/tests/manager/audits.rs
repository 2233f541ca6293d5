//! Apps whose reports are false: what they stored is counted before they are believed.

use mysimbdp_model::manifest::Format;
use serde_json::{Value, json};

use crate::fixture::{Fixture, command, counts, merge, settings};

async fn assert_held(mut fixture: Fixture, fragments: &[&str]) {
    let ingestion = fixture.stage("a.ndjson", &[10]);
    fixture.start();
    let reason = fixture.until_held(ingestion).await;
    fixture.stop().await;
    for fragment in fragments.iter().chain(&["failed 3 times", "not believed"]) {
        assert!(reason.contains(fragment), "{fragment:?} is not in {reason:?}");
    }
    let log =
        std::fs::read_to_string(fixture.path("held/client1").join(ingestion.to_string()).join("reason.json"));
    assert!(log.expect("a reason beside the file").contains(fragments[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_stored_another_number_than_reported_is_held_with_both_numbers() {
    for (how, fragments) in [
        ("nothing", ["stored 10 and found 0", "coredms has 0"]),
        ("one-less", ["stored 10 and found 0", "coredms has 9"]),
        ("one-more", ["stored 9 and found 0", "coredms has 10"]),
        ("elsewhere", ["stored 10 and found 0", "coredms has 0"]),
    ] {
        assert_held(Fixture::of_mode(&["cheat", how]), &fragments).await;
    }
}

fn keyed(how: &str) -> Value {
    settings(json!({ "command": command(&["keys", how]), "ids": "key", "record_key": ["n"] }))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_whose_keys_are_missing_or_of_another_number_is_held() {
    for (how, fragments) in [
        ("absent", ["stored 10", "the key \"no such key\" that it lists is not in coredms"]),
        ("one-less", ["stored 10", "lists 9 keys"]),
        ("one-more", ["stored 10", "lists 11 keys"]),
        ("none", ["stored 10", "lists 0 keys"]),
        ("flood", ["stored 10", "lists 1000 keys"]),
    ] {
        assert_held(Fixture::new(keyed(how)), &fragments).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_lists_all_its_keys_is_believed_however_many_there_are() {
    let mut fixture = Fixture::new(keyed("good"));
    let ingestion = fixture.stage("a.ndjson", &[10, 10_001]);
    fixture.start();
    let run = fixture.until_ingested(ingestion).await;
    fixture.stop().await;
    assert_eq!((counts(&run), run.get("audited")), ([10_011, 10_011, 0, 0], Some(&true.into())));
}

fn objects(how: &str, unit: &str) -> Fixture {
    let mut value = settings(json!({ "command": command(&["object", how]), "ids": "object" }));
    merge(&mut value["clients"][0]["apps"][0], json!({ "unit": unit }));
    value["clients"][0]["micro_batching"] = json!({ "block_size": "1MB" });
    Fixture::new(value)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_object_is_held_and_a_complete_one_is_believed() {
    let content: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
    for (how, unit, fragment) in [
        ("hole", "file", "738880 bytes in 3 chunks"),
        ("short", "file", "999999 bytes in 4 chunks"),
        ("length", "file", "one of 1000001 bytes"),
        ("uncommitted", "file", "no object, with 1000000 bytes in 4 chunks"),
        ("hole", "range", " of its "),
        ("short", "range", "999998 bytes in 4 chunks"),
        ("uncommitted", "range", "no object, with 1000000 bytes in 4 chunks"),
    ] {
        let mut fixture = objects(how, unit);
        let ingestion = fixture.stage_ranges("a.bin", Format::Binary, &[(content.clone(), 1)]);
        fixture.start();
        let reason = fixture.until_held(ingestion).await;
        fixture.stop().await;
        assert!(reason.contains("not believed") && reason.contains(fragment), "{how} {unit}: {reason}");
    }
    for unit in ["file", "range"] {
        let mut fixture = objects("good", unit);
        let ingestion = fixture.stage_ranges("a.bin", Format::Binary, &[(content.clone(), 1)]);
        fixture.start();
        let run = fixture.until_ingested(ingestion).await;
        fixture.stop().await;
        assert_eq!((counts(&run), run.get("audited")), ([1, 1, 0, 0], Some(&true.into())), "{unit}");
    }
}
