//! Loads the config that a command uses.
//!
//! The functions differ in what happens if the file has problems, or if it names another data root, store or broker
//! than the processes that already run. The *config in use* is the one that these processes run with.
//!
//! | function | the file has problems | another data root | another store or broker |
//! |---|---|---|---|
//! | [`valid`] | fails | is not checked | is not checked |
//! | [`with_same_root`] | fails | fails | is not checked |
//! | [`for_process`] | fails, unless `up` starts the process again | likewise | is not checked |
//! | [`in_use`] | loads the config in use | loads the config in use | is not checked |
//! | [`in_use_with_same_root`] | loads the config in use | fails | is not checked |
//! | [`with_same_store`] | loads the config in use | fails | fails |

use std::path::Path;

use mysimbdp_config::Config;
use mysimbdp_config::follower::{Follower, follower};
use mysimbdp_config::process_status::{ConfigInUse, Found, find};
use mysimbdp_model::exit;
use mysimbdp_model::process_kind::ProcessKind;

use crate::error::CommandError;

/// Loads the file, which must have no problems.
pub fn valid(file: &Path) -> Result<Config, CommandError> {
    Config::load(file, variable).map_err(CommandError::from)
}

/// Loads the file, for commands that deal with the processes that follow it: the file must name their data root.
pub fn with_same_root(file: &Path) -> Result<Config, CommandError> {
    let config = valid(file)?;
    check_data_root(&config, file)?;
    Ok(config)
}

/// Loads the config with which one of the platform's processes starts. If `up` starts an ended process again,
/// `in_place_of` is the data root of the other processes; the config in use there is loaded if they refuse `file`.
pub fn for_process(file: &Path, in_place_of: Option<&Path>) -> Result<Config, CommandError> {
    match in_place_of {
        Some(data_root) => Config::load_for_restart(file, data_root, variable).map_err(CommandError::from),
        None => with_same_root(file),
    }
}

/// Loads the file; or, with a warning, the config in use while the file has problems or names another data root.
pub fn in_use(file: &Path) -> Result<Config, CommandError> {
    with_same_root(file).or_else(|faulty| match Config::in_use(file, variable) {
        Some(config) => {
            eprintln!("mysimbdp: {faulty}");
            eprintln!("mysimbdp: until this is repaired, the config of the running processes is used");
            Ok(config)
        }
        None => Err(faulty),
    })
}

/// Loads the config for commands that read or write the store: it must be the store that the running processes use.
pub fn with_same_store(file: &Path) -> Result<Config, CommandError> {
    let config = in_use_with_same_root(file)?;
    check_against_processes(&config, ConfigInUse::difference)?;
    Ok(config)
}

/// Loads the file, or the config in use while the file has problems. Fails if the file names another data root.
pub fn in_use_with_same_root(file: &Path) -> Result<Config, CommandError> {
    match valid(file) {
        Ok(config) => check_data_root(&config, file).map(|()| config),
        Err(_) => in_use(file),
    }
}

/// Refuses a config with another data root than that of the processes that follow the file.
fn check_data_root(config: &Config, file: &Path) -> Result<(), CommandError> {
    let root = config.layout.root();
    match follower(file).filter(|follower| follower.layout.root() != root) {
        None => Ok(()),
        Some(Follower { kind, process, layout }) => Err(CommandError::new(
            exit::CONFIG,
            format!(
                "{} runs (pid {}): it has the data root {}, but this config names {}: set data_root to the same value, or stop it",
                kind.name(),
                process.pid,
                layout.root().display(),
                root.display()
            ),
        )),
    }
}

/// Refuses a config with another broker than the running processes use, for commands that need only the broker.
pub fn check_broker(config: &Config) -> Result<(), CommandError> {
    check_against_processes(config, ConfigInUse::broker_difference)
}

/// Refuses a config if `differs` finds a difference to the config of a running process.
fn check_against_processes(
    config: &Config,
    differs: impl Fn(&ConfigInUse, &Config) -> Option<String>,
) -> Result<(), CommandError> {
    for kind in ProcessKind::CONFIG_USERS {
        // Another user may not be allowed to read the status of the processes; then nothing can be compared.
        if let Ok(Found::Running(process, Some(reported))) = find(&config.layout, kind)
            && let Some(difference) = differs(&reported.config, config)
        {
            let text = format!("{} runs (pid {}): {difference}", kind.name(), process.pid);
            return Err(CommandError::new(exit::CONFIG, text));
        }
    }
    Ok(())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
