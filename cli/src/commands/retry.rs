//! `mysimbdp retry`: a held file back to staging, a discarded one back to where it was dropped.

use std::path::{Component, Path};

use mysimbdp_core::config::Config;
use mysimbdp_core::exit;
use mysimbdp_core::ingestion::IngestionId;
use mysimbdp_core::io::{files, staging};
use mysimbdp_core::reason::Reason;

use crate::error::Failure;
use crate::fate;

pub fn run(config: &Config, id: &str) -> Result<(), Failure> {
    if let Ok(ingestion) = id.parse::<IngestionId>() {
        return retry_held(config, ingestion);
    }
    // The id becomes a path component, and must be no more than one.
    let mut components = Path::new(id).components();
    let is_name = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    for client in files::list(&config.layout.discarded_root())? {
        let directory = client.join(id);
        if is_name && let Some(reason) = fate::reason_in(&directory)? {
            return retry_discarded(config, &directory, &reason);
        }
    }
    Err(unknown(id))
}

fn unknown(id: &str) -> Failure {
    Failure::new(
        exit::NO_INPUT,
        format!("nothing held or discarded has the id {id:?}; `mysimbdp status` lists the ids"),
    )
}

fn retry_held(config: &Config, ingestion: IngestionId) -> Result<(), Failure> {
    for client in config.clients.keys() {
        if files::exists(&config.layout.held(client, ingestion)) {
            staging::retry_held(&config.layout, client, ingestion)
                .map_err(|error| Failure::of(exit::IO, &error))?;
            println!("{ingestion} of {client} is staged again");
            return Ok(());
        }
    }
    Err(unknown(&ingestion.to_string()))
}

/// The file goes first and the reason last: after a crash in between, the same command finishes the work.
fn retry_discarded(config: &Config, directory: &Path, reason: &Reason) -> Result<(), Failure> {
    let dropped_at = Path::new(&reason.dropped_at);
    if !dropped_at.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Failure::new(
            exit::DATA,
            format!("{} names no path below the data root", reason.dropped_at),
        ));
    }
    let target = config.layout.root().join(dropped_at);
    let mut entries = files::list(directory)?;
    entries.retain(|path| path.file_name().is_some_and(|name| name != Reason::FILE));
    if let Some(parent) = target.parent() {
        files::create_dir_all(parent)?;
    }
    for entry in entries {
        files::rename_new(&entry, &target)?;
    }
    files::remove_dir_all(directory)?;
    println!("{} is dropped again", reason.dropped_at);
    Ok(())
}
