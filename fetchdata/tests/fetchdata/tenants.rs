//! A file goes to its tenant or to nobody.

use std::fs;
use std::os::unix::fs::symlink;

use mysimbdp_model::layout::Layout;
use mysimbdp_platform::notice;
use mysimbdp_testbed::{Root, until};
use serde_json::{Value, json};

use crate::running::{DEADLINE, Running, config, staged};

const ROWS: &[u8] = b"a,b\n1,2\n";

/// `alpha` accepts files named like payroll; `live` has only a stream, and globs that match everything.
fn tenants() -> Value {
    let mut all = config(json!({}));
    all["clients"] = json!([
        {"id": "alpha", "apps": [{"name": "documents", "command": ["document-app"]}], "files": {"globs": ["*payroll*", "alpha*"]}},
        {"id": "live", "streams": [{"command": ["stream-app"]}]},
    ]);
    all
}

pub(crate) fn notices(root: &Root) -> String {
    let found = notice::notices(&Layout::new(root.path())).expect("status files");
    found.into_iter().map(|notice| notice.text).collect::<Vec<_>>().join("\n")
}

/// Waits until a file that comes by name later is staged, so that everything else has been scanned.
async fn wait_for_scan(running: &Running, name: &str) {
    running.root.drop_file("", name, name.as_bytes());
    let there = || staged(&running.root).iter().any(|staged| staged.manifest.file == name);
    until(DEADLINE, "a later file is staged", there);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_a_folder_of_no_client_wait_untouched_whatever_the_globs_of_other_clients_match() {
    let root = Root::new(&tenants());
    let files = [("beta", "payroll.csv"), ("beta/deeper", "payroll-2.csv"), ("Alpha", "alpha.csv")];
    for (folder, name) in files {
        root.drop_file(folder, name, name.as_bytes());
    }
    let elsewhere = root.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("directory");
    symlink(&elsewhere, root.drop_directory("gamma")).expect("symlink");
    fs::create_dir(root.drop_directory("empty")).expect("directory");
    let running = Running::on(root);
    wait_for_scan(&running, "alpha-1.csv").await;
    until(DEADLINE, "the status reports it", || {
        let text = notices(&running.root);
        ["beta", "Alpha", "gamma"]
            .iter()
            .all(|name| text.contains(&format!("client-input-directory/{name} is not")))
            && !text.contains("empty")
    });
    wait_for_scan(&running, "alpha-2.csv").await;
    assert_eq!(staged(&running.root).len(), 2, "only the files routed by name");
    assert!(running.root.reasons("discarded", "_unrouted").is_empty());
    assert!(running.root.drop_directory("gamma").is_symlink());
    for (folder, name) in files {
        assert_eq!(
            fs::read(running.root.drop_directory(folder).join(name)).expect("the file waits"),
            name.as_bytes()
        );
    }

    // The typing error is corrected, and the client is loaded.
    fs::remove_dir_all(running.root.drop_directory("Alpha")).expect("remove");
    let root = running.stop().await;
    let mut all = tenants();
    let mut beta = all["clients"][0].clone();
    beta["id"] = json!("beta");
    beta["files"] = json!({});
    all["clients"].as_array_mut().expect("clients").push(beta);
    root.configure(&all);
    let running = Running::on(root);
    running.until_staged(4).await;
    let mut of_beta: Vec<String> = staged(&running.root)
        .into_iter()
        .filter(|staged| staged.manifest.client.as_str() == "beta")
        .map(|staged| staged.manifest.file)
        .collect();
    of_beta.sort();
    assert_eq!(of_beta, ["payroll-2.csv", "payroll.csv"]);
    until(DEADLINE, "only the symlink is reported", || {
        let text = notices(&running.root);
        text.contains("gamma") && !text.contains("beta")
    });
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn globs_of_a_client_without_a_batch_app_claim_nothing() {
    let running = Running::with(&tenants());
    running.root.drop_file("", "payroll.csv", ROWS);
    assert_eq!(running.one_staged().await.manifest.client.as_str(), "alpha", "though two globs match");
    running.root.drop_file("", "other.csv", ROWS);
    assert_eq!(
        running.one_discarded("_unrouted").await,
        ["no client's globs match the name; expected *payroll*, alpha* for alpha"]
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returned_file_whose_folder_is_now_a_file_is_not_routed_by_name() {
    let running = Running::with(&tenants());
    running.root.drop_file("alpha", "payroll.csv", ROWS);
    let staged = running.one_staged().await;
    let root = running.stop().await;
    // Staging was interrupted and cannot be completed, so the file goes back; its client's folder is a file now.
    let unpublished = staged.directory.with_file_name(format!(".{}", staged.manifest.ingestion));
    fs::rename(&staged.directory, &unpublished).expect("rename");
    fs::write(unpublished.join("payroll.csv"), b"a,b\n7,8\n").expect("change");
    fs::remove_dir_all(root.drop_directory("alpha")).expect("remove");
    fs::write(root.drop_directory("alpha"), "in the way").expect("file");

    let running = Running::on(root);
    until(DEADLINE, "the status reports it", || {
        notices(&running.root).contains("client-input-directory/stranded-")
    });
    assert!(crate::running::staged(&running.root).is_empty());
    running.stop().await;
}
