//! Drops files safely: a file is visible to fetchdata only when it is complete and durable, and replaces no other file.
//!
//! 1. [`DropTarget::open`] checks that something would take the client's files;
//! 2. [`DropTarget::begin`] creates a file under a name that fetchdata ignores;
//! 3. [`Upload::write`] adds its bytes;
//! 4. [`Upload::finish`] makes it durable, and only then gives it its name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};

use jiff::Timestamp;
use mysimbdp_config::{Client, Config};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::{Hasher, IngestionId};
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::{clock, random};
use mysimbdp_spool::drop_directory::{Directory, DropDirectory, DropPath, Existing, FileStatus};

use crate::error::QueryError;
use crate::file_outcome::{self, Dropped};
use crate::free_name;

/// Ends the names of unfinished files.
const SUFFIX: &str = ".part";

/// The most bytes that a file name may have on Linux.
const NAME_BYTES_MAX: usize = 255;

/// Where files of one client are dropped.
#[derive(Debug)]
pub struct DropTarget<'a> {
    config: &'a Config,
    client: &'a Client,
    drop_directory: DropDirectory,
    path: DropPath,
    is_fetchdata_running: bool,
    /// Begins the names of files that are not finished.
    prefix: &'static str,
    /// False if nobody waits for the end of the files, or if the store has failed to answer before.
    asks_history: bool,
}

/// A file that is being dropped. Unless it is finished, it is removed.
#[derive(Debug)]
pub struct Upload<'a> {
    config: &'a Config,
    client: &'a Client,
    drop_directory: &'a DropDirectory,
    asks_history: &'a mut bool,
    target: DropPath,
    file: File,
    temporary: Temporary,
    hasher: Hasher,
    since: Timestamp,
}

/// A file under a name that fetchdata ignores.
#[derive(Debug)]
struct Temporary {
    folder: Directory,
    name: OsString,
}

/// Removes the files that a process was killed over, and that nobody will finish.
///
/// # Errors
///
/// The drop directory cannot be read.
pub fn remove_unfinished(config: &Config, prefix: &str) -> Result<(), QueryError> {
    let drop_directory = match DropDirectory::open(&config.layout) {
        Err(error) if error.is_not_found() => return Ok(()),
        opened => opened?,
    };
    let folders = config
        .clients
        .keys()
        .flat_map(|client| [Lane::Live, Lane::Backfill].map(|lane| DropPath::of_client(client, lane)));
    for path in folders {
        // A client may have made its folder unreadable, or removed it.
        let Ok(folder) = drop_directory.directory(&path) else { continue };
        for name in folder.names().unwrap_or_default() {
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(prefix.as_bytes()) && bytes.ends_with(SUFFIX.as_bytes()) {
                let _ = folder.remove_file(&name);
            }
        }
    }
    Ok(())
}

impl<'a> DropTarget<'a> {
    /// Checks that fetchdata would take the client's files.
    ///
    /// # Errors
    ///
    /// - [`QueryError::UnknownClient`];
    /// - [`QueryError::NotFound`]: the client has no batch app;
    /// - [`QueryError::TryLater`]: the running fetchdata has another configuration, without the client;
    /// - the drop directory cannot be created or read.
    pub fn open(config: &'a Config, client: &ClientId, lane: Lane) -> Result<Self, QueryError> {
        let drop_directory = DropDirectory::open_or_create(&config.layout)?;
        let path = DropPath::of_client(client, lane);
        let client =
            config.client(client).ok_or_else(|| QueryError::unknown_client(config, client.as_str()))?;
        let id = &client.id;
        if client.apps.is_empty() {
            let problem = format!("{id} has no batch app, so nothing takes its files");
            return Err(QueryError::NotFound(problem));
        }
        let accepted = drop_directory.accepted_clients()?;
        if let Some(accepted) = accepted.as_ref().filter(|accepted| !accepted.clients.contains(id)) {
            return Err(QueryError::TryLater(format!(
                "the running fetchdata (pid {}) takes no files of {id}: its configuration differs",
                accepted.process.pid
            )));
        }
        let is_fetchdata_running = accepted.is_some();
        let prefix = ".drop-";
        Ok(Self { config, client, drop_directory, path, is_fetchdata_running, prefix, asks_history: true })
    }

    /// Does not ask the store for earlier runs of the files: nobody will wait for their end.
    #[must_use]
    pub fn without_history(mut self) -> Self {
        self.asks_history = false;
        self
    }

    /// Begins the names of unfinished files with `prefix`, a dot first, so that [`remove_unfinished`] finds them. Only one process
    /// at a time may use it.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &'static str) -> Self {
        self.prefix = prefix;
        self
    }

    /// If not, the files wait until fetchdata is started, and then for a configuration that has the client.
    pub fn is_fetchdata_running(&self) -> bool {
        self.is_fetchdata_running
    }

    /// Refuses a name that no file can have, or whose file fetchdata would never take.
    ///
    /// # Errors
    ///
    /// [`QueryError::InvalidData`].
    pub fn check_name(&self, name: &OsStr) -> Result<(), QueryError> {
        let refused = |problem| Err(QueryError::InvalidData(format!("{} {problem}", name.to_string_lossy())));
        if !is_file_name(name) {
            return refused(format!(
                "is not a file name: expected at most {NAME_BYTES_MAX} bytes without a slash"
            ));
        }
        free_name::never_taken(self.client, name)
            .map_or(Ok(()), |why| refused(format!("would wait forever: {why}")))
    }

    /// Begins a file that is to be dropped with this name.
    ///
    /// # Errors
    ///
    /// Those of [`DropTarget::check_name`]; the file or its folder cannot be created.
    pub fn begin(&mut self, name: &OsStr) -> Result<Upload<'_>, QueryError> {
        self.check_name(name)?;
        let folder = self.drop_directory.open_or_create_directory(&self.path)?;
        let since = clock::now();
        let temporary = OsString::from(format!("{}{:016x}{SUFFIX}", self.prefix, random::number()));
        let file = folder.create(&temporary)?;
        Ok(Upload {
            config: self.config,
            client: self.client,
            drop_directory: &self.drop_directory,
            asks_history: &mut self.asks_history,
            target: self.path.join(name),
            file,
            temporary: Temporary { folder, name: temporary },
            hasher: Hasher::new(),
            since,
        })
    }
}

impl Upload<'_> {
    /// Adds bytes at the end.
    ///
    /// # Errors
    ///
    /// They cannot be written, for example because the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), QueryError> {
        self.file.write_all(bytes).map_err(QueryError::Upload)?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Makes the file durable and gives it its name. If a file of that name still waits, it gets another one.
    ///
    /// # Errors
    ///
    /// [`QueryError::TryLater`] if all similar names are in use; the file cannot be made durable or renamed.
    pub async fn finish(self) -> Result<Dropped, QueryError> {
        let Self { config, client, drop_directory, asks_history, target, file, temporary, hasher, since } =
            self;
        // fetchdata takes no file that is open for writing, so it is closed before it gets its name.
        sync(file).await.map_err(QueryError::Upload)?;
        let ingestion = IngestionId::new(&client.id, &hasher.finalize());
        let earlier_runs = earlier_runs(config, asks_history, ingestion, since).await;
        let (target, earlier_receipt) = temporary.publish(client, drop_directory, &target)?;
        let bytes = hasher.count();
        Ok(Dropped { target, ingestion, bytes, since, earlier_runs, earlier_receipt })
    }
}

impl Temporary {
    /// Gives the file its name, or a free one. Returns its path, and the receipt that an earlier file of this name has
    /// left.
    fn publish(
        self,
        client: &Client,
        drop_directory: &DropDirectory,
        target: &DropPath,
    ) -> Result<(DropPath, Option<FileStatus>), QueryError> {
        let mut earlier_receipt = None;
        let folder = &self.folder;
        let destination = free_name::Destination { folder, client: Some(client), keeps_name: false };
        let called = free_name::first_free(destination, target.name(), |name| {
            earlier_receipt = drop_directory.receipt_status(&target.parent().join(name));
            folder.rename(&self.name, folder, name, Existing::Keep)
        })?;
        folder.sync()?;
        Ok((target.parent().join(&called), earlier_receipt))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Once published, it no longer has this name. A leftover only wastes space: fetchdata ignores it.
        let _ = self.folder.remove_file(&self.name);
    }
}

/// Makes the file durable and closes it, on a thread that may block.
async fn sync(file: File) -> io::Result<()> {
    tokio::task::spawn_blocking(move || file.sync_all()).await.map_err(io::Error::other)?
}

/// Returns when the last earlier run of the content ended. If the store does not answer, returns the time at which the
/// drop began.
async fn earlier_runs(
    config: &Config,
    asks_history: &mut bool,
    ingestion: IngestionId,
    since: Timestamp,
) -> bson::DateTime {
    if *asks_history {
        match file_outcome::last_run(config, ingestion).await {
            Ok(run) => return run.map_or(bson::DateTime::MIN, |run| run.finished_at),
            Err(_) => *asks_history = false,
        }
    }
    bson::DateTime::from_millis(since.as_millisecond())
}

fn is_file_name(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    !matches!(bytes, b"" | b"." | b"..")
        && bytes.len() <= NAME_BYTES_MAX
        && !bytes.iter().any(|byte| matches!(byte, b'/' | b'\0'))
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::error_kind::ErrorKind;
    use mysimbdp_platform::files;

    use super::*;

    fn config() -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().expect("temporary directory");
        let file = folder.path().join("config.json");
        let text = r#"{"clients": [{"id": "a", "apps": [{"name": "app", "command": ["x"]}]}, {"id": "b", "streams": [{"command": ["x"]}]}]}"#;
        files::write_atomic(&file, text.as_bytes()).expect("config can be written");
        let config = Config::load(&file, |_| None).unwrap_or_else(|faults| panic!("{faults}"));
        (folder, config)
    }

    fn client(id: &str) -> ClientId {
        id.parse().expect("client id")
    }

    /// The names in the client's folder, without those that fetchdata ignores.
    fn visible(target: &DropTarget) -> (Vec<OsString>, usize) {
        let names = target.drop_directory.directory(&target.path).expect("folder").names().expect("names");
        let (mut visible, ignored): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| free_name::never_taken(target.client, name).is_none());
        visible.sort_unstable();
        (visible, ignored.len())
    }

    #[tokio::test]
    async fn a_file_is_visible_only_when_it_is_finished_and_replaces_no_other() {
        let (folder, config) = config();
        let mut target = DropTarget::open(&config, &client("a"), Lane::Live).expect("target");
        assert!(!target.is_fetchdata_running());
        for (content, name) in [("a\n1\n", "data.csv"), ("a\n2\n", "data-2.csv")] {
            drop(target.begin(OsStr::new("abandoned.csv")).expect("begun"));
            let before = visible(&target).0;
            let mut upload = target.begin(OsStr::new("data.csv")).expect("begun");
            for piece in content.as_bytes().chunks(3) {
                upload.write(piece).expect("written");
            }
            let folder_now = upload.temporary.folder.names().expect("names");
            assert_eq!(folder_now.len(), before.len() + 1, "{folder_now:?}");
            assert!(folder_now.iter().all(|one| one != name), "{folder_now:?}");
            let dropped = upload.finish().await.expect("finished");
            assert_eq!(dropped.target, DropPath::of_client(&client("a"), Lane::Live).join(OsStr::new(name)));
            let mut hasher = Hasher::new();
            hasher.update(content.as_bytes());
            assert_eq!(dropped.ingestion, IngestionId::new(&client("a"), &hasher.finalize()));
            assert_eq!((dropped.bytes, dropped.earlier_runs), (4, bson::DateTime::MIN));
            let path = folder.path().join(dropped.target.to_string());
            assert_eq!(files::read(&path).expect("the file"), content.as_bytes());
        }
        assert_eq!(visible(&target), (vec!["data-2.csv".into(), "data.csv".into()], 0));
    }

    #[test]
    fn what_nothing_would_take_is_refused_before_the_first_byte() {
        let (_folder, config) = config();
        for (id, part) in [("b", "b has no batch app"), ("c", "unknown client \"c\"")] {
            let error = DropTarget::open(&config, &client(id), Lane::Live).expect_err(part);
            assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains(part), "{error}");
        }
        let mut target = DropTarget::open(&config, &client("a"), Lane::Backfill).expect("target");
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["", ".", "..", "../a.csv", "/a", "a\0", &long, ".a.csv", "a.part", "a.csv.receipt.json"]
        {
            let error = target.begin(OsStr::new(name)).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{name}: {error}");
        }
        let this = mysimbdp_platform::process::ProcessId::current().pid;
        target.drop_directory.announce([client("b")].into()).expect("announced");
        let error = DropTarget::open(&config, &client("a"), Lane::Live).expect_err("another config");
        let expected =
            format!("the running fetchdata (pid {this}) takes no files of a: its configuration differs");
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Temporary, expected));
        target.drop_directory.announce([client("a")].into()).expect("announced");
        let target = DropTarget::open(&config, &client("a"), Lane::Live).expect("target");
        assert!(target.is_fetchdata_running());
    }

    /// An axum handler may be moved to another thread between two pieces of a body.
    #[test]
    fn a_file_can_be_dropped_from_any_thread() {
        fn require_send<T: Send>(value: T) -> T {
            value
        }
        let (_folder, config) = config();
        let _drop = require_send(async {
            let id = client("a");
            let mut target = DropTarget::open(&config, &id, Lane::Live)?;
            let mut upload = target.begin(OsStr::new("a.csv"))?;
            tokio::task::yield_now().await;
            upload.write(b"1")?;
            upload.finish().await
        });
    }
}
