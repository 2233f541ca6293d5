//! The HTTP server.

use mysimbdp_model::units::{ByteSize, Period};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The HTTP server of `mysimbdp serve`, which `up` starts too.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Serving {
    /// The address to listen on, such as `127.0.0.1:8080` or `[::]:8443`; port 0 is any free one. Without it, the first free port of 127.0.0.1 from 8080 on.
    /// An address that other hosts can reach requires `tokens_file`, and `tls` or `allow_plaintext`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Makes it accept HTTPS only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Whether other hosts may connect without TLS, for example through a proxy that ends it: tokens and data can then be read on the way.
    pub allow_plaintext: bool,
    /// File with the tokens that requests must bear, relative to the data root. Only the platform's user may be able to read it. Without it, every user of this host may read and operate everything over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_file: Option<String>,
    /// Names under which clients reach the server, such as `ingest.example.org`, in addition to its address and `localhost`. Requests for other names are refused unless they bear a token: a web page could otherwise make its readers' browsers send them.
    pub host_names: Vec<String>,
    /// Connections at the same time; further ones wait.
    #[schemars(range(min = 1, max = 65536))]
    pub connections_max: u32,
    /// Open event streams at the same time; further ones get 503.
    #[schemars(range(min = 1, max = 65536))]
    pub event_streams_max: u32,
    /// A request must arrive as a whole, and its answer be taken, without a pause of this length.
    pub idle_timeout: Period,
    /// A query that has no answer by then ends with 503, for example while the store hangs.
    pub query_timeout: Period,
    /// Largest body of a request other than a dropped file, whose limits are those of its client.
    pub body_bytes_max: ByteSize,
    /// Memory for computed windows, so that a repeated query need not read the records again. `"0B"`: none are kept.
    pub windows_bytes_max: ByteSize,
}

/// Certificate and key, in PEM files relative to the data root.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate, followed by the intermediate ones.
    pub certificate: String,
    /// The private key of the certificate. Only the platform's user may be able to read it.
    pub key: String,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            listen: None,
            tls: None,
            allow_plaintext: false,
            tokens_file: None,
            host_names: Vec::new(),
            connections_max: 2048,
            event_streams_max: 1024,
            idle_timeout: Period::seconds(60),
            query_timeout: Period::seconds(30),
            body_bytes_max: ByteSize::bytes(1 << 20),
            windows_bytes_max: ByteSize::bytes(64 << 20),
        }
    }
}
