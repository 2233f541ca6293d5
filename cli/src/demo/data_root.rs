//! The demo's data root, with its configuration and files.

use std::path::{Path, PathBuf};

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::{files, random};
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath};
use serde_json::{Value, json};

use crate::error::CommandError;

/// The configuration that the project ships.
const CONFIG: &str = include_str!("../../../config.json");
/// Hourly weather at three New York airports in 2013, 26,115 rows.
pub const WEATHER: &str = include_str!("../../../samples/weather.csv");

pub const OBJECTS: &str = "client1";
pub const DOCUMENTS: &str = "client2";
pub const STREAM: &str = "client3";

/// The data root that a demo runs on, and its config.
#[derive(Debug)]
pub struct DemoRoot {
    pub config: Config,
    pub config_file: PathBuf,
    /// The demo has created the directory, so it removes it at the end.
    temporary: bool,
}

impl DemoRoot {
    /// Creates the data root. The database and the topic prefix have a random name, so that the demo disturbs nothing
    /// on a real server and can be repeated there.
    ///
    /// `configure` changes the shipped configuration further.
    pub fn prepare(data_root: Option<&Path>, configure: fn(&mut Value)) -> Result<Self, CommandError> {
        let name = format!("mysimbdp_demo_{:08x}", random::number() as u32);
        let root = data_root.map_or_else(|| std::env::temp_dir().join(&name), Path::to_owned);
        files::create_dir_all(&root)?;
        let config_file = root.join("config.json");
        if files::exists(&config_file) {
            return Err(CommandError::new(
                exit::USAGE,
                format!("{} is already a data root: expected an empty directory", root.display()),
            ));
        }
        files::write_atomic(&config_file, &Self::config_text(&name, configure)?)?;
        let config = Config::load(&config_file, |name| std::env::var(name).ok())?;
        Ok(Self { config, config_file, temporary: data_root.is_none() })
    }

    fn config_text(name: &str, configure: fn(&mut Value)) -> Result<Vec<u8>, CommandError> {
        let mut config: Value =
            serde_json::from_str(CONFIG).map_err(|error| CommandError::of(exit::SOFTWARE, &error))?;
        if let Some(settings) = config.as_object_mut() {
            settings.remove("$schema");
            settings.remove("data_root");
        }
        config["coredms"]["database"] = json!(name);
        config["broker"]["topic_prefix"] = json!(name);
        // Small, so that a file of two megabytes becomes several micro-batches.
        config["clients"][1]["micro_batching"]["block_size"] = json!("500kB");
        // Short, so that the timing table has reports in it.
        config["stream_manager"]["report_every"] = json!("2s");
        configure(&mut config);
        serde_json::to_vec_pretty(&config).map_err(|error| CommandError::of(exit::SOFTWARE, &error))
    }

    /// Drops one file for each batch client, and one file that its client's rules refuse.
    pub fn drop_files(&self) -> Result<(), CommandError> {
        self.drop_file(OBJECTS, "weather.csv", WEATHER.as_bytes())?;
        self.drop_file(DOCUMENTS, "weather.csv", WEATHER.as_bytes())?;
        self.drop_file(DOCUMENTS, "weather.pdf", b"%PDF-1.4 is not an extension that client2 may send")
    }

    pub fn drop_file(&self, client: &str, name: &str, content: &[u8]) -> Result<(), CommandError> {
        let client = self.client(client)?;
        let path = DropPath::of_client(&client.id, Lane::Live).join(name.as_ref());
        let drop_directory = DropDirectory::open_or_create(&self.config.layout)?;
        let directory = drop_directory.open_or_create_directory(&path.parent())?;
        Ok(directory.write(".demo.part".as_ref(), content, &directory, path.name())?)
    }

    pub fn rows(&self) -> u64 {
        WEATHER.lines().count() as u64 - 1
    }

    pub fn client(&self, id: &str) -> Result<&mysimbdp_config::Client, CommandError> {
        let id: ClientId = id.parse().map_err(|error| CommandError::of(exit::SOFTWARE, &error))?;
        self.config.client(&id).ok_or_else(|| {
            CommandError::new(exit::SOFTWARE, format!("client {id} is missing from the demo's config"))
        })
    }

    pub fn remove(self) -> Result<(), CommandError> {
        if self.temporary {
            files::remove_dir_all(self.config.layout.root())?;
        }
        Ok(())
    }

    /// Returns the path of the data root, which is not removed.
    pub fn keep(self) -> PathBuf {
        self.config.layout.root().to_owned()
    }
}
