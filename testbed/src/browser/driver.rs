//! A chromedriver with its browser, and the commands that only it knows.

use std::fmt::Debug;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

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
    pub(super) fn start(runtime: &Runtime) -> (Self, Client) {
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
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities(&browser, &profile));
            match runtime.block_on(builder.connect(&url)) {
                Ok(client) => return (Self { _process: process, directory }, client),
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

fn capabilities(browser: &Path, profile: &Path) -> Map<String, Value> {
    let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
    arguments.push(format!("--user-data-dir={}", profile.display()));
    let capabilities = json!({
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
    });
    match capabilities {
        Value::Object(capabilities) => capabilities,
        _ => unreachable!("it is an object"),
    }
}

/// A command of chromedriver that WebDriver does not define.
#[derive(Debug)]
pub(super) struct Command {
    path: &'static str,
    body: Value,
}

impl Command {
    /// A command of the DevTools protocol.
    pub(super) fn devtools(name: &str, parameters: &Value) -> Self {
        Self { path: "goog/cdp/execute", body: json!({"cmd": name, "params": parameters}) }
    }

    /// What was logged since this was last asked.
    pub(super) fn log(kind: &str) -> Self {
        Self { path: "se/log", body: json!({"type": kind}) }
    }
}

impl WebDriverCompatibleCommand for Command {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}
