//! `mysimbdp top` in a real terminal: what it shows, what keys do, and that the terminal is as before at every end.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mysimbdp_testbed::{Daemon, Process, Root, Signal, binary, descendants, signal, until};
use serde_json::json;

use crate::serving::access::{token, write_tokens};
use crate::serving::{Served, url};
use crate::support::{SOON, documents, run, stream};

/// A terminal of its own in which a shell runs. Dropping it ends everything in it.
struct Terminal {
    socket: PathBuf,
    _server: Process,
}

impl Terminal {
    fn start(root: &Root, columns: u16, lines: u16) -> Self {
        let socket = root.path().join("tmux");
        let installed = tmux(&["-V"]).output();
        assert!(installed.is_ok(), "tmux is not installed (`cargo xtask setup` installs it): {installed:?}");
        // In the foreground, so that it cannot outlive the test; it then begins without a session.
        let mut server = tmux(&["-D", "-u", "-f", "/dev/null", "-S", &socket.display().to_string()]);
        server.current_dir(root.path()).env_clear().env("LC_ALL", "C.UTF-8").env("PS1", "$ ");
        for name in ["PATH", "HOME"] {
            server.env(name, std::env::var_os(name).unwrap_or_default());
        }
        let server = Process::spawn(server);
        let terminal = Self { socket, _server: server };
        until(SOON, "tmux listens", || terminal.socket.exists());
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let directory = root.path().display().to_string();
        terminal.run(&["new-session", "-d", "-x", &columns, "-y", &lines, "-c", &directory, "sh"]);
        terminal
    }

    fn run(&self, command: &[&str]) -> String {
        let mut client = tmux(&["-u", "-S", &self.socket.display().to_string()]);
        let output = client.args(command).env("LC_ALL", "C.UTF-8").output().expect("tmux runs");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Starts `top`, and waits until it shows that it is live.
    fn start_top(&self, root: &Root, arguments: &str) {
        let program = binary("mysimbdp");
        let config = root.config();
        self.type_text(&format!(
            "{} --config {} top --interval 1s {arguments}; echo ended $?",
            program.display(),
            config.display()
        ));
        self.press("Enter");
        self.until(|screen| screen.contains("● live"));
    }

    fn type_text(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
    }

    fn press(&self, key: &str) {
        self.run(&["send-keys", key]);
    }

    fn resize(&self, columns: u16, lines: u16) {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]);
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as expected, and returns it.
    #[track_caller]
    fn until(&self, is_expected: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let screen = self.screen();
            if is_expected(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "the screen is not as expected:\n{screen}");
            sleep(Duration::from_millis(50));
        }
    }

    /// Waits until `top` has ended in this way, and checks that the terminal is as it was before.
    #[track_caller]
    fn until_restored(&self, code: u8) {
        let screen = self.until(|screen| screen.contains(&format!("ended {code}\n")));
        assert!(!screen.contains("● live"), "it is not the screen of before:\n{screen}");
        assert_eq!(self.run(&["display", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
        self.type_text("clear; stty -a");
        self.press("Enter");
        let modes = self.until(|screen| screen.contains("icanon"));
        assert!(modes.contains(" icanon") && modes.contains(" echo "), "{modes}");
    }

    /// The pid of the `top` that runs in it.
    fn top(&self) -> u32 {
        let shell = self.run(&["display", "-p", "#{pane_pid}"]).trim().parse().expect("a pid");
        let words = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_top = |pid: &u32| words(pid).split('\0').any(|word| word == "top");
        descendants(shell).into_iter().find(is_top).expect("top runs")
    }
}

fn tmux(arguments: &[&str]) -> Command {
    let mut tmux = Command::new("tmux");
    tmux.args(arguments).env_remove("TMUX");
    tmux
}

/// The line that begins with this.
fn row<'a>(screen: &'a str, begin: &str) -> &'a str {
    screen.lines().find(|line| line.starts_with(begin)).unwrap_or_default()
}

/// The numbers of a row.
fn numbers(row: &str) -> Vec<&str> {
    row.split_whitespace().skip(1).collect()
}

#[test]
fn it_shows_what_happens_and_what_needs_a_person_on_a_screen_of_any_size() {
    let mut client3 = stream("client3", json!({"name": "readings"}));
    client3["streams"][0]["command"] = json!(["stream-app"]);
    let served = Served::start(&json!({}), json!([documents("client1"), documents("client2"), client3]));
    let terminal = Terminal::start(&served.root, 80, 24);
    terminal.start_top(&served.root, "");
    let calm = terminal.until(|screen| screen.contains("✔ ready") && screen.contains("■ 1/1"));
    assert!(calm.contains("✔ nothing needs a person") && calm.contains("broker ok"), "{calm}");
    assert_eq!(calm.lines().count(), 24);

    served.root.drop_file("client1", "a.csv", b"a,b\n1,2\n");
    terminal.until(|screen| screen.contains("client1    ingested  a.csv: 1 stored"));
    let name = "<script>x\u{1b}]0;x\u{7}\n\u{202e}天気.exe";
    let path = served.root.drop_directory("client2").join(OsStr::from_bytes(name.as_bytes()));
    std::fs::write(path, "a,b\n1,2\n").expect("drop");
    let matter = r" ~ discarded   client2    <script>x%1B]0;x%07%0A\u{202e}天気.exe";
    let screen = terminal.until(|screen| {
        screen.contains(matter) && numbers(row(screen, " client2 ")).get(5..) == Some(&["1", "0"])
    });
    assert!(row(&screen, " Attention").ends_with("1 to know"), "{screen}");

    terminal.resize(40, 10);
    let small = terminal.until(|screen| screen.lines().count() == 10 && screen.contains(" q quit"));
    assert!(small.contains("▸Clients") && small.contains("held") && !small.contains("Streams"), "{small}");
    terminal.press("Tab");
    terminal.until(|screen| screen.contains("▸Streams") && screen.contains("client3/readings"));
    terminal.resize(80, 24);
    terminal.until(|screen| {
        screen.contains(" Clients") && screen.contains("▸Streams") && screen.contains(matter)
    });

    terminal.type_text("/client1");
    let narrowed = terminal.until(|screen| screen.contains("filter \"client1\""));
    let shows = |screen: &str, client: &str| screen.contains(&format!(" {client} "));
    assert!(shows(&narrowed, "client1") && !shows(&narrowed, "client2"), "{narrowed}");
    terminal.press("Escape");
    terminal.until(|screen| shows(screen, "client2") && !screen.contains("filter \""));
    terminal.type_text("?");
    terminal.until(|screen| screen.contains("next panel, previous panel"));
    terminal.type_text("?");

    terminal.type_text("p");
    terminal.until(|screen| screen.contains("‖ paused at"));
    served.root.drop_file("client1", "b.csv", b"a,b\n3,4\n");
    until(SOON, "it is ingested", || {
        served.http.get("/api/files?name=b.csv&state=ingested").json()["items"][0].is_object()
    });
    assert!(!terminal.screen().contains("b.csv"), "{}", terminal.screen());
    terminal.type_text("p");
    terminal.until(|screen| screen.contains("b.csv: 1 stored"));
    terminal.type_text("q");
    terminal.until_restored(0);
    served.stop();
}

#[test]
fn while_the_server_is_away_it_says_how_old_it_is_and_then_goes_on() {
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s"},
        "serving": {"listen": "127.0.0.1:0"},
        "clients": [documents("client1")],
    }));
    let others = ["broker", "fetchdata", "batch-manager", "stream-manager"]
        .map(|kind| Daemon::start(&root, &[kind], &[]));
    let start = || {
        let mut server = Daemon::start(&root, &["serve"], &[]);
        server.until_output(SOON, "listening");
        server
    };
    let mut server = start();
    let terminal = Terminal::start(&root, 80, 24);
    terminal.start_top(&root, "--client client1");
    root.drop_file("client1", "a.csv", b"a,b\n1,2\n");
    terminal.until(|screen| screen.contains("a.csv: 1 stored"));
    server.signal(Signal::KILL);
    let old =
        terminal.until(|screen| screen.contains("◌ reconnecting, as of") && screen.contains("! connection"));
    assert!(old.contains("a.csv: 1 stored"), "{old}");
    let _server = start();
    terminal.until(|screen| screen.contains("● live") && screen.contains("some events are missing"));
    root.drop_file("client1", "b.csv", b"a,b\n3,4\n");
    terminal.until(|screen| screen.contains("b.csv: 1 stored") && !screen.contains(" connection "));

    signal(terminal.top(), Signal::TERM);
    terminal.until_restored(0);
    drop(others);
}

#[test]
fn a_token_of_a_client_shows_that_client_alone() {
    let root = Root::new(&json!({
        "fetchdata": {"settle": "100ms", "scan_every": "1s"},
        "batch_manager": {"scan_every": "1s"},
        "serving": {"listen": "127.0.0.1:0", "tokens_file": "tokens.json"},
        "clients": [documents("client1"), documents("client2")],
    }));
    write_tokens(root.path(), &json!([token("own", Some("client1"), &["read"])]));
    std::fs::write(root.path().join("token"), "own\n").expect("write the token");
    let up = Daemon::start(&root, &["up"], &[]);
    let served = Served::of(root, up);
    for (client, name) in [("client2", "other.csv"), ("client1", "own.csv")] {
        served.root.drop_file(client, name, b"a,b\n\"1,2\n");
    }
    let terminal = Terminal::start(&served.root, 80, 24);
    terminal.start_top(&served.root, &format!("--token-file token --to {}", url(served.root.path())));
    let screen =
        terminal.until(|screen| screen.contains("own.csv: the quoted field") && screen.contains("✔ ready"));
    assert!(
        !screen.contains("client2") && !screen.contains("other.csv") && !screen.contains("broker ok"),
        "{screen}"
    );
    // The token is removed: what is shown is old, and why is said.
    write_tokens(served.root.path(), &json!([token("reader", None, &["read"])]));
    terminal.until(|screen| {
        screen.contains("◌ reconnecting, as of") && screen.contains("refuses (unauthorized)")
    });
    terminal.press("C-c");
    terminal.until_restored(0);
    served.stop();
}

#[test]
fn what_it_cannot_show_is_an_error_and_not_a_screen() {
    let served = Served::start(&json!({}), json!([documents("client1")]));
    let printed = run(&served.root, 64, &["top"]);
    assert!(printed.contains("`mysimbdp status`") && printed.contains("`mysimbdp tail`"), "{printed}");
    run(&served.root, 64, &["top", "--interval", "10ms"]);
    let terminal = Terminal::start(&served.root, 80, 24);
    for (arguments, code, expected) in [
        ("--client nobody", 66, "unknown client \"nobody\""),
        ("--to http://127.0.0.1:1", 69, "http://127.0.0.1:1 does not answer"),
    ] {
        let program = binary("mysimbdp");
        let config = served.root.config();
        terminal.type_text(&format!(
            "{} --config {} top {arguments}; echo ended $?",
            program.display(),
            config.display()
        ));
        terminal.press("Enter");
        let screen = terminal.until(|screen| screen.contains(&format!("ended {code}\n")));
        assert!(screen.replace('\n', "").contains(expected), "{screen}");
    }
    served.stop();
}
