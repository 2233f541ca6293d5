//! The config that a command goes by.

use std::path::Path;

use mysimbdp_config::Config;
use mysimbdp_config::process_status::{ConfigInUse, Found, find};
use mysimbdp_model::exit;
use mysimbdp_model::process_kind::ProcessKind;

use crate::error::Failure;

/// What the file says, without a fault: for whatever starts with it.
pub fn sound(file: &Path) -> Result<Config, Failure> {
    Config::load(file, variable).map_err(Failure::from)
}

/// What one of the processes starts on; `in_place_of` is what an ended one ran on that `up` starts again.
pub fn of_a_process(file: &Path, in_place_of: Option<&Path>) -> Result<Config, Failure> {
    match in_place_of {
        Some(in_use) => Config::load_again(file, in_use, variable).map_err(Failure::from),
        None => sound(file),
    }
}

/// What the file says; or, while the file has faults, what the running processes go on with.
pub fn in_use(file: &Path) -> Result<Config, Failure> {
    sound(file).or_else(|faulty| match Config::in_use(file, variable) {
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
    let config = in_use(file)?;
    like_the_processes(&config, ConfigInUse::elsewhere)?;
    Ok(config)
}

/// Refuses a config with another broker than the running processes use, for what talks to the broker alone.
pub fn same_broker(config: &Config) -> Result<(), Failure> {
    like_the_processes(config, ConfigInUse::other_broker)
}

fn like_the_processes(
    config: &Config,
    differs: impl Fn(&ConfigInUse, &Config) -> Option<String>,
) -> Result<(), Failure> {
    for kind in ProcessKind::ON_THE_CONFIG {
        // Another user may not look; then its own settings must do.
        if let Ok(Found::Running(process, Some(said))) = find(&config.layout, kind)
            && let Some(difference) = differs(&said.config, config)
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
