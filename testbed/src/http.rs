//! Requests to an HTTP server.

use serde_json::Value;

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Http {
    url: String,
    token: Option<String>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    /// What has arrived of the body.
    pub body: Vec<u8>,
    /// Whether the body broke off.
    pub is_broken: bool,
}

impl Http {
    /// A client of the server at `url`, without a token.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), token: None }
    }

    /// The same with a token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a GET request without further headers.
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], &[])
    }

    /// Sends a GET request that accepts this media type only.
    pub fn get_as(&self, path: &str, media_type: &str) -> Answer {
        self.request("GET", path, &[("accept", media_type)], &[])
    }

    /// Sends a request, and reads the whole answer.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_request(method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {}{path}: {error}", self.url))
    }

    /// Sends a request; returns an error if the server does not answer.
    ///
    /// # Errors
    ///
    /// There is no connection, or it ended before the head of an answer.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ureq::Error> {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(body.to_vec()).expect("a valid request");
        let mut answer = agent.run(request)?;
        let mut content = Vec::new();
        let read = std::io::copy(&mut answer.body_mut().as_reader(), &mut content);
        let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: content,
            is_broken: read.is_err(),
        })
    }
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body, which must be whole and UTF-8.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn text(&self) -> &str {
        assert!(!self.is_broken, "the body broke off: {}", String::from_utf8_lossy(&self.body));
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The body, which must be JSON.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The same; the status must be this one.
    ///
    /// # Panics
    ///
    /// If it is another one.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}
