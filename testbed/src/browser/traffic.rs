//! What a page has asked for, and what went wrong in it.

use serde_json::Value;

#[derive(Debug, Default)]
pub(super) struct Traffic {
    errors: Vec<String>,
    urls: Vec<String>,
    expected: Vec<String>,
}

impl Traffic {
    /// Adds the entries of one of the browser's logs.
    pub(super) fn add(&mut self, log: &str, entries: &Value) {
        for entry in entries.as_array().into_iter().flatten() {
            let message = entry["message"].as_str().unwrap_or_default();
            if log == "browser" {
                // Also violations of the policy.
                if entry["level"] == "SEVERE" {
                    self.errors.push(format!("{}: {message}", entry["source"].as_str().unwrap_or_default()));
                }
            } else if let Some(url) = requested(message) {
                self.urls.push(url);
            }
        }
    }

    pub(super) fn expect_errors(&mut self, part: &str) {
        self.expected.push(part.to_owned());
    }

    pub(super) fn errors(&self) -> Vec<String> {
        let is_expected = |error: &&String| self.expected.iter().any(|part| error.contains(part));
        self.errors.iter().filter(|error| !is_expected(error)).cloned().collect()
    }

    /// Errors that are not expected, and requests to others than `host`.
    pub(super) fn problems(&self, host: &str) -> Vec<String> {
        let own = [format!("http://{host}/"), format!("blob:http://{host}/"), "data:".to_owned()];
        let is_own = |url: &&String| own.iter().any(|own| url.starts_with(own));
        let elsewhere = self.urls.iter().filter(|url| !is_own(url)).map(|url| format!("request to {url}"));
        self.errors().into_iter().chain(elsewhere).collect()
    }
}

/// The address of a request, if this entry of the performance log is about one.
fn requested(message: &str) -> Option<String> {
    let event: Value = serde_json::from_str(message).ok()?;
    let event = &event["message"];
    let (method, parameters) = (&event["method"], &event["params"]);
    // The browser's own pages ask the browser.
    let is_page = !parameters["documentURL"].as_str()?.starts_with("chrome:");
    let url = parameters["request"]["url"].as_str()?;
    (is_page && method == "Network.requestWillBeSent").then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_and_requests_to_others_are_problems() {
        let request = |url: &str| {
            let parameters = json!({"documentURL": "http://a:1/", "request": {"url": url}});
            let event = json!({"method": "Network.requestWillBeSent", "params": parameters});
            json!({"level": "INFO", "message": json!({"message": event}).to_string()})
        };
        let error = |text: &str| json!({"level": "SEVERE", "source": "network", "message": text});
        let mut traffic = Traffic::default();
        traffic.expect_errors("status of 401");
        traffic
            .add("performance", &json!([request("http://a:1/x"), request("http://b/"), {"message": "{}"}]));
        traffic.add(
            "browser",
            &json!([error("the status of 401"), error("other"), {"level": "INFO", "message": "x"}]),
        );
        assert_eq!(traffic.problems("a:1"), ["network: other", "request to http://b/"]);
    }
}
