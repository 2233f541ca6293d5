//! The directory and database of a program under test, both removed at the end.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use mysimbdp_config::COREDMS_VARIABLE;
use mysimbdp_model::exit;
use mysimbdp_platform::process::{find_program, kill_left_behind};
use mysimbdp_platform::{files, random};
use mysimbdp_store::Coredms;

use crate::error::CommandError;

/// The program, its directory and its store.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) coredms_url: String,
    pub(super) database: String,
    pub(super) store: Arc<dyn Coredms>,
    pub(super) directory: PathBuf,
    /// The current directory, in which the program runs: its data root.
    pub(super) data_root: PathBuf,
}

impl Sandbox {
    pub(super) async fn open(command: &[String]) -> Result<Self, CommandError> {
        let data_root = std::env::current_dir().map_err(|error| CommandError::of(exit::IO, &error))?;
        let Some((program, args)) = command.split_first() else {
            return Err(CommandError::new(exit::USAGE, "no command given"));
        };
        let program =
            find_program(program, &data_root).map_err(|error| CommandError::of(exit::NO_INPUT, &error))?;
        let directory = std::env::temp_dir().join(format!("mysimbdp-check-{:08x}", random::number() as u32));
        let coredms_url = std::env::var(COREDMS_VARIABLE)
            .unwrap_or_else(|_| format!("sqlite:{}", directory.join("coredms").display()));
        let database = format!("mysimbdp_check_{:08x}", random::number() as u32);
        files::create_dir_all(&directory)?;
        let store = match mysimbdp_store::open(&coredms_url, &database).await {
            Ok(store) => store,
            Err(error) => {
                files::remove_dir_all(&directory)?;
                return Err(error.into());
            }
        };
        let args = args.iter().map(OsString::from).collect();
        Ok(Self { program, args, coredms_url, database, store, directory, data_root })
    }

    /// The process tag by which processes of the program are found and killed.
    pub(super) fn owner(&self) -> String {
        format!("check-app {}", self.directory.display())
    }

    /// Removes everything, including the database in the store.
    pub(super) async fn close(self) -> Result<(), CommandError> {
        // A program that is being killed could still create a file.
        kill_left_behind(&self.owner()).await;
        self.store.drop_database().await?;
        self.store.close().await;
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Only a temporary directory: nothing depends on its removal.
        let _ = files::remove_dir_all(&self.directory);
    }
}
