//! A file goes to its tenant or to nobody, also while the configuration is edited.

use std::fs;

use mysimbdp_testbed::{Daemon, Root, until};
use serde_json::{Value, json};

use crate::support::{SOON, documents};

fn run(root: &Root, code: i32, words: &[&str]) -> String {
    let output = Daemon::run(root, words, &[]);
    let printed =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{words:?} printed\n{printed}");
    printed
}

fn with_clients(ids: &[&str]) -> Value {
    let mut clients: Vec<Value> = ids.iter().map(|id| documents(id)).collect();
    clients.push(json!({"id": "live", "streams": [{"command": ["stream-app"]}]}));
    json!({"fetchdata": {"settle": "100ms", "scan_every": "1s", "free_space_min": "0B"}, "clients": clients})
}

fn staged(root: &Root, client: &str) -> usize {
    root.list(&format!("staging/{client}")).len()
}

#[test]
fn drop_refuses_what_the_running_fetchdata_would_take_to_nobody() {
    let root = Root::new(&with_clients(&["alpha"]));
    let file = root.path().join("payroll.csv");
    fs::write(&file, "a,b\n1,2\n").expect("file");
    let file = file.to_str().expect("UTF-8");
    let printed = run(&root, 0, &["drop", "alpha", file]);
    assert!(printed.contains("fetchdata does not run"), "{printed}");
    assert!(run(&root, 66, &["drop", "live", file]).contains("no batch app"));

    let mut fetchdata = Daemon::start(&root, &["fetchdata"], &[]);
    until(SOON, "it is staged", || staged(&root, "alpha") == 1);
    // With what needs a restart beside it, the running fetchdata refuses it and goes on with its own.
    let mut edited = with_clients(&["alpha", "beta"]);
    edited["logs"] = json!({"retention": "1d"});
    root.configure(&edited);
    let printed = run(&root, 75, &["drop", "beta", file]);
    assert!(printed.contains("takes no files of beta"), "{printed}");
    assert!(!root.drop_point("beta").exists());
    // Whoever copies the file all the same finds it there.
    root.drop_file("beta", "payroll.csv", b"a,b\n3,4\n");
    let told = |text: &str| root.log("fetchdata.log").matches(text).count();
    until(SOON, "it is told", || told("not the folder of a configured client") > 0);
    until(SOON, "status tells", || {
        // Only fetchdata runs.
        run(&root, 69, &["status"])
            .contains("client-input-directory/beta is not the folder of a configured client")
    });
    root.drop_file("alpha", "later.csv", b"a,b\n5,6\n");
    until(SOON, "a later one is staged", || staged(&root, "alpha") == 2);
    assert_eq!(told("not the folder of a configured client"), 1, "once");
    assert_eq!(fs::read(root.drop_point("beta").join("payroll.csv")).expect("it waits"), b"a,b\n3,4\n");
    assert!(fetchdata.terminate().success());

    let mut fetchdata = Daemon::start(&root, &["fetchdata"], &[]);
    until(SOON, "beta has its own", || staged(&root, "beta") == 1);
    let printed = run(&root, 0, &["drop", "beta", file]);
    assert!(!printed.contains("does not run"), "{printed}");
    assert!(fetchdata.terminate().success());
}
