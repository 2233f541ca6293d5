//! What is left to blame: records that are missing or there twice, and files that lie where they should not.

use std::fmt;
use std::path::Path;

use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::Client;
use mysimbdp_testbed::Root;

use crate::load::Sent;
use crate::world::{COLLECTION, SPLIT, STREAM, WORKER, World};

/// What is not as it should be. Empty: nothing was lost and nothing doubled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residue {
    /// Records that were handed over and are nowhere.
    pub missing: u64,
    /// Documents beyond the first of a record.
    pub doubled: u64,
    /// Records that the log they came from does not hold: taken before their writer had them on disk.
    pub unwritten: u64,
    /// Records that were refused, of which the load has none.
    pub rejected: u64,
    /// Files that are not where ingested ones are: gone.
    pub stranded: Vec<String>,
    /// What the platform's own proof found.
    pub reconcile: Option<String>,
}

impl Residue {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Looks into the database.
#[derive(Clone, Debug)]
pub struct Judge {
    client: Client,
    name: String,
}

impl Judge {
    /// # Panics
    ///
    /// If the server's address is none.
    pub async fn new(world: &World) -> Self {
        let client = Client::with_uri_str(world.database_url()).await.expect("a valid address");
        Self { client, name: world.database_name.clone() }
    }

    /// Whether everything has come that was sent.
    pub async fn has_all(&self, sent: &Sent) -> bool {
        for (client, wanted) in sent.records() {
            // A database that is away has nothing.
            if self.count(client, COLLECTION).await.is_none_or(|count| count < wanted) {
                return false;
            }
        }
        true
    }

    /// Compares what was sent with what there is.
    ///
    /// # Panics
    ///
    /// If the database does not answer.
    pub async fn residue(&self, world: &World, sent: &Sent) -> Residue {
        let mut residue = Residue::default();
        for (client, wanted) in sent.records() {
            residue.add(&self.copies(client).await, wanted);
        }
        for client in [SPLIT, WORKER, STREAM] {
            residue.rejected += self.count(client, "rejected").await.expect("count");
        }
        residue.stranded = stranded(&world.root);
        let (code, printed) = world.reconcile();
        residue.reconcile = (code != Some(0)).then_some(printed);
        residue
    }

    async fn count(&self, client: &str, collection: &str) -> Option<u64> {
        self.collection(client, collection).count_documents(doc! {}).await.ok()
    }

    /// For each record that is there: how many documents it has.
    async fn copies(&self, client: &str) -> Vec<u64> {
        let record = doc! {"station": "$station", "n": "$n"};
        let group = doc! {"$group": {"_id": record, "copies": {"$sum": 1_i64}}};
        let found = self.collection(client, COLLECTION).aggregate([group]).await.expect("count the copies");
        let groups: Vec<Document> = found.try_collect().await.expect("count the copies");
        groups.iter().map(|group| group.get_i64("copies").unwrap_or_default().unsigned_abs()).collect()
    }

    fn collection(&self, client: &str, collection: &str) -> mongodb::Collection<Document> {
        self.client.database(&format!("{}_{client}", self.name)).collection(collection)
    }
}

impl Residue {
    /// Adds what differs where each record should have one document.
    fn add(&mut self, copies: &[u64], wanted: u64) {
        let found = copies.len() as u64;
        self.missing += wanted.saturating_sub(found);
        self.unwritten += found.saturating_sub(wanted);
        self.doubled += copies.iter().map(|copies| copies - 1).sum::<u64>();
    }
}

/// What lies below the root that is neither ingested nor the platform's own.
fn stranded(root: &Root) -> Vec<String> {
    let mut found = Vec::new();
    for directory in ["client-input-directory", "staging", "held", "discarded"] {
        files_below(&root.path().join(directory), &mut found);
    }
    found
}

/// A lock, or what fetchdata says of itself.
fn is_the_platforms(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lock") || path.ends_with(".fetchdata.json")
}

fn files_below(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            files_below(&path, found);
        } else if !is_the_platforms(&path) {
            found.push(path.display().to_string());
        }
    }
}

impl fmt::Display for Residue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, doubled, unwritten, rejected, stranded, reconcile } = self;
        write!(
            f,
            "{missing} records missing, {doubled} doubled, {unwritten} unwritten, {rejected} refused, {} files stranded",
            stranded.len()
        )?;
        stranded.iter().try_for_each(|file| write!(f, "\n  {file}"))?;
        match reconcile {
            None => write!(f, ", reconcile agrees"),
            Some(printed) => write!(f, "\nreconcile disagrees:\n{printed}"),
        }
    }
}
