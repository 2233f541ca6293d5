//! Why a question has no answer, or a request was refused.

use std::io;

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_platform::files::FileError;
use mysimbdp_spool::staging::StagingError;
use mysimbdp_spool::staging::content::ContentError;
use mysimbdp_store::CoredmsError;
use mysimbdp_store::history::UnreadableRun;

/// Why a question has no answer, or a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("unknown client {id:?}: expected one of {configured}")]
    UnknownClient { id: String, configured: String },
    /// What was requested is not allowed; the text says what is.
    #[error("{0}")]
    InvalidRequest(String),
    /// The text names what exists instead.
    #[error("{0}")]
    NotFound(String),
    /// What was found is damaged or obstructed, and needs a person.
    #[error("{0}")]
    InvalidData(String),
    /// The config does not allow it.
    #[error("{0}")]
    NotConfigured(String),
    #[error("{0}")]
    TryLater(String),
    /// The store, or what reads it, has not answered in time.
    #[error("{0}")]
    NoAnswer(String),
    /// Only the platform's user may read its files.
    #[error("only the platform's user or root may move files")]
    NotPermitted(#[source] FileError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Staging(#[from] StagingError),
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The bytes of a file that is being dropped cannot be written.
    #[error(transparent)]
    Upload(io::Error),
    #[error(transparent)]
    DamagedManifest(StagingError),
    #[error(transparent)]
    Store(#[from] CoredmsError),
    #[error(transparent)]
    History(#[from] UnreadableRun),
    /// Adds which ingestion the error concerns.
    #[error("{ingestion} of {client}")]
    OfContent {
        ingestion: IngestionId,
        client: ClientId,
        #[source]
        source: Box<QueryError>,
    },
}

impl QueryError {
    /// The config has no such client; the error lists those that it has.
    pub fn unknown_client(config: &Config, id: &str) -> Self {
        let configured: Vec<&str> = config.clients.keys().map(ClientId::as_str).collect();
        Self::UnknownClient { id: id.to_owned(), configured: configured.join(", ") }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownClient { .. } | Self::NotFound(_) => ErrorKind::NotFound,
            Self::InvalidRequest(_) => ErrorKind::InvalidRequest,
            Self::InvalidData(_) | Self::DamagedManifest(_) | Self::History(_) => ErrorKind::InvalidData,
            Self::NotConfigured(_) => ErrorKind::Configuration,
            Self::TryLater(_) => ErrorKind::Temporary,
            Self::NotPermitted(_) => ErrorKind::NotPermitted,
            Self::File(error) if error.is_not_found() => ErrorKind::NotFound,
            Self::File(_) | Self::Staging(_) | Self::Content(_) | Self::Upload(_) => ErrorKind::Io,
            Self::Store(_) | Self::NoAnswer(_) => ErrorKind::Unavailable,
            Self::OfContent { source, .. } => source.kind(),
        }
    }

    pub(crate) fn of_content(self, ingestion: IngestionId, client: &ClientId) -> Self {
        Self::OfContent { ingestion, client: client.clone(), source: Box::new(self) }
    }
}
