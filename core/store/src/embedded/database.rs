//! The file `<directory>/<database>.sqlite`: opened when it is needed, and again when it has been replaced.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::modes;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::failure::Failure;
use super::index;
use super::schema::Schema;

/// How long to wait for another process that writes; each of its transactions takes well under a second.
const BUSY_SECONDS: u64 = 30;

/// `document` is JSON text or BSON, see [`super::text`]; `id` is a key that sorts as in MongoDB, see [`crate::key`];
/// `ranges` are the parts of objects that have been synced.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS documents (
        collection TEXT NOT NULL, id BLOB NOT NULL, document ANY NOT NULL, PRIMARY KEY (collection, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS validators (collection TEXT PRIMARY KEY, schema TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS ranges (
        bucket TEXT NOT NULL, id BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (bucket, id, first)
    ) STRICT, WITHOUT ROWID;
";

/// A database that may be open.
#[derive(Debug)]
pub(super) struct Database {
    directory: PathBuf,
    name: String,
    open: Option<Open>,
}

/// Device, inode and time of creation: a new file may have the inode of a removed one.
pub(super) type FileIdentity = (u64, u64, Option<SystemTime>);

/// A database that is open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: Connection,
    /// The directory of this database's objects.
    pub(super) objects: PathBuf,
    /// Compiled validators by collection, with the text that they were compiled from.
    pub(super) schemas: HashMap<String, (String, Arc<Schema>)>,
    /// A removed file can still be written to, and everything written to it would be lost.
    file: FileIdentity,
}

impl Database {
    pub(super) fn new(directory: PathBuf, name: String) -> Self {
        Self { directory, name, open: None }
    }

    /// Runs a job on the database, and opens it first if necessary.
    pub(super) fn with<T>(
        &mut self,
        job: impl FnOnce(&mut Open) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.open.as_ref().is_some_and(|open| self.identity() != Some(open.file)) {
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            closed => closed.insert(Open::new(&self.directory, &self.name)?),
        };
        let result = job(open);
        if result.as_ref().is_err_and(Failure::is_transient) {
            self.open = None;
        }
        result
    }

    fn identity(&self) -> Option<FileIdentity> {
        identity(&file(&self.directory, &self.name)).ok()
    }
}

impl Open {
    fn new(directory: &Path, name: &str) -> Result<Self, Failure> {
        // What is stored here is promised to survive, and so must the name of the directory.
        files::create_dir_all_durable(directory)?;
        // Turning on the write-ahead log does not wait for other processes, unlike everything else, so one process at a
        // time sets the file up. That takes milliseconds, and the lock ends with its holder.
        let lock_path = directory.join(format!("{name}.lock"));
        modes::create_private_file(&lock_path)?;
        let lock = files::append(&lock_path)?;
        lock.lock().map_err(|source| FileError { action: "lock", path: lock_path, source })?;

        let path = file(directory, name);
        // SQLite gives its other files the mode of the database. Those of an earlier version may be open to others.
        modes::create_private_file(&path)?;
        for suffix in ["sqlite-wal", "sqlite-shm"] {
            modes::close_path_to_others(&directory.join(format!("{name}.{suffix}")));
        }
        let connection = Connection::open(&path)?;
        connection.busy_timeout(Duration::from_secs(BUSY_SECONDS))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // A commit is on disk when it returns: "stored" is a promise.
        connection.pragma_update(None, "synchronous", "full")?;
        connection.execute_batch(TABLES)?;
        connection.execute_batch(index::TABLES)?;
        let objects = directory.join(format!("{name}.objects"));
        Ok(Self { connection, objects, schemas: HashMap::new(), file: identity(&path)? })
    }

    /// Returns what distinguishes this file from one that replaces it.
    pub(super) fn identity(&self) -> FileIdentity {
        self.file
    }

    /// Removes all its files. The next job creates the database again.
    pub(super) fn remove(&self) -> Result<(), FileError> {
        if files::exists(&self.objects) {
            files::remove_dir_all(&self.objects)?;
        }
        for suffix in ["sqlite-wal", "sqlite-shm", "sqlite", "lock"] {
            files::remove_file_if_exists(&self.objects.with_extension(suffix))?;
        }
        Ok(())
    }

    /// Starts a transaction that may write from the start: one that asks for that later cannot wait for other writers.
    pub(super) fn transaction(&mut self) -> Result<Transaction<'_>, Failure> {
        Ok(self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }
}

fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.sqlite"))
}

fn identity(path: &Path) -> Result<FileIdentity, FileError> {
    files::metadata(path).map(|metadata| (metadata.dev(), metadata.ino(), metadata.created().ok()))
}
