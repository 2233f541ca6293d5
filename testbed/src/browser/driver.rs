//! A chromedriver with its browser.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::webdriver::Session;
use crate::process::Process;
use crate::{Http, SOON, free_port, program, until};

/// A browser may fail to start while other processes keep all cores busy.
const STARTS_MAX: usize = 3;

/// No sandbox, as tests may run as root in a container; nothing that asks anybody else for something; and a pipe to chromedriver, so
/// that the browser ends with it, even if both it and the test are killed.
const ARGUMENTS: [&str; 10] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

#[derive(Debug)]
pub(super) struct Driver {
    // Before the directory, because fields are dropped in this order.
    _process: Process,
    directory: TempDir,
}

impl Driver {
    /// Starts a chromedriver, and a browser with an empty profile.
    #[track_caller]
    pub(super) fn start() -> (Self, Session) {
        let browser = program("chromium");
        let directory = TempDir::with_prefix("mysimbdp-browser-").expect("temporary directory");
        let log = directory.path().join("chromedriver.log");
        let port = free_port();
        let file = File::create(&log).expect("log of chromedriver");
        let mut command = std::process::Command::new(program("chromedriver"));
        command.arg(format!("--port={port}")).current_dir(&directory).env("TMPDIR", directory.path());
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a file more")).stderr(file);
        let mut process = Process::spawn(command);
        let url = format!("http://127.0.0.1:{port}");
        until(SOON, "chromedriver answers", || {
            let text = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(process.is_running(), "chromedriver has ended: {}", text());
            Http::new(&url).try_request("GET", "/status", &[], &[]).is_ok_and(|answer| answer.status == 200)
        });
        for start in 1.. {
            let profile = directory.path().join(format!("profile-{start}"));
            match Session::start(&url, &capabilities(&browser, &profile)) {
                Ok(session) => return (Self { _process: process, directory }, session),
                Err(error) if start < STARTS_MAX => eprintln!("chromium did not start, again: {error}"),
                Err(error) => {
                    let log = std::fs::read_to_string(&log).unwrap_or_default();
                    panic!("{} does not start: {error}\n{log}", browser.display());
                }
            }
        }
        unreachable!("the loop returns or panics")
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

fn capabilities(browser: &Path, profile: &Path) -> Value {
    let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
    arguments.push(format!("--user-data-dir={}", profile.display()));
    json!({
        "browserName": "chrome",
        // A test that meets a dialog of `alert` fails.
        "unhandledPromptBehavior": "ignore",
        "timeouts": {"script": SOON.as_millis() as u64, "pageLoad": SOON.as_millis() as u64},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        "goog:chromeOptions": {
            "binary": browser,
            "args": arguments,
            "perfLoggingPrefs": {"enableNetwork": true, "enablePage": false},
        },
    })
}
