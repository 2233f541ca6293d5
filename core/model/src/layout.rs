//! The directories below the data root. The directory that holds a file is the state of that file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::client::ClientId;
use crate::ingestion::IngestionId;
use crate::source::SourceName;

/// The data root, and the path of each directory below it.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    linked: Arc<BTreeSet<ClientId>>,
}

impl Layout {
    pub const MANIFEST: &'static str = "manifest.json";
    pub const OUTCOMES: &'static str = "outcomes";
    pub const PARTS: &'static str = "parts";
    /// The file in [`Layout::PARTS`] that holds the prefix of the parts, if they have one.
    pub const PREFIX_PART: &'static str = "prefix";
    /// Only `mysimbdp_spool::drop_directory` opens anything below it.
    pub const DROP: &'static str = "client-input-directory";
    pub const BACKFILL: &'static str = "backfill";
    /// Holds files that match no client's rules.
    pub const UNROUTED: &'static str = "_unrouted";

    /// With what the names of edges begin.
    pub const EDGE_PROCESS_PREFIX: &'static str = "edge.";

    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), linked: Arc::default() }
    }

    /// The same layout, but the folders of these clients may be symlinks.
    #[must_use]
    pub fn with_linked(self, clients: impl IntoIterator<Item = ClientId>) -> Self {
        Self { linked: Arc::new(clients.into_iter().collect()), ..self }
    }

    pub fn linked(&self) -> &Arc<BTreeSet<ClientId>> {
        &self.linked
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where files are dropped: in `<drop>/<client>` for a client, or directly in it to be routed by name.
    pub fn drop_directory(&self) -> PathBuf {
        self.root.join(Self::DROP)
    }

    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub fn staged(&self, client: &ClientId, ingestion: IngestionId) -> PathBuf {
        self.staging().join(client.as_str()).join(ingestion.to_string())
    }

    /// Where a staged directory is prepared; a rename to [`Layout::staged`] publishes it.
    pub fn staged_unpublished(&self, client: &ClientId, ingestion: IngestionId) -> PathBuf {
        self.staging().join(client.as_str()).join(format!(".{ingestion}"))
    }

    pub fn held_root(&self) -> PathBuf {
        self.root.join("held")
    }

    pub fn held(&self, client: &ClientId, ingestion: IngestionId) -> PathBuf {
        self.held_root().join(client.as_str()).join(ingestion.to_string())
    }

    pub fn archive_root(&self) -> PathBuf {
        self.root.join("archive")
    }

    pub fn archived(&self, client: &ClientId, ingestion: IngestionId) -> PathBuf {
        self.archive_root().join(client.as_str()).join(ingestion.to_string())
    }

    pub fn discarded_root(&self) -> PathBuf {
        self.root.join("discarded")
    }

    /// A new directory for a discarded file. The file may never have been read, and so have no ingestion id: the directory is
    /// named after the time and a random number.
    pub fn discarded(&self, client: Option<&ClientId>, received_at: Timestamp, random: u64) -> PathBuf {
        let client = client.map_or(Self::UNROUTED, ClientId::as_str);
        self.discarded_root()
            .join(client)
            .join(format!("{}-{random:016x}", received_at.strftime("%Y%m%dT%H%M%SZ")))
    }

    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Holds the address, pid and start time of the embedded broker that serves this data root.
    pub fn broker_state(&self) -> PathBuf {
        self.state().join("broker.json")
    }

    /// Holds the address, pid and start time of the HTTP server of this data root.
    pub fn serving_state(&self) -> PathBuf {
        self.state().join("serving.json")
    }

    pub fn embedded_broker(&self) -> PathBuf {
        self.state().join("broker")
    }

    pub fn embedded_store(&self) -> PathBuf {
        self.state().join("coredms")
    }

    /// The outbox of a numbered source that this host publishes.
    pub fn edge_outbox(&self, client: &ClientId, source: &SourceName) -> PathBuf {
        self.edges().join(client.as_str()).join(source.as_str())
    }

    /// The outboxes of all numbered sources of this host, by client.
    pub fn edges(&self) -> PathBuf {
        self.state().join("edge")
    }

    /// The text of the config that the running processes use.
    pub fn config_in_use(&self) -> PathBuf {
        self.state().join("config-in-use.json")
    }

    /// Messages that wait for the broker, each about an ingestion that has ended.
    pub fn outbox(&self) -> PathBuf {
        self.state().join("outbox")
    }

    /// One file for each running stream instance.
    pub fn instances(&self) -> PathBuf {
        self.state().join("instances")
    }

    /// The status files of running processes, for `mysimbdp status`.
    pub fn status_files(&self) -> PathBuf {
        self.state().join("signs")
    }

    /// The socket on which the stream-manager answers the command line on the same host.
    pub fn stream_manager_socket(&self) -> PathBuf {
        self.state().join("stream-manager.sock")
    }

    /// The sockets on which the running processes answer what they have counted.
    pub fn metrics(&self) -> PathBuf {
        self.state().join("metrics")
    }

    /// The name of the process that publishes a numbered source, as its socket and its samples have it. Unique, as the id of a
    /// client has no dot.
    pub fn edge_process(client: &ClientId, source: &SourceName) -> String {
        format!("{}{client}.{source}", Self::EDGE_PROCESS_PREFIX)
    }

    pub fn metrics_socket(&self, process: &str) -> PathBuf {
        self.metrics().join(format!("{process}.sock"))
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub fn client_logs(&self, client: &ClientId) -> PathBuf {
        self.logs().join("clients").join(client.as_str())
    }
}

/// The file of one work unit's outcome, in [`Layout::OUTCOMES`].
pub fn outcome_file(index: u32) -> String {
    format!("{index:05}.json")
}

/// The file of one micro-batch, in [`Layout::PARTS`].
pub fn part_file(index: u32) -> String {
    format!("{index:05}")
}
