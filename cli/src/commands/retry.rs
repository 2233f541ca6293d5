//! `mysimbdp retry`: a held file back to staging, a discarded one back to where it was dropped.

use std::path::{Component, Path};

use mysimbdp_core::config::Config;
use mysimbdp_core::exit;
use mysimbdp_core::ingestion::IngestionId;
use mysimbdp_core::io::drop_directory::{Directory, DropDirectory, DropPath, Existing};
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
    let Some(target) = DropPath::parse(&reason.dropped_at) else {
        let problem = format!("{} names no path below the drop directory", reason.dropped_at);
        return Err(Failure::new(exit::DATA, problem));
    };
    let from = Directory::of_platform(directory)?;
    let to = DropDirectory::make(&config.layout)?.make_directory(&target.parent())?;
    for name in from.names()?.iter().filter(|name| *name != Reason::FILE) {
        from.move_file(name, &to, target.name(), Existing::Keep)?;
    }
    files::remove_dir_all(directory)?;
    println!("{} is dropped again", reason.dropped_at);
    Ok(())
}
