//! The address of a broker, with the credentials for it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use url::Url;

use super::BrokerError;

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
        let url = Url::parse(text).map_err(|_| refused())?;
        let (tls, default_port) = match url.scheme() {
            "mqtt" => (false, 1883),
            "mqtts" => (true, 8883),
            _ => return Err(refused()),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(refused)?.to_owned();
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(refused());
        }
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let credentials = match url.username() {
            "" => None,
            user => Some((decoded(user), decoded(url.password().unwrap_or_default()))),
        };
        Ok(Self { host, port: url.port().unwrap_or(default_port), credentials, tls })
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
    let mut url = Url::parse(url).ok().filter(|url| !url.username().is_empty())?;
    // Encoded here, because the URL would take a `%` in it as already encoded.
    let encoded = utf8_percent_encode(password, NON_ALPHANUMERIC).to_string();
    url.set_password(Some(&encoded)).ok()?;
    Some(url.into())
}

/// Returns whether the address contains a password.
pub fn has_password(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.password().is_some())
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
