//! Semantics of the settings of the HTTP server: what other hosts can reach needs tokens, and TLS unless it is waived.

use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};

use super::location::Path;
use super::problems::Problems;
use super::settings;

/// Where and for whom the HTTP server listens.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    /// `None`: the first free port of 127.0.0.1 from 8080 on.
    pub listen: Option<SocketAddr>,
    pub tls: Option<TlsFiles>,
    pub tokens_file: Option<PathBuf>,
}

/// The files of a TLS server.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub(super) fn compile(problems: &mut Problems<'_>, settings: &settings::Serving, root: &FilePath) -> Serving {
    let section = Path::default().key("serving");
    let path = section.key("listen");
    let listen = settings.listen.as_deref().and_then(|text| match text.parse::<SocketAddr>() {
        Ok(address) => Some(address),
        Err(_) => {
            let expected = "expected an IP address and a port, such as 127.0.0.1:8080 or [::]:8443";
            problems.value(&path, format!("invalid address {text:?}: {expected}"));
            None
        }
    });
    if let Some(address) = listen.filter(|address| !address.ip().is_loopback()) {
        if settings.tokens_file.is_none() {
            problems.value(
                &path,
                format!("other hosts can reach {address}: expected serving.tokens_file, so that requests need a token"),
            );
        }
        if settings.tls.is_none() && !settings.allow_plaintext {
            problems.value(
                &path,
                format!("other hosts can reach {address}: expected serving.tls, or serving.allow_plaintext if TLS ends elsewhere"),
            );
        }
    }
    Serving {
        listen,
        tls: settings
            .tls
            .as_ref()
            .map(|tls| TlsFiles { certificate: root.join(&tls.certificate), key: root.join(&tls.key) }),
        tokens_file: settings.tokens_file.as_ref().map(|file| root.join(file)),
    }
}
