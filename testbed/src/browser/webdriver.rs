//! The WebDriver protocol, as far as it is needed: <https://www.w3.org/TR/webdriver2/>.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::Http;

/// The name of the field with the id of an element, as the protocol defines it.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser session of a driver.
#[derive(Debug)]
pub(super) struct Session {
    http: Http,
    path: String,
}

/// Why the driver or the page refuses a command.
#[derive(Debug)]
pub(super) struct Refusal {
    code: String,
    message: String,
}

impl Session {
    /// Starts a browser with these capabilities.
    pub(super) fn start(driver: &str, capabilities: &Value) -> Result<Self, Refusal> {
        let http = Http::new(driver);
        let body = json!({"capabilities": {"alwaysMatch": capabilities}});
        let started = send(&http, "POST", "/session", &body)?;
        let id = started["sessionId"].as_str().unwrap_or_default();
        Ok(Self { path: format!("/session/{id}"), http })
    }

    pub(super) fn go(&self, url: &str) -> Result<Value, Refusal> {
        self.post("url", &json!({"url": url}))
    }

    pub(super) fn reload(&self) -> Result<Value, Refusal> {
        self.post("refresh", &json!({}))
    }

    /// Runs a script; it ends with the call of its last argument if it `is_async`.
    pub(super) fn run(&self, script: &str, is_async: bool) -> Result<Value, Refusal> {
        let path = if is_async { "execute/async" } else { "execute/sync" };
        self.post(path, &json!({"script": script, "args": []}))
    }

    /// A picture of what can be seen, as PNG.
    pub(super) fn picture(&self) -> Result<Vec<u8>, Refusal> {
        let picture = send(&self.http, "GET", &format!("{}/screenshot", self.path), &Value::Null)?;
        STANDARD.decode(picture.as_str().unwrap_or_default()).map_err(|error| Refusal::new(error.to_string()))
    }

    pub(super) fn click(&self, selector: &str) -> Result<Value, Refusal> {
        self.with_element(selector, "click", &json!({}))
    }

    pub(super) fn clear(&self, selector: &str) -> Result<Value, Refusal> {
        self.with_element(selector, "clear", &json!({}))
    }

    /// Types text, or the paths of files for an input of files, one per line.
    pub(super) fn type_into(&self, selector: &str, text: &str) -> Result<Value, Refusal> {
        self.with_element(selector, "value", &json!({"text": text}))
    }

    /// Presses all of these keys in order, then releases them in reverse order.
    pub(super) fn press(&self, keys: &[char]) -> Result<Value, Refusal> {
        let action = |kind: &str, key: &char| json!({"type": kind, "value": key.to_string()});
        let down = keys.iter().map(|key| action("keyDown", key));
        let up = keys.iter().rev().map(|key| action("keyUp", key));
        let actions: Vec<Value> = down.chain(up).collect();
        self.post("actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}))
    }

    /// A command of the DevTools protocol, which only chromedriver passes on.
    pub(super) fn devtools(&self, command: &str, parameters: &Value) -> Result<Value, Refusal> {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// What was logged since this was last asked; only chromedriver tells.
    pub(super) fn log(&self, kind: &str) -> Result<Value, Refusal> {
        self.post("se/log", &json!({"type": kind}))
    }

    fn with_element(&self, selector: &str, command: &str, body: &Value) -> Result<Value, Refusal> {
        let found = self.post("element", &json!({"using": "css selector", "value": selector}))?;
        let id = found[ELEMENT].as_str().unwrap_or_default();
        self.post(&format!("element/{id}/{command}"), body)
    }

    fn post(&self, command: &str, body: &Value) -> Result<Value, Refusal> {
        send(&self.http, "POST", &format!("{}/{command}", self.path), body)
    }
}

fn send(http: &Http, method: &str, path: &str, body: &Value) -> Result<Value, Refusal> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let headers = [("content-type", "application/json")];
    let answer =
        http.try_request(method, path, &headers, &body).map_err(|error| Refusal::new(error.to_string()))?;
    let mut document: Value =
        serde_json::from_slice(&answer.body).map_err(|error| Refusal::new(error.to_string()))?;
    let value = document["value"].take();
    if answer.status == 200 {
        return Ok(value);
    }
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    Err(Refusal { code: text("error"), message: text("message") })
}

impl Refusal {
    fn new(message: String) -> Self {
        Self { code: String::new(), message }
    }

    /// Whether the page has opened a dialog of `alert` or the like.
    pub(super) fn is_alert(&self) -> bool {
        self.code == "unexpected alert open"
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.code, self.message)
    }
}
