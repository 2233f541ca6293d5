//! The config that a command goes by.

use std::path::Path;

use mysimbdp_config::Config;
use mysimbdp_config::process_status::{ConfigInUse, Found, find};
use mysimbdp_config::root_note::{self, Follower};
use mysimbdp_model::exit;
use mysimbdp_model::process_kind::ProcessKind;

use crate::error::Failure;

/// What the file says, without a fault.
pub fn sound(file: &Path) -> Result<Config, Failure> {
    Config::load(file, variable).map_err(Failure::from)
}

/// The same, for what has to do with the processes that follow the file: they must have its data root.
pub fn on_the_data_root(file: &Path) -> Result<Config, Failure> {
    let config = sound(file)?;
    same_data_root(&config, file)?;
    Ok(config)
}

/// What one of the processes starts on; `in_place_of` is what an ended one ran on that `up` starts again.
pub fn of_a_process(file: &Path, in_place_of: Option<&Path>) -> Result<Config, Failure> {
    match in_place_of {
        Some(in_use) => Config::load_again(file, in_use, variable).map_err(Failure::from),
        None => on_the_data_root(file),
    }
}

/// What the file says; or, while the file has faults or another data root, what the running processes go on with.
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

/// The same, for what reads or writes the store: it must be the one that the running processes use.
pub fn of_the_store(file: &Path) -> Result<Config, Failure> {
    let config = in_use_on_the_data_root(file)?;
    like_the_processes(&config, ConfigInUse::difference)?;
    Ok(config)
}

/// What the running processes go on with while the file has faults, but not while it has another data root.
pub fn in_use_on_the_data_root(file: &Path) -> Result<Config, Failure> {
    match sound(file) {
        Ok(config) => same_data_root(&config, file).map(|()| config),
        Err(_) => in_use(file),
    }
}

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

/// Refuses a config with another broker than the running processes use, for what talks to the broker alone.
pub fn same_broker(config: &Config) -> Result<(), Failure> {
    like_the_processes(config, ConfigInUse::broker_difference)
}

fn like_the_processes(
    config: &Config,
    differs: impl Fn(&ConfigInUse, &Config) -> Option<String>,
) -> Result<(), Failure> {
    for kind in ProcessKind::CONFIG_USERS {
        // Another user may not read them; then the settings at hand have to do.
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
