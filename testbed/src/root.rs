//! A data root in a temporary directory.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A data root, removed when dropped.
#[derive(Debug)]
pub struct Root {
    directory: TempDir,
    config: PathBuf,
}

impl Root {
    /// Creates a data root with this configuration.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn new(config: &Value) -> Self {
        Self::within(&std::env::temp_dir(), config)
    }

    /// The same below `parent`, such as a directory on another file system.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn within(parent: &Path, config: &Value) -> Self {
        let directory = TempDir::with_prefix_in("mysimbdp-root-", parent).expect("temporary directory");
        let path = directory.path().join("config.json");
        let root = Self { directory, config: path };
        root.configure(config);
        root
    }

    /// Replaces the configuration. Unless it says otherwise, files are taken however little space is left on this machine.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn configure(&self, config: &Value) {
        let mut config = config.clone();
        if let Some(fetchdata) = config
            .as_object_mut()
            .and_then(|config| config.entry("fetchdata").or_insert_with(|| json!({})).as_object_mut())
        {
            fetchdata.entry("free_space_min").or_insert_with(|| json!("0B"));
        }
        std::fs::write(self.config(), format!("{config:#}")).expect("write config.json");
    }

    /// Keeps the directory when this value is dropped, to analyse a failure.
    pub fn keep(&mut self) -> &Path {
        self.directory.disable_cleanup(true);
        self.directory.path()
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn config(&self) -> PathBuf {
        self.config.clone()
    }

    /// From now on programs are given this path of the config.
    pub fn set_config(&mut self, config: PathBuf) {
        self.config = config;
    }

    pub fn drop_directory(&self, client: &str) -> PathBuf {
        self.path().join("client-input-directory").join(client)
    }

    /// Drops a file as a careful sender does: under a temporary name, then renamed.
    pub fn drop_file(&self, client: &str, name: &str, content: &[u8]) -> PathBuf {
        let directory = self.drop_directory(client);
        std::fs::create_dir_all(&directory).expect("create the drop directory");
        let temporary = directory.join(format!(".{name}.part"));
        std::fs::write(&temporary, content).expect("write a file");
        let target = directory.join(name);
        std::fs::rename(&temporary, &target).expect("rename a file");
        target
    }

    /// Returns the names of the entries of a directory below the root, sorted, without those that begin with a dot; none if the
    /// directory does not exist.
    pub fn list(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path().join(directory)).into_iter().flatten();
        let names =
            entries.map(|entry| entry.expect("a directory entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort_unstable();
        names
    }

    /// Returns all `reason.json` of a client's discarded or held files.
    pub fn reasons(&self, state: &str, client: &str) -> Vec<Value> {
        let directory = format!("{state}/{client}");
        let read = |name: &String| {
            let text = std::fs::read(self.path().join(&directory).join(name).join("reason.json")).ok()?;
            serde_json::from_slice(&text).ok()
        };
        self.list(&directory).iter().filter_map(read).collect()
    }

    /// Returns the text of a log file, empty if there is none.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join("logs").join(name)).unwrap_or_default()
    }
}
