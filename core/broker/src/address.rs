//! The address of a broker, with the credentials for it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use fluent_uri::Uri;
use fluent_uri::component::Authority;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::BrokerError;

/// Besides letters beyond ASCII.
const NOT_IN_URIS: AsciiSet = CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A broker's address: `mqtt://[user:password@]host[:port]`, or `mqtts://…` for TLS.
///
/// Displayed without user and password, so that it may appear in logs and errors.
#[derive(Clone)]
pub struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) credentials: Option<(String, String)>,
    tls: bool,
}

impl Address {
    /// Returns the TLS connector for `mqtts`; reads the system's root certificates.
    pub(super) fn tls(&self) -> Result<Option<TlsConnector>, BrokerError> {
        if !self.tls {
            return Ok(None);
        }
        // `SSL_CERT_FILE` and `SSL_CERT_DIR` name others, such as those of a private authority.
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls_error = |reason: String| BrokerError::Tls { address: self.to_string(), reason };
        if roots.is_empty() {
            return Err(tls_error("this system has no root certificates".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| tls_error(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(TlsConnector::from(Arc::new(config))))
    }
}

impl FromStr for Address {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        let refused = || BrokerError::Address(without_credentials(text));
        let uri = uri(text).ok_or_else(refused)?;
        let (tls, default_port) = match uri.scheme().as_str().to_ascii_lowercase().as_str() {
            "mqtt" => (false, 1883),
            "mqtts" => (true, 8883),
            _ => return Err(refused()),
        };
        let authority =
            uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(refused)?;
        if !matches!(uri.path().as_str(), "" | "/") || uri.has_query() || uri.has_fragment() {
            return Err(refused());
        }
        let port = authority.port_to_u16().map_err(|_| refused())?.unwrap_or(default_port);
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let credentials =
            user(authority).map(|(user, password)| (decoded(user), decoded(password.unwrap_or_default())));
        Ok(Self { host: authority.host().to_owned(), port, credentials, tls })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "mqtts" } else { "mqtt" }, self.host, self.port)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns a broker's address with this password in place of the one that it may have; `None` if it is not an address or
/// names no user.
pub fn with_password(url: &str, password: &str) -> Option<String> {
    let uri = uri(url)?;
    let (user, _) = user(uri.authority()?)?;
    let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
    // What precedes the first `@` is the user, with the former password.
    let (_, host) = uri.as_str().split_once('@')?;
    Some(format!("{}://{user}:{password}@{host}", uri.scheme()))
}

/// Returns whether the address contains a password.
pub fn has_password(url: &str) -> bool {
    uri(url).is_some_and(|uri| uri.authority().and_then(user).is_some_and(|(_, password)| password.is_some()))
}

/// Parses an address. Characters that a URI may not contain are encoded: in a password people write them as they are.
fn uri(text: &str) -> Option<Uri<String>> {
    let (scheme, remainder) = text.split_once("://")?;
    let remainder = match remainder.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.replace('@', "%40")),
        None => remainder.to_owned(),
    };
    Uri::parse(format!("{scheme}://{}", utf8_percent_encode(&remainder, &NOT_IN_URIS))).ok()
}

/// Returns user and password as they are written, percent-encoded; `None` if no user is named.
fn user<'a>(authority: Authority<'a>) -> Option<(&'a str, Option<&'a str>)> {
    let userinfo = authority.userinfo()?.as_str();
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (userinfo, None),
    };
    (!user.is_empty()).then_some((user, password))
}

/// Returns the text without what precedes an `@`: an address with a mistake in it may still contain a password.
pub(super) fn without_credentials(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        (None, Some((_, host))) => format!("…@{host}"),
        (_, None) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn an_address_has_a_default_port_for_each_scheme() {
        assert_eq!(parse("mqtt://localhost").to_string(), "mqtt://localhost:1883");
        assert_eq!(parse("mqtts://broker.example/").to_string(), "mqtts://broker.example:8883");
        assert_eq!(parse("mqtt://[::1]:1884").to_string(), "mqtt://[::1]:1884");
    }

    #[test]
    fn credentials_are_parsed_and_never_shown() {
        let address = parse("mqtt://us%40er:p%3Ass@host:1");
        assert_eq!(address.credentials, Some(("us@er".to_owned(), "p:ss".to_owned())));
        assert_eq!(format!("{address} {address:?}"), "mqtt://host:1 mqtt://host:1");
        let address = parse("MQTT://us er:p^ß@|{s}@host");
        assert_eq!(address.credentials, Some(("us er".to_owned(), "p^ß@|{s}".to_owned())));
        let error = "mqt://user:secret@host".parse::<Address>().expect_err("unknown scheme").to_string();
        assert!(error.contains("host") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_separately_given_password_is_sent_to_the_broker() {
        let password = "p%41 s:s/w@rd?#ü";
        for url in ["mqtts://us%40er@host:1", "mqtts://us%40er:former@host:1"] {
            let complete = with_password(url, password).expect("it names a user");
            assert!(has_password(&complete));
            let address = parse(&complete);
            assert_eq!(address.credentials, Some(("us@er".to_owned(), password.to_owned())));
            assert_eq!(address.to_string(), "mqtts://host:1");
        }
        for url in ["mqtt://host:1", "host", ""] {
            assert_eq!((with_password(url, password), has_password(url)), (None, false), "{url}");
        }
        assert!(!has_password("mqtt://user@host"));
    }

    #[test]
    fn an_invalid_address_is_refused() {
        for text in [
            "",
            "localhost",
            "localhost:1883",
            "http://h",
            "mqtt://",
            "mqtt://h:99999",
            "mqtt://h/x",
            "mqtt://h?a=b",
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains("mqtt://"), "{error}");
        }
    }
}
