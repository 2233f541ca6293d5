//! State files that a power cut or a disk has damaged: each is named, none is treated as missing, and none causes the
//! loss of a file.

use std::fs;
use std::path::Path;

use mysimbdp_testbed::{Daemon, mongodb, mosquitto, until};
use serde_json::{Value, json};

use crate::support::{Platform, SOON, documents, number};

const TORN: [&[u8]; 3] = [b"", b"{\"file\": \"a.c", &[0; 64]];

#[tokio::test]
async fn status_names_each_damaged_state_file_and_treats_none_as_missing() {
    for torn in TORN {
        let platform = platform().await;
        let root = platform.root.path();
        let files = [
            "staging/documents/00112233445566778899aabbccddeeff/manifest.json",
            "held/documents/00112233445566778899aabbccddeeff/reason.json",
            "held/documents/00112233445566778899aabbccddeeff/manifest.json",
            "discarded/documents/20260101T000000Z-0011223344556677/reason.json",
            "state/broker.json",
            "state/instances/documents.stream.0.slot.json",
            "state/instances/documents.stream.wanted.json",
            "state/outbox/some-run.json",
            "state/edge/documents/sensor/outbox.json",
        ];
        for file in files {
            write(root, file, torn);
        }
        // Nothing runs here.
        let status = platform.command(69, &["status", "--json"]);
        let status: Value = serde_json::from_str(&status).expect("JSON");
        let client = &status["clients"]["documents"];
        for state in ["staged", "held", "discarded"] {
            assert_eq!(client[state].as_array().map(Vec::len), Some(1), "{state}: {status:#}");
        }
        assert!(client["held"][0]["reasons"][0].as_str().is_some_and(|reason| reason.contains("is damaged")));
        let notices = status["notices"].as_array().expect("notices");
        let text = platform.command(69, &["status"]);
        for file in files {
            let says = |notice: &&Value| notice["text"].as_str().is_some_and(|text| text.starts_with(file));
            assert_eq!(notices.iter().filter(says).count(), 1, "{file}: {status:#}");
            assert!(text.contains(file), "{file}: {text}");
        }
        let refused = platform.command(65, &["retry", "20260101T000000Z-0011223344556677"]);
        assert!(refused.contains("reason.json is damaged"), "{refused}");
        let differs = platform.command(65, &["reconcile"]);
        assert!(differs.contains("held/documents"), "{differs}");
    }
}

#[tokio::test]
async fn a_staged_file_with_a_torn_manifest_is_held_and_a_retry_ingests_it() {
    for torn in TORN {
        let platform = platform().await;
        let root = &platform.root;
        let mut fetchdata = platform.start("fetchdata");
        root.drop_file("documents", "a.ndjson", b"{\"n\":1}\n{\"n\":2}\n");
        until(SOON, "it is staged", || root.list("staging/documents").len() == 1);
        fetchdata.terminate();
        let [id] = root.list("staging/documents").try_into().expect("one file is staged");
        write(root.path(), &format!("staging/documents/{id}/manifest.json"), torn);

        let _daemons = ["batch-manager", "fetchdata"].map(|kind| platform.start(kind));
        until(SOON, "it is held", || root.list("held/documents").len() == 1);
        let reason = &root.reasons("held", "documents")[0];
        assert!(
            reason["reasons"][0].as_str().is_some_and(|reason| reason.contains("manifest.json")),
            "{reason}"
        );
        let printed = platform.command(0, &["retry", &id]);
        assert!(printed.contains("client-input-directory/documents/a.ndjson is dropped again"), "{printed}");
        let runs = platform.until_ingested("documents", 1, SOON).await;
        assert_eq!((number(&runs[0], "stored"), runs.len()), (2, 1));
        assert_eq!(root.list("held/documents"), [""; 0]);
    }
}

#[tokio::test]
async fn a_held_file_with_a_torn_manifest_is_dropped_again_and_leaves_no_difference() {
    for torn in TORN {
        let platform = platform().await;
        let root = &platform.root;
        let _daemons = ["batch-manager", "fetchdata"].map(|kind| platform.start(kind));
        root.drop_file("documents", "a.csv", b"a,b.c\n1,2\n");
        until(SOON, "it is held", || root.list("held/documents").len() == 1);
        let [id] = root.list("held/documents").try_into().expect("one file is held");
        let manifest = format!("held/documents/{id}/manifest.json");
        write(root.path(), &manifest, torn);
        let printed = platform.command(0, &["retry", &id]);
        assert!(printed.contains("is dropped again"), "{printed}");
        let is_whole = || fs::read(root.path().join(&manifest)).is_ok_and(|content| content != torn);
        until(SOON, "it is held again", is_whole);
        until(SOON, "no difference is left", || {
            Daemon::run(root, &["reconcile"], &[]).status.code() == Some(0)
        });
    }
}

async fn platform() -> Platform {
    Platform::new(mongodb().url(), mosquitto().url(), json!([documents("documents")])).await
}

fn write(root: &Path, file: &str, content: &[u8]) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().expect("has a parent")).expect("create the directory");
    fs::write(path, content).expect("write");
}
