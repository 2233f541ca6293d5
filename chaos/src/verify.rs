//! Verifies the result: finds records that are missing or duplicated, and files that are not where they should be.

use std::fmt;
use std::path::Path;

use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::Client;
use mysimbdp_testbed::Root;

use crate::load::Sent;
use crate::platform::{COLLECTION, SPLIT, STREAM, TestPlatform, WORKER};

/// The deviations that were found. Empty: nothing was lost or duplicated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residue {
    /// Records that were sent and are not stored.
    pub missing: u64,
    /// Documents beyond the first one of a record.
    pub duplicated: u64,
    /// Stored records that their log does not contain: they were read before their writer had them on disk.
    pub unwritten: u64,
    /// Records that were rejected; the load contains none that should be.
    pub rejected: u64,
    /// Files that are still there; ingested ones are removed.
    pub stranded: Vec<String>,
    /// What the platform's own proof, `reconcile`, found.
    pub reconcile: Option<String>,
}

impl Residue {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads the database.
#[derive(Clone, Debug)]
pub struct Verifier {
    client: Client,
    name: String,
}

impl Verifier {
    /// # Panics
    ///
    /// If the server's address is invalid.
    pub async fn new(platform: &TestPlatform) -> Self {
        let client = Client::with_uri_str(platform.database_url()).await.expect("a valid address");
        Self { client, name: platform.database_name.clone() }
    }

    /// Whether everything that was sent is stored.
    pub async fn has_all(&self, sent: &Sent) -> bool {
        for (client, expected) in sent.records() {
            // An unavailable database counts as empty.
            if self.count(client, COLLECTION).await.is_none_or(|count| count < expected) {
                return false;
            }
        }
        true
    }

    /// Compares what was sent with what is stored.
    ///
    /// # Panics
    ///
    /// If the database does not answer.
    pub async fn residue(&self, platform: &TestPlatform, sent: &Sent) -> Residue {
        let mut residue = Residue::default();
        for (client, expected) in sent.records() {
            residue.add(&self.copies(client).await, expected);
        }
        for client in [SPLIT, WORKER, STREAM] {
            residue.rejected += self.count(client, "rejected").await.expect("count");
        }
        residue.stranded = stranded(&platform.root);
        let (code, printed) = platform.reconcile();
        residue.reconcile = (code != Some(0)).then_some(printed);
        residue
    }

    async fn count(&self, client: &str, collection: &str) -> Option<u64> {
        self.collection(client, collection).count_documents(doc! {}).await.ok()
    }

    /// Returns the number of documents of each stored record.
    async fn copies(&self, client: &str) -> Vec<u64> {
        let record = doc! {"station": "$station", "n": "$n"};
        let group = doc! {"$group": {"_id": record, "copies": {"$sum": 1_i64}}};
        let found =
            self.collection(client, COLLECTION).aggregate([group]).await.expect("count the duplicates");
        let groups: Vec<Document> = found.try_collect().await.expect("count the duplicates");
        groups.iter().map(|group| group.get_i64("copies").unwrap_or_default().unsigned_abs()).collect()
    }

    fn collection(&self, client: &str, collection: &str) -> mongodb::Collection<Document> {
        self.client.database(&format!("{}_{client}", self.name)).collection(collection)
    }
}

impl Residue {
    /// Adds the deviations of a client, where each record should have exactly one document.
    fn add(&mut self, copies: &[u64], expected: u64) {
        let found = copies.len() as u64;
        self.missing += expected.saturating_sub(found);
        self.unwritten += found.saturating_sub(expected);
        self.duplicated += copies.iter().map(|copies| copies - 1).sum::<u64>();
    }
}

/// Returns the files below the root that are neither ingested nor the platform's own.
fn stranded(root: &Root) -> Vec<String> {
    let mut found = Vec::new();
    for directory in ["client-input-directory", "staging", "held", "discarded"] {
        files_below(&root.path().join(directory), &mut found);
    }
    found
}

/// Whether it is a lock, or fetchdata's status file.
fn belongs_to_platform(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lock") || path.ends_with(".fetchdata.json")
}

fn files_below(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            files_below(&path, found);
        } else if !belongs_to_platform(&path) {
            found.push(path.display().to_string());
        }
    }
}

impl fmt::Display for Residue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, duplicated, unwritten, rejected, stranded, reconcile } = self;
        write!(
            f,
            "{missing} records missing, {duplicated} duplicated, {unwritten} unwritten, {rejected} rejected, {} files stranded",
            stranded.len()
        )?;
        stranded.iter().try_for_each(|file| write!(f, "\n  {file}"))?;
        match reconcile {
            None => write!(f, ", reconcile agrees"),
            Some(printed) => write!(f, "\nreconcile disagrees:\n{printed}"),
        }
    }
}
