//! Loads the config that a command uses.
//!
//! The functions differ in what happens if the file has problems, or if it names another data root, store or broker
//! than the processes that already run. The *config in use* is the one that these processes run with.
//!
//! | function | the file has problems | another data root | another store or broker |
//! |---|---|---|---|
//! | [`sound`] | fails | is not checked | is not checked |
//! | [`on_the_data_root`] | fails | fails | is not checked |
//! | [`of_a_process`] | fails, unless `up` starts the process again | likewise | is not checked |
//! | [`in_use`] | loads the config in use | loads the config in use | is not checked |
//! | [`in_use_on_the_data_root`] | loads the config in use | fails | is not checked |
//! | [`of_the_store`] | loads the config in use | fails | fails |

use std::path::Path;

use mysimbdp_config::Config;
use mysimbdp_config::process_status::{ConfigInUse, Found, find};
use mysimbdp_config::root_note::{self, Follower};
use mysimbdp_model::exit;
use mysimbdp_model::process_kind::ProcessKind;

use crate::error::Failure;

/// Loads the file, which must have no problems.
pub fn sound(file: &Path) -> Result<Config, Failure> {
    Config::load(file, variable).map_err(Failure::from)
}

/// Loads the file, for commands that deal with the processes that follow it: the file must name their data root.
pub fn on_the_data_root(file: &Path) -> Result<Config, Failure> {
    let config = sound(file)?;
    same_data_root(&config, file)?;
    Ok(config)
}

/// Loads the config with which one of the platform's processes starts. If `up` starts an ended process again,
/// `in_place_of` is the file that holds the config in use; that one is loaded if the other processes refuse `file`.
pub fn of_a_process(file: &Path, in_place_of: Option<&Path>) -> Result<Config, Failure> {
    match in_place_of {
        Some(in_use) => Config::load_again(file, in_use, variable).map_err(Failure::from),
        None => on_the_data_root(file),
    }
}

/// Loads the file; or, with a warning, the config in use while the file has problems or names another data root.
pub fn in_use(file: &Path) -> Result<Config, Failure> {
    on_the_data_root(file).or_else(|faulty| match Config::in_use(file, variable) {
        Some(config) => {
            eprintln!("mysimbdp: {faulty}");
            eprintln!(
                "mysimbdp: until that is mended, this goes by the config that the running processes use"
            );
            Ok(config)
        }
        None => Err(faulty),
    })
}

/// Loads the config for commands that read or write the store: it must be the store that the running processes use.
pub fn of_the_store(file: &Path) -> Result<Config, Failure> {
    let config = in_use_on_the_data_root(file)?;
    like_the_processes(&config, ConfigInUse::difference)?;
    Ok(config)
}

/// Loads the file, or the config in use while the file has problems. Fails if the file names another data root.
pub fn in_use_on_the_data_root(file: &Path) -> Result<Config, Failure> {
    match sound(file) {
        Ok(config) => same_data_root(&config, file).map(|()| config),
        Err(_) => in_use(file),
    }
}

/// Refuses a config with another data root than that of the processes that follow the file.
fn same_data_root(config: &Config, file: &Path) -> Result<(), Failure> {
    let root = config.layout.root();
    match root_note::follower(file).filter(|follower| follower.layout.root() != root) {
        None => Ok(()),
        Some(Follower { kind, process, layout }) => Err(Failure::new(
            exit::CONFIG,
            format!(
                "{} runs (pid {}): it has the data root {}, and not {} as here: set data_root as it is there, or stop it",
                kind.name(),
                process.pid,
                layout.root().display(),
                root.display()
            ),
        )),
    }
}

/// Refuses a config with another broker than the running processes use, for commands that need only the broker.
pub fn same_broker(config: &Config) -> Result<(), Failure> {
    like_the_processes(config, ConfigInUse::broker_difference)
}

/// Refuses a config if `differs` finds a difference to the config of a running process.
fn like_the_processes(
    config: &Config,
    differs: impl Fn(&ConfigInUse, &Config) -> Option<String>,
) -> Result<(), Failure> {
    for kind in ProcessKind::CONFIG_USERS {
        // Another user may not be allowed to read the status of the processes; then nothing can be compared.
        if let Ok(Found::Running(process, Some(reported))) = find(&config.layout, kind)
            && let Some(difference) = differs(&reported.config, config)
        {
            let text = format!("{} runs (pid {}): {difference}", kind.name(), process.pid);
            return Err(Failure::new(exit::CONFIG, text));
        }
    }
    Ok(())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
