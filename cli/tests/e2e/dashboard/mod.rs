//! The dashboard in a browser, with the platform behind it: each test walks through what a person does.

mod access;
mod accessibility;
mod data;
mod files;
mod hostile;
mod restart;
mod screenshots;
mod streams;
mod troubles;

use mysimbdp_testbed::{Browser, Mosquitto, binary, until};
use serde_json::{Value, json};

use crate::serving::Served;
use crate::support::SOON;

/// The platform, and its page in a browser.
pub(crate) struct Page {
    pub(crate) served: Served,
    pub(crate) browser: Browser,
}

impl Page {
    /// Opens a view of the page, such as `#/files`.
    pub(crate) fn open(served: Served, view: &str) -> Self {
        let page = Self { served, browser: Browser::start() };
        page.browser.open(&format!("{}/{view}", page.served.http.url()));
        page.until_live();
        page
    }

    /// Goes to another view by its address.
    pub(crate) fn go(&self, view: &str) {
        self.browser.value(&format!("(location.hash = {}) && true", json!(view)));
    }

    pub(crate) fn until_live(&self) {
        self.browser.until("the page is live", "$('#connection').dataset.state === 'live'");
    }

    /// Waits until a place of the way of files shows this number.
    pub(crate) fn until_place(&self, place: &str, number: &str) {
        let expression = format!("$('[data-place={place}] .place-number').textContent === {}", json!(number));
        self.browser.until(&format!("{place} has {number} files"), &expression);
    }

    /// Waits until the list of files has exactly these names with their states, in any order.
    pub(crate) fn until_listed(&self, files: &[(&str, &str)]) {
        let listed = "$$('.file-list .vl-body [role=row]').map((row) => [$('.row-link bdi', row).textContent, $('.badge', row).dataset.state])";
        let expected = json!(files);
        self.browser.until(
            &format!("{expected} are listed"),
            &format!("JSON.stringify({listed}.sort()) === JSON.stringify({expected}.sort())"),
        );
    }

    /// Ends both, after the page has done nothing that no page may do.
    pub(crate) fn finish(self) {
        let host = self.served.http.url().strip_prefix("http://").expect("an address").to_owned();
        self.browser.finish(&host);
        self.served.stop();
    }
}

/// A client whose app stores documents once a file with this name is in the data root.
fn gated(id: &str, gate: &str) -> Value {
    let app = binary("document-app");
    let script = format!("until [ -e {gate} ]; do sleep 0.05; done; exec {}", app.display());
    json!({
        "id": id,
        "files": {"globs": ["*.csv"], "extensions": ["csv"]},
        "apps": [{"name": "documents", "command": ["sh", "-c", script], "collection": "readings"}],
    })
}

/// Opens what [`gated`] apps wait for.
fn open_gate(served: &Served, gate: &str) {
    std::fs::write(served.root.path().join(gate), "").expect("open the gate");
}

/// A client with an app that refuses everything until it is repaired, and then stores documents. What it says is `complaint`.
fn unrepaired(id: &str, complaint: &str) -> Value {
    let app = binary("document-app");
    let script =
        "if ! test -e repaired; then cat > /dev/null; printf '%s' \"$1\" >&2; exit 65; fi; exec \"$0\"";
    json!({
        "id": id,
        "apps": [{"name": "app", "command": ["sh", "-c", script, app, complaint], "collection": "records"}],
    })
}

/// A client whose records have a time that not all of them keep.
fn rejecting(id: &str) -> Value {
    json!({
        "id": id,
        "files": {"globs": ["*.csv"], "extensions": ["csv"]},
        "apps": [{"name": "times", "command": ["document-app", "--type", "time=date"], "rejects_max": "100%"}],
    })
}

/// A client with a stream, and a view of it whose windows of a second are published.
fn streaming(id: &str) -> Value {
    json!({
        "id": id,
        "streams": [{"name": "readings", "command": ["stream-app"], "instances": {"min": 1, "max": 3}}],
        "views": {"live": {
            "stream": "readings", "time": "at", "time_type": "text", "source": "station",
            "windows": {"lateness": "0s", "idle": "36500d", "publish": [{"size": "1s", "fields": ["temp"]}]},
        }},
    })
}

/// Publishes lines of JSON for a client's stream, once an instance runs.
fn publish(served: &Served, client: &str, lines: &str) {
    until(SOON, "the streams run", || {
        let streams = served.http.get("/api/streams").expect(200)["items"].clone();
        let streams = streams.as_array().cloned().unwrap_or_default();
        !streams.is_empty() && streams.iter().all(|stream| stream["instances"][0]["state"] == "running")
    });
    let state = std::fs::read(served.root.path().join("state/broker.json")).expect("a broker");
    let state: Value = serde_json::from_slice(&state).expect("JSON");
    let url = state["url"].as_str().expect("an address");
    Mosquitto::publish(url, &format!("mysimbdp/ingest/{client}/readings"), lines);
}

/// How many files are in a state, as the API says.
fn files_in(served: &Served, state: &str) -> usize {
    let list = served.http.get(&format!("/api/files?state={state}&limit=1000")).expect(200);
    list["items"].as_array().map_or(0, Vec::len)
}

fn until_files(served: &Served, state: &str, number: usize) {
    until(SOON, &format!("{number} files are {state}"), || files_in(served, state) == number);
}
