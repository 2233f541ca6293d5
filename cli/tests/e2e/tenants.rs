//! A file goes to its tenant or to nobody, even while the configuration is edited.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use mysimbdp_testbed::{Daemon, OTHER_USER, Process, Root, binary, until};
use serde_json::{Value, json};

use crate::support::{SOON, documents, run};

fn with_clients(ids: &[&str]) -> Value {
    let mut clients: Vec<Value> = ids.iter().map(|id| documents(id)).collect();
    clients.push(json!({"id": "live", "streams": [{"command": ["stream-app"]}]}));
    json!({"fetchdata": {"settle": "100ms", "scan_every": "1s", "free_space_min": "0B"}, "clients": clients})
}

fn staged(root: &Root, client: &str) -> usize {
    root.list(&format!("staging/{client}")).len()
}

#[test]
fn drop_refuses_a_file_for_a_client_that_the_running_fetchdata_does_not_serve() {
    let root = Root::new(&with_clients(&["alpha"]));
    let file = root.path().join("payroll.csv");
    fs::write(&file, "a,b\n1,2\n").expect("file");
    let file = file.to_str().expect("UTF-8");
    let printed = run(&root, 0, &["drop", "alpha", file]);
    assert!(printed.contains("fetchdata is not running"), "{printed}");
    assert!(run(&root, 66, &["drop", "live", file]).contains("no batch app"));

    let mut fetchdata = Daemon::start(&root, &["fetchdata"], &[]);
    until(SOON, "it is staged", || staged(&root, "alpha") == 1);
    // As the edit also changes a setting that needs a restart, the running fetchdata refuses it and keeps its own config.
    let mut edited = with_clients(&["alpha", "beta"]);
    edited["logs"] = json!({"retention": "1d"});
    root.configure(&edited);
    let printed = run(&root, 75, &["drop", "beta", file]);
    assert!(printed.contains("takes no files of beta"), "{printed}");
    assert!(!root.drop_directory("beta").exists());
    // A file that is copied there nevertheless is left there.
    root.drop_file("beta", "payroll.csv", b"a,b\n3,4\n");
    let logged = |text: &str| root.log("fetchdata.log").matches(text).count();
    until(SOON, "it is reported", || logged("not the folder of a configured client") > 0);
    until(SOON, "status reports it", || {
        // Only fetchdata runs.
        run(&root, 69, &["status"])
            .contains("client-input-directory/beta is not the folder of a configured client")
    });
    root.drop_file("alpha", "later.csv", b"a,b\n5,6\n");
    until(SOON, "a later one is staged", || staged(&root, "alpha") == 2);
    assert_eq!(logged("not the folder of a configured client"), 1, "once");
    assert_eq!(fs::read(root.drop_directory("beta").join("payroll.csv")).expect("it waits"), b"a,b\n3,4\n");
    assert!(fetchdata.terminate().success());

    let mut fetchdata = Daemon::start(&root, &["fetchdata"], &[]);
    until(SOON, "beta has its own", || staged(&root, "beta") == 1);
    let printed = run(&root, 0, &["drop", "beta", file]);
    assert!(!printed.contains("is not running"), "{printed}");
    assert!(fetchdata.terminate().success());
}

/// Starts a process without privileges, which cannot read root's files.
pub(crate) fn start_unprivileged(root: &Root, kind: &str) -> Process {
    start_unprivileged_with(root, kind, &[])
}

pub(crate) fn start_unprivileged_with(root: &Root, kind: &str, env: &[(&str, &str)]) -> Process {
    let mut command = Command::new(binary("mysimbdp"));
    command.arg("--config").arg(root.config()).arg(kind).current_dir(root.path());
    command.uid(OTHER_USER).gid(OTHER_USER).envs(env.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Process::spawn(command)
}

fn give_to_other_user(path: &Path) {
    chown(path, Some(OTHER_USER), Some(OTHER_USER)).expect("another owner");
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).expect("list").for_each(|entry| give_to_other_user(&entry.expect("entry").path()));
    }
}

#[test]
fn one_unreadable_directory_stops_only_its_client() {
    if fs::metadata("/proc/self").expect("this process").uid() != 0 {
        eprintln!("SKIPPED: only root can make directories that the platform's user may not read");
        return;
    }
    let root = Root::new(&with_clients(&["deep", "good", "roots", "stuck"]));
    for client in ["deep", "good", "roots", "stuck"] {
        root.drop_file(client, "first.csv", format!("a,b\n1,{client}\n").as_bytes());
    }
    fs::create_dir_all(root.path().join("staging/stuck")).expect("directory");
    fs::create_dir(root.drop_directory("deep/lost+found")).expect("directory");
    fs::write(root.drop_directory("deep/lost+found/second.csv"), "a,b\n2,deep\n").expect("file");
    give_to_other_user(root.path());
    let bad = [
        root.drop_directory("deep/lost+found"),
        root.drop_directory("roots"),
        root.path().join("staging/stuck"),
    ];
    for path in &bad {
        chown(path, Some(0), Some(0)).expect("root's");
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("mode");
    }
    let mut processes = [start_unprivileged(&root, "fetchdata"), start_unprivileged(&root, "batch-manager")];
    for client in ["good", "deep"] {
        until(SOON, "it is staged, and finished", || {
            root.log("batch-manager.log").contains(&format!("client={client}")) && staged(&root, client) == 0
        });
    }
    until(SOON, "status reports it", || {
        // No stream-manager runs.
        let printed = run(&root, 69, &["status"]);
        ["deep/lost+found", "client-input-directory/roots", "staging of stuck"]
            .iter()
            .all(|name| printed.contains(name))
    });
    assert!(processes.iter_mut().all(|process| process.is_running()));
    for path in &bad {
        give_to_other_user(path);
    }
    until(SOON, "all are finished", || {
        let left = |client: &str| {
            root.list(&format!("client-input-directory/{client}"))
                .iter()
                .filter(|name| name.ends_with(".csv"))
                .count()
                + staged(&root, client)
        };
        left("roots") + left("stuck") == 0 && root.list("client-input-directory/deep/lost+found").is_empty()
    });
    until(SOON, "nothing is reported any more", || {
        let printed = run(&root, 69, &["status"]);
        !["deep/lost+found", "client-input-directory/roots", "staging of stuck"]
            .iter()
            .any(|name| printed.contains(name))
    });
    for process in &mut processes {
        process.terminate(SOON);
    }
}

/// These files used to be on disk, but in no list.
#[test]
fn files_of_a_client_removed_from_the_config_stay_listed_and_are_purged_or_wait_for_its_return() {
    let batch_client = |id: &str| json!({"id": id, "files": {"extensions": ["csv"]}, "apps": [{"name": "app", "command": ["document-app"]}]});
    let with = |ids: &[&str]| {
        json!({
            "fetchdata": {"settle": "100ms", "scan_every": "1s", "free_space_min": "0B"},
            "clients": ids.iter().map(|id| batch_client(id)).collect::<Vec<_>>(),
        })
    };
    let root = Root::new(&with(&["alpha", "beta"]));
    let mut fetchdata = Daemon::start(&root, &["fetchdata"], &[]);
    for (name, content) in [("staged.csv", "a,b\n1,2\n"), ("held.csv", "a,b\n3,4\n"), ("wrong.exe", "x")] {
        root.drop_file("beta", name, content.as_bytes());
    }
    until(SOON, "all are taken", || staged(&root, "beta") == 2 && root.list("discarded/beta").len() == 1);
    assert!(fetchdata.terminate().success(), "{}", fetchdata.output());
    let id = root.list("staging/beta").into_iter().find(|id| {
        let manifest = fs::read_to_string(root.path().join(format!("staging/beta/{id}/manifest.json")));
        manifest.is_ok_and(|manifest| manifest.contains("held.csv"))
    });
    let id = id.expect("one of them");
    let held = root.path().join("held/beta").join(&id);
    fs::create_dir_all(held.parent().expect("a parent")).expect("directory");
    fs::rename(root.path().join("staging/beta").join(&id), &held).expect("held");
    let reason = json!({
        "file": "held.csv", "client": "beta", "ingestion": id, "dropped_at": "client-input-directory/beta/held.csv",
        "bytes": 8, "received_at": "2026-01-31T00:00:00Z", "decided_at": "2026-01-31T00:00:00Z", "reasons": ["no"],
    });
    fs::write(held.join("reason.json"), reason.to_string()).expect("reason");

    root.configure(&with(&["alpha"]));
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let printed = run(&root, 75, &["status"]);
    let notice = "beta is not configured: its 1 staged files wait";
    for part in [notice, "beta (not configured)", "wrong.exe", "held.csv", "staged.csv"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let status: Value = serde_json::from_slice(&Daemon::run(&root, &["status", "--json"], &[]).stdout)
        .expect("the status is JSON");
    let configured = |client: &str| status["clients"][client]["configured"].clone();
    assert_eq!((configured("alpha"), configured("beta")), (json!(true), json!(false)), "{status:#}");

    let discarded = root.list("discarded/beta").remove(0);
    for id in [&id, &discarded] {
        let refused = run(&root, 66, &["retry", id]);
        assert!(refused.contains("beta, which is not configured"), "{refused}");
    }
    let purge = ["purge", "--held", "--discarded", "--older-than", "1ms"];
    let of_beta = run(&root, 0, &[&purge[..], &["--client", "beta", "--dry-run"]].concat());
    assert!(of_beta.contains(&id) && of_beta.contains(&discarded), "{of_beta}");
    assert!(run(&root, 0, &purge).contains("2 files removed"));
    assert!(run(&root, 75, &["status"]).contains(notice), "what is staged still waits");

    root.configure(&with(&["alpha", "beta"]));
    run(&root, 0, &["reload"]);
    until(SOON, "it is ingested", || staged(&root, "beta") == 0);
    let printed = run(&root, 0, &["status"]);
    assert!(!printed.contains("not configured"), "{printed}");
    assert!(up.interrupt().success(), "{}", up.output());
}

/// A notice of waiting files used not to change the exit code, and used to be cut off before the remedy.
#[test]
fn anything_in_place_of_a_folder_is_named_with_its_remedy_and_status_exits_75() {
    let id = "a-client-with-a-name-of-32-chars";
    let mut client = documents(id);
    client["apps"][0]["command"] = json!(["true"]);
    let root =
        Root::new(&json!({"fetchdata": {"scan_every": "1s", "free_space_min": "0B"}, "clients": [client]}));
    let folder = root.drop_directory(id);
    fs::create_dir_all(folder.parent().expect("a parent")).expect("directory");
    std::os::unix::fs::symlink(root.path(), &folder).expect("symlink");
    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let status = || {
        let output = Daemon::run(&root, &["status"], &[]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    until(SOON, "the symlink is named", || status().1.contains("is a symlink and not a directory"));
    let (code, printed) = status();
    assert!(printed.contains("; folder_may_be_symlink allows it"), "{printed}");
    assert_eq!(code, Some(75), "{printed}");
    fs::remove_file(&folder).expect("remove");
    fs::write(&folder, "").expect("a file in its place");
    until(SOON, "the file is named", || status().1.contains("is a regular file and not a directory"));
    assert_eq!(status().0, Some(75));
    fs::remove_file(&folder).expect("remove");
    until(SOON, "nothing obstructs any more", || status().0 == Some(0));
    assert!(up.interrupt().success(), "{}", up.output());
}

/// These files used to be split again and again, and were reported only in the log.
#[test]
fn files_that_can_be_read_but_not_moved_are_named_and_not_inspected() {
    if fs::metadata("/proc/self").expect("this process").uid() != 0 {
        eprintln!("SKIPPED: only root can make directories that the platform's user may not write");
        return;
    }
    let root = Root::new(&with_clients(&["good", "plain", "roots"]));
    for client in ["good", "plain", "roots/upload"] {
        root.drop_file(client, "first.csv", format!("a,b\n1,{client}\n").as_bytes());
    }
    give_to_other_user(root.path());
    // One folder has nothing in it but a directory, as in a chroot; such a folder may belong to anybody.
    let (plain, roots) = (root.drop_directory("plain"), root.drop_directory("roots"));
    for path in
        [&plain, &plain.join("first.csv"), &roots, &roots.join("upload"), &roots.join("upload/first.csv")]
    {
        chown(path, Some(0), Some(0)).expect("root's");
    }
    let mut fetchdata = start_unprivileged(&root, "fetchdata");
    until(SOON, "the other one's is staged", || staged(&root, "good") == 1);
    until(SOON, "status reports it", || {
        // Only fetchdata runs.
        let printed = run(&root, 69, &["status"]);
        ["roots/upload", "client-input-directory/plain"]
            .iter()
            .all(|path| printed.contains(&format!("{path} cannot be moved away")))
    });
    let log = root.log("fetchdata.log");
    let timings = log.lines().filter(|line| line.contains("TIMING") && !line.contains("client=good"));
    assert_eq!(timings.collect::<Vec<_>>(), [""; 0]);
    for path in [&roots.join("upload"), &plain] {
        give_to_other_user(path);
    }
    until(SOON, "both are staged", || staged(&root, "roots") + staged(&root, "plain") == 2);
    until(SOON, "nothing is reported any more", || {
        !run(&root, 69, &["status"]).contains("cannot be moved away")
    });
    fetchdata.terminate(SOON);
}
