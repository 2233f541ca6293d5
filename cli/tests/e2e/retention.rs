//! Held and discarded files are removed when their retention ends, and never silently.

use std::path::Path;

use mysimbdp_testbed::{mongodb, mosquitto, until};
use serde_json::{Value, json};

use crate::support::{Platform, SOON, documents};

/// A client all of whose files are held or discarded, and a second one like it, whose files are not to be purged.
async fn refused() -> Platform {
    let refusing = |id: &str| {
        let mut client = documents(id);
        client["apps"][0]["command"] = json!(["sh", "-c", "exit 65"]);
        client
    };
    let clients = json!([refusing("client1"), refusing("client2")]);
    let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
    let _fetchdata = platform.start("fetchdata");
    let _batch_manager = platform.start("batch-manager");
    for client in ["client1", "client2"] {
        for file in ["held.csv", "discarded.pdf"] {
            let path = platform.root.path().join(file);
            std::fs::write(&path, format!("a,b\n1,{client}\n")).expect("a file");
            platform.command(65, &["drop", "--wait", client, path.to_str().expect("UTF-8")]);
        }
    }
    until(SOON, "each has a history", || counts(&platform) == [(1, 1), (1, 1)]);
    platform
}

/// Held and discarded files of both clients.
fn counts(platform: &Platform) -> [(usize, usize); 2] {
    let entries = |path: &Path| std::fs::read_dir(path).map_or(0, Iterator::count);
    ["client1", "client2"].map(|client| {
        let root = platform.root.path();
        (entries(&root.join("held").join(client)), entries(&root.join("discarded").join(client)))
    })
}

async fn states(platform: &Platform, client: &str) -> Vec<String> {
    let runs = platform.history(client).await;
    runs.iter().map(|run| run.get_str("state").expect("a state").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_removes_what_is_old_enough_and_the_history_says_so() {
    let platform = refused().await;
    platform.command(64, &["purge", "--older-than", "1ms"]);
    platform.command(64, &["purge", "--held"]);
    platform.command(66, &["purge", "--held", "--older-than", "1ms", "--client", "nobody"]);
    let young = platform.command(0, &["purge", "--held", "--discarded", "--older-than", "30d"]);
    assert!(young.contains("0 files removed"), "{young}");
    let of_client1 = ["purge", "--held", "--discarded", "--older-than", "1ms", "--client", "client1"];
    let listed = platform.command(0, &[&of_client1[..], &["--dry-run"]].concat());
    assert!(listed.contains("would remove held file") && listed.contains("2 files"), "{listed}");
    assert_eq!(counts(&platform), [(1, 1), (1, 1)], "nothing is removed yet");

    let removed = platform.command(0, &of_client1);
    assert!(removed.contains("2 files removed"), "{removed}");
    assert_eq!(counts(&platform), [(0, 0), (1, 1)]);
    assert_eq!(states(&platform, "client1").await, ["purged"]);
    assert_eq!(states(&platform, "client2").await, ["held"]);
    assert_eq!(platform.root.log("purge.log").matches("removed a file").count(), 2);
    platform.command(0, &["reconcile"]);

    // Only held files have a history that must know.
    platform.set("coredms", json!({"url": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300"}));
    platform.command(69, &["purge", "--held", "--older-than", "1ms"]);
    let removed = platform.command(0, &["purge", "--discarded", "--older-than", "1ms"]);
    assert!(removed.contains("1 file removed"), "{removed}");
    assert_eq!(counts(&platform), [(0, 0), (1, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_keeps_what_was_refused_as_long_as_its_config_says() {
    let platform = refused().await;
    platform.configure(|config: &mut Value| {
        config["clients"][0]["retention"] = json!({"held": "1ms", "discarded": "1ms"});
    });
    let _batch_manager = platform.start("batch-manager");
    until(SOON, "the files of client1 are removed", || counts(&platform)[0] == (0, 0));
    assert_eq!(counts(&platform)[1], (1, 1), "the other config has no such setting");
    assert_eq!(states(&platform, "client1").await, ["purged"]);
    platform.command(0, &["reconcile"]);
}
