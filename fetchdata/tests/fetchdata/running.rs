//! A data root with fetchdata running on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_config::Config;
use mysimbdp_fetchdata::Error;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_spool::staging;
use mysimbdp_testbed::{Root, until_async};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use mysimbdp_testbed::SOON as DEADLINE;

pub(crate) const SETTLE: Duration = Duration::from_millis(150);

/// fetchdata in this process.
pub(crate) struct Running {
    pub(crate) root: Root,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), Error>>,
}

/// One client `client1` that accepts csv, ndjson, json and txt; `changes` override its settings.
pub(crate) fn config(changes: Value) -> Value {
    let app = json!({"name": "documents", "command": ["document-app"]});
    let mut client =
        json!({"id": "client1", "apps": [app], "files": {"extensions": ["csv", "ndjson", "json", "txt"]}});
    merge(&mut client, changes);
    json!({
        "fetchdata": {
            "settle": format!("{}ms", SETTLE.as_millis()),
            "scan_every": "1s",
            // The tests do not depend on the free space of the machine that runs them.
            "free_space_min": "0B",
        },
        "clients": [client],
    })
}

fn merge(value: &mut Value, changes: Value) {
    match (value, changes) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(fields.entry(name).or_insert(Value::Null), change);
            }
        }
        (value, change) => *value = change,
    }
}

impl Running {
    /// With the default [`config`].
    pub(crate) fn start() -> Self {
        Self::with(&config(json!({})))
    }

    pub(crate) fn with(config: &Value) -> Self {
        Self::on(Root::new(config))
    }

    pub(crate) fn on(root: Root) -> Self {
        let config = Config::load(&root.config(), |_| None).unwrap_or_else(|faults| panic!("{faults}"));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(mysimbdp_fetchdata::run(Arc::new(config), stopped));
        Self { root, stop, task }
    }

    /// Stops fetchdata gracefully and keeps the data root.
    pub(crate) async fn stop(self) -> Root {
        self.stop.send(true).expect("fetchdata receives the signal");
        self.task.await.expect("fetchdata does not panic").expect("fetchdata ends without an error");
        self.root
    }

    pub(crate) async fn until_staged(&self, files: usize) -> Vec<Staged> {
        until_async(DEADLINE, &format!("{files} files are staged"), async || {
            staged(&self.root).len() >= files
        })
        .await;
        staged(&self.root)
    }

    pub(crate) async fn until_discarded(&self, client: &str, files: usize) -> Vec<Value> {
        let condition = async || self.root.reasons("discarded", client).len() >= files;
        until_async(DEADLINE, &format!("{files} files are discarded"), condition).await;
        self.root.reasons("discarded", client)
    }

    /// The one file that is staged.
    pub(crate) async fn one_staged(&self) -> Staged {
        let mut staged = self.until_staged(1).await;
        assert_eq!(staged.len(), 1, "{staged:?}");
        staged.remove(0)
    }

    /// All reasons of the one file that is discarded.
    pub(crate) async fn one_discarded(&self, client: &str) -> Vec<String> {
        let reasons = self.until_discarded(client, 1).await;
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        let reasons = reasons[0]["reasons"].as_array().expect("reasons");
        reasons.iter().map(|reason| reason.as_str().expect("text").to_owned()).collect()
    }
}

/// A staged file.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) directory: PathBuf,
    pub(crate) manifest: Manifest,
}

/// Everything that is published in staging.
pub(crate) fn staged(root: &Root) -> Vec<Staged> {
    let layout = Layout::new(root.path());
    let mut found = Vec::new();
    for client in staging::clients(&layout).expect("staging can be listed") {
        for ingestion in staging::ingestions(&layout, &client).expect("staging can be listed") {
            let directory = layout.staged(&client, ingestion);
            let manifest = staging::read_manifest(&directory).expect("published directories are complete");
            found.push(Staged { directory, manifest });
        }
    }
    found
}

impl Staged {
    /// The content, assembled from prefix and micro-batches, each verified against its checksum.
    pub(crate) fn content(&self) -> Vec<u8> {
        let mut content = Vec::new();
        let parts = self.directory.join(Layout::PARTS);
        if self.manifest.prefix.length > 0 {
            let from = if parts.exists() {
                parts.join(Layout::PREFIX_PART)
            } else {
                self.directory.join(&self.manifest.file)
            };
            content.extend_from_slice(&read(&from)[..self.manifest.prefix.length as usize]);
        }
        for batch in &self.manifest.micro_batches {
            let file = read(&self.directory.join(&batch.path));
            let start = if batch.path.starts_with(Layout::PARTS) { 0 } else { batch.offset as usize };
            let range = &file[start..start + batch.length as usize];
            assert_eq!(batch.xxh3, format!("{:016x}", xxhash_rust::xxh3::xxh3_64(range)));
            content.extend_from_slice(range);
        }
        assert_eq!(self.manifest.blake3, blake3::hash(&content).to_string());
        content
    }
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// The files in the drop directory that do not have a temporary name.
pub(crate) fn dropped(root: &Root) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root.path().join("client-input-directory")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("drop directory can be listed") {
            let path = entry.expect("entry").path();
            if path.is_dir() && !path.is_symlink() {
                directories.push(path);
            } else if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                found.push(path);
            }
        }
    }
    found
}
