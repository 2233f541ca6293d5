//! Only the platform's user has access to its files and passwords, and nobody controls the operator's terminal.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mysimbdp_testbed::{
    Daemon, Process, Root, Signal, binary, mongodb, mosquitto, unique, until, until_async,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{LOADED, Platform, SOON, keyed_stream, messages};

/// A client that accepts CSV files of any name, and whose app is this shell script.
fn client(id: &str, script: &str) -> Value {
    json!({
        "id": id,
        "files": {"globs": ["*"], "extensions": ["csv"]},
        "receipt": true,
        "apps": [{"name": "app", "command": ["sh", "-c", script], "collection": "records", "ids": "none"}],
    })
}

/// A data root for files, on the embedded store.
fn root(clients: Value) -> Root {
    Root::new(&json!({
        "coredms": {"database": unique("privacy")},
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "200ms", "backoff_first": "100ms", "backoff_max": "1s"},
        "rules": {"file_name_pattern": "^[a-z.]+$"},
        "clients": clients,
    }))
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it exists").permissions().mode() & 0o7777
}

/// A directory and everything below it.
fn all_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut scanned = 0;
    while scanned < found.len() {
        let entries = fs::read_dir(&found[scanned]).into_iter().flatten();
        found.extend(entries.map(|entry| entry.expect("an entry").path()));
        scanned += 1;
    }
    found
}

#[test]
fn only_the_platforms_user_can_read_its_files_even_those_that_an_earlier_version_left_open() {
    let root = root(json!([client("client1", "cat > /dev/null")]));
    let path = |name: &str| root.path().join(name);
    // As an earlier version created them.
    for directory in ["state/coredms", "logs/clients/client1", "staging/client1"] {
        fs::create_dir_all(path(directory)).expect("directories");
        for directory in Path::new(directory).ancestors().filter(|part| part.components().count() > 0) {
            fs::set_permissions(root.path().join(directory), fs::Permissions::from_mode(0o755))
                .expect("mode");
        }
    }
    for file in ["state/.stream-manager.lock", "staging/.batch-manager.lock", "logs/fetchdata.log"] {
        fs::write(path(file), "").expect("write");
        fs::set_permissions(path(file), fs::Permissions::from_mode(0o644)).expect("mode");
    }

    let mut up = Daemon::start(&root, &["up"], &[]);
    up.until_output(SOON, "ready after");
    let source = path("sent.csv");
    fs::write(&source, "a,b\n1,2\n").expect("write");
    let dropped = Daemon::run(&root, &["drop", "client1", "sent.csv", "--wait"], &[]);
    assert!(dropped.status.success(), "{}", String::from_utf8_lossy(&dropped.stderr));
    let warnings = up.output().matches("were open to other users").count();
    assert_eq!(warnings, 1, "{}", up.output());

    // Dropped files keep their sender's mode, in directories that nobody else can enter.
    let kept = ["staging", "archive", "held", "discarded"].map(path).into_iter().filter(|kept| kept.exists());
    let all = [all_below(&path("state")), all_below(&path("logs")), kept.collect()].concat();
    let open = all.iter().filter(|found| mode(found) & 0o077 != 0);
    let open: Vec<_> = open.map(|found| format!("{:o} {}", mode(found), found.display())).collect();
    assert_eq!(open, [""; 0]);
    for lock in ["staging/.batch-manager.lock", "client-input-directory/.fetchdata.lock"] {
        assert_eq!(mode(&path(lock)), 0o600, "{lock}");
    }
    // Other users can pass through the drop directory, and read their receipts.
    assert_eq!(mode(&path("client-input-directory")), 0o755);
    assert_eq!(mode(&root.drop_directory("client1").join("sent.csv.receipt.json")) & 0o444, 0o444);
    assert!(up.interrupt().success(), "{}", up.output());
}

/// What could control a terminal: escape sequences in both forms, a carriage return, and overrides of the direction.
const CONTROL_SEQUENCE: &str = "\u{1b}[2J\u{9b}31m\r\u{7f}\u{202e}\u{2066}";

#[track_caller]
fn steers_nothing(output: &[u8]) -> String {
    let text = String::from_utf8(output.to_vec()).expect("text");
    let raw = |letter: &char| {
        (letter.is_control() && *letter != '\n') || ['\u{202e}', '\u{2066}', '\u{2028}'].contains(letter)
    };
    assert_eq!(text.chars().find(raw), None, "{text:?}");
    text
}

#[test]
fn text_of_clients_and_their_apps_does_not_control_the_operators_terminal() {
    let script = format!(
        "cat > /dev/null; printf '%s\\n' 'last words {CONTROL_SEQUENCE}' >&2; exit 65",
        CONTROL_SEQUENCE = CONTROL_SEQUENCE.replace('\r', "'\"$(printf '\\r')\"'")
    );
    let root = root(json!([client("client1", &script)]));
    let name = format!("evil{CONTROL_SEQUENCE}\nforged line: all is well.csv");
    let hostile = root.path().join(std::ffi::OsStr::from_bytes(name.as_bytes()));
    fs::write(&hostile, "a,b\n1,2\n").expect("write");
    let held = root.path().join("held.csv");
    fs::write(&held, "a,b\n3,4\n").expect("write");
    let mut fetchdata = Daemon::start(&root, &["fetchdata"], &[]);
    let mut batch_manager = Daemon::start(&root, &["batch-manager"], &[]);

    let run = |words: &[&str]| {
        let output = Daemon::run(&root, words, &[]);
        let (stdout, stderr) = (steers_nothing(&output.stdout), steers_nothing(&output.stderr));
        let printed = format!("{stdout}{stderr}");
        assert!(!printed.lines().any(|line| line.starts_with("forged")), "{words:?} printed {printed}");
        printed
    };
    run(&["drop", "client1", hostile.to_str().expect("text")]);
    until(LOADED, "it is discarded", || root.reasons("discarded", "client1").len() == 1);
    let held = run(&["drop", "client1", "held.csv", "--wait"]);
    assert!(held.contains("held: ") && held.contains("last words \\u{1b}[2J"), "{held}");

    let status = run(&["status"]);
    assert!(status.contains("last words \\u{1b}[2J"), "{status}");
    assert!(status.contains("discarded client1 ") && status.contains("evil"), "{status}");
    let json: Value = serde_json::from_str(&run(&["status", "--json"])).expect("JSON");
    let reasons = json["clients"]["client1"]["held"][0]["reasons"].to_string();
    assert!(reasons.contains("last words"), "{reasons}");
    let id = json["clients"]["client1"]["discarded"][0]["id"].as_str().expect("an id").to_owned();
    run(&["reconcile"]);
    run(&["timing"]);
    run(&["retry", &format!("none{CONTROL_SEQUENCE}\nforged")]);
    run(&["drop", CONTROL_SEQUENCE, "held.csv"]);
    run(&["check", "app", "--", "sh", "-c", &script]);
    run(&["retry", &id]);
    assert!(fetchdata.terminate().success() && batch_manager.terminate().success());
    for log in ["fetchdata.log", "batch-manager.log", "clients/client1/batch.log"] {
        steers_nothing(root.log(log).as_bytes());
    }
}

/// Programs that a user other than root can run, on a data root of that user. `user` is `None` if this process is not
/// root's, as it then runs as such a user already.
pub(crate) struct Unprivileged {
    programs: TempDir,
    user: Option<u32>,
}

impl Unprivileged {
    /// `nobody`, on Debian and elsewhere.
    const USER: u32 = 65_534;

    pub(crate) fn new(root: &Path) -> Self {
        Self::with_id(root, Self::USER)
    }

    /// The user with this id, so that it has no process of another test.
    pub(crate) fn with_id(root: &Path, user: u32) -> Self {
        let programs = TempDir::with_prefix("mysimbdp-programs-").expect("temporary directory");
        fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        for name in ["mysimbdp", "stream-app"] {
            fs::copy(binary(name), programs.path().join(name)).expect("copy a program");
        }
        let is_root = fs::metadata("/proc/self").expect("this process").uid() == 0;
        let user = is_root.then_some(user);
        if let Some(user) = user {
            for path in [root.to_owned(), root.join("config.json")].iter().filter(|path| path.exists()) {
                chown(path, Some(user), Some(user)).expect("another owner");
            }
        }
        Self { programs, user }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Whether it is a user other than this process's.
    pub(crate) fn is_another(&self) -> bool {
        self.user.is_some()
    }

    /// Makes it the owner of a directory and everything in it.
    pub(crate) fn own(&self, directory: &Path) {
        for path in all_below(directory) {
            chown(&path, self.user, self.user).expect("another owner");
        }
    }

    /// Runs a command of `mysimbdp` to its end.
    pub(crate) fn run(&self, root: &Root, words: &[&str]) -> std::process::Output {
        let mut command = self.command(&self.programs.path().join("mysimbdp"));
        command.arg("--config").arg(root.config()).args(words).current_dir("/").stdin(Stdio::null());
        command.output().expect("it runs")
    }

    fn start(&self, root: &Root, kind: &str, broker: &str) -> Process {
        self.start_with(root, kind, &[("MYSIMBDP_BROKER", broker)])
    }

    /// Runs a command of `mysimbdp` that finds only this many threads, its first included, and returns its exit code.
    pub(crate) fn run_with_threads(&self, root: &Root, words: &[&str], threads: u32) -> Option<i32> {
        let mut command = self.command(Path::new("prlimit"));
        command.arg(format!("--nproc={threads}:")).arg(self.programs.path().join("mysimbdp"));
        command.arg("--config").arg(root.config()).args(words).current_dir("/").stdin(Stdio::null());
        Process::spawn(command).wait(SOON).code()
    }

    /// Starts a process of the platform with this added to its environment.
    pub(crate) fn start_with(&self, root: &Root, kind: &str, env: &[(&str, &str)]) -> Process {
        let mut command = self.command(&self.programs.path().join("mysimbdp"));
        command.arg("--config").arg(root.config()).arg(kind).current_dir(root.path());
        command.envs(env.iter().copied()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Process::spawn(command)
    }

    /// Sets the number of the user's processes and threads above which this process of the user's may start none.
    /// Without a number it is as high as the system allows.
    pub(crate) fn limit_threads(&self, process: u32, most: Option<u32>) {
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).expect("limits");
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max processes")).expect("a limit");
        let highest = limit.split_ascii_whitespace().nth(1).expect("the hard limit");
        let most = most.map_or(highest.to_owned(), |most| most.to_string());
        let mut prlimit = self.command(Path::new("prlimit"));
        prlimit.args(["--pid", &process.to_string(), &format!("--nproc={most}:")]).current_dir("/");
        assert!(prlimit.output().expect("prlimit runs").status.success(), "it may not be limited");
    }

    /// Whether a process of the same user can read a file of `/proc`.
    fn can_read(&self, path: &str) -> bool {
        let mut cat = self.command(Path::new("cat"));
        cat.arg(path).current_dir("/").output().expect("cat runs").status.success()
    }
}

#[test]
fn a_process_that_knows_passwords_can_be_neither_dumped_nor_read_by_its_own_user() {
    let root = root(json!([client("client1", "cat > /dev/null")]));
    let user = Unprivileged::new(root.path());
    let mut fetchdata = user.start(&root, "fetchdata", "mqtt://somebody:secret@127.0.0.1:1");
    until(SOON, "fetchdata has started", || root.log("fetchdata.log").contains("fetchdata: started"));
    let process = format!("/proc/{}", fetchdata.id());
    assert!(user.can_read(&format!("{process}/stat")), "it runs");
    for secret in ["environ", "maps", "auxv"] {
        assert!(!user.can_read(&format!("{process}/{secret}")), "{secret} can be read");
    }
    let limits = fs::read_to_string(format!("{process}/limits")).expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_ascii_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    assert!(!root.log("fetchdata.log").contains("secret"), "the password is in the log");
    assert!(fetchdata.terminate(SOON).success());
}

/// A manager cannot look into its own processes either; it recognises its instances nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_without_privileges_adopts_instances_that_it_cannot_read() {
    let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([keyed_stream("client3")])).await;
    let user = Unprivileged::new(platform.root.path());
    let shared = mosquitto();
    let broker = shared.url();
    let mut killed = user.start(&platform.root, "stream-manager", broker);
    let before = platform.until_instances("client3", 1).await;
    until(SOON, "the instance is connected", || {
        platform.root.log("clients/client3/stream.log").contains("connected to the broker")
    });
    assert!(!user.can_read(&format!("/proc/{}/environ", before[0])), "the instance can be read");
    killed.kill9();

    let mut next = user.start(&platform.root, "stream-manager", broker);
    assert_eq!(platform.until_instances("client3", 1).await, before, "the same process");
    mysimbdp_testbed::Mosquitto::publish(broker, &platform.ingest_topic("client3"), &messages(0, 10));
    platform.until_stored("client3", "readings", 10, SOON).await;
    next.signal(Signal::TERM);
    assert!(next.wait(SOON).success());
    until_async(LOADED, "nothing is left", async || !Path::new(&format!("/proc/{}", before[0])).exists())
        .await;
}
