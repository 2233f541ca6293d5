//! `mysimbdp retry`: a held file back to staging, a discarded one back to where it was dropped.

use std::ffi::OsStr;
use std::path::{Component, Path};

use mysimbdp_config::Config;
use mysimbdp_model::app::Ids;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::outcome::Run;
use mysimbdp_model::reason::Reason;
use mysimbdp_model::{error_chain, exit};
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_spool::drop_directory::{Directory, DropDirectory, DropPath, Existing};
use mysimbdp_spool::staging::{self, StagingError};

use crate::error::Failure;
use crate::file_outcome::{self, Explained};
use crate::free_name;
use crate::output::Foreign;

pub fn run(config: &Config, id: &str) -> Result<(), Failure> {
    if let Ok(ingestion) = id.parse::<IngestionId>() {
        return retry_held(config, ingestion);
    }
    if let Some(retried) = retry_beside(config, id)? {
        return Ok(retried);
    }
    if let Some(ingestion) = Run::ingestion_of(id) {
        return retry_held(config, ingestion);
    }
    // The id becomes a path component, and must be no more than one.
    let mut components = Path::new(id).components();
    let is_name = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    for client in files::list(&config.layout.discarded_root()).map_err(|error| closed(&error))? {
        let directory = client.join(id);
        match file_outcome::reason_in(&directory).map_err(|error| closed(&error))? {
            Explained::By(reason) if is_name => {
                return drop_again(config, &directory, &reason, |name| name != Reason::FILE);
            }
            Explained::Damaged(damaged) if is_name => {
                return Err(Failure::new(
                    exit::DATA,
                    format!("{damaged}; drop the file that lies there again"),
                ));
            }
            Explained::By(_) | Explained::Damaged(_) | Explained::Nowhere => {}
        }
    }
    Err(unknown(id))
}

/// What lies among the held files beside them: an original that was written to after it was taken, or damaged content.
fn retry_beside(config: &Config, id: &str) -> Result<Option<()>, Failure> {
    let is_beside = id.split_once('-').is_some_and(|(ingestion, _)| ingestion.parse::<IngestionId>().is_ok());
    // The id becomes a path component.
    if !is_beside || id.contains('/') {
        return Ok(None);
    }
    for client in config.clients.values() {
        let directory = config.layout.held_root().join(client.id.as_str()).join(id);
        if !is_there(&directory)? {
            continue;
        }
        let reason = match file_outcome::reason_in(&directory)? {
            Explained::By(reason) if staging::is_held_late(id) => reason,
            Explained::By(_) | Explained::Damaged(_) | Explained::Nowhere => {
                let problem = format!("{id} was set aside as it is damaged; `mysimbdp purge` removes it");
                return Err(Failure::new(exit::DATA, problem));
            }
        };
        // Its first part has been ingested: under ids of its own content a record of it is the same one again.
        let ids = client.app_for(&reason.file).map(|app| app.settings.ids);
        if !matches!(ids, Some(Ids::Key | Ids::Object)) {
            let problem = format!(
                "the first part of {} is ingested already, and would be stored a second time: drop what is missing of it, from {}; \
                 `mysimbdp purge` removes the rest",
                Foreign(&reason.file),
                directory.display()
            );
            return Err(Failure::new(exit::DATA, problem));
        }
        return drop_again(config, &directory, &reason, |name| name != Reason::FILE).map(Some);
    }
    Ok(None)
}

fn unknown(id: &str) -> Failure {
    Failure::new(
        exit::NO_INPUT,
        format!("nothing held or discarded has the id {id:?}; `mysimbdp status` lists the ids"),
    )
}

/// Nobody would take it where it returns to; where it lies, a person or `purge` finds it.
fn must_be_configured(config: &Config, client: &str) -> Result<(), Failure> {
    if client.parse().is_ok_and(|id| config.client(&id).is_some()) {
        return Ok(());
    }
    let problem = format!(
        "it is a file of {}, which is not configured: add the client to the config first",
        Foreign(client)
    );
    Err(Failure::new(exit::NO_INPUT, problem))
}

/// # Errors
///
/// Nobody can tell, such as another user than the platform's.
pub(super) fn is_there(directory: &Path) -> Result<bool, Failure> {
    match files::metadata(directory) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(closed(&error)),
    }
}

/// What the platform keeps is its user's alone.
fn closed(error: &FileError) -> Failure {
    if error.is_denied() {
        let problem = format!("{}; a retry is for the user of the platform, or root", error_chain(error));
        return Failure::new(exit::NO_PERMISSION, problem);
    }
    Failure::of(exit::IO, error)
}

fn retry_held(config: &Config, ingestion: IngestionId) -> Result<(), Failure> {
    for client in &staging::owners(&config.layout).map_err(|error| closed(&error))? {
        if is_there(&config.layout.held(client, ingestion))? {
            must_be_configured(config, client.as_str())?;
            return match staging::retry_held(&config.layout, client, ingestion) {
                Ok(()) => {
                    println!("{ingestion} of {client} is staged again");
                    Ok(())
                }
                Err(error) if error.is_damaged_manifest() => {
                    drop_damaged(config, &config.layout.held(client, ingestion), &error)
                }
                Err(error) => Err(Failure::of(exit::IO, &error)),
            };
        }
    }
    Err(unknown(&ingestion.to_string()))
}

/// Without its manifest a held file is a file like any other, if it is in one piece.
fn drop_damaged(config: &Config, directory: &Path, error: &StagingError) -> Result<(), Failure> {
    match file_outcome::reason_in(directory)? {
        Explained::By(reason) if files::exists(&directory.join(&reason.file)) => {
            drop_again(config, directory, &reason, |name| name == reason.file.as_str())
        }
        Explained::By(_) | Explained::Damaged(_) | Explained::Nowhere => {
            let problem = format!("{}; drop again what lies there, with `mysimbdp drop`", error_chain(error));
            Err(Failure::new(exit::DATA, problem))
        }
    }
}

/// The file goes first and the reason last: after a crash in between, the same command finishes the work.
fn drop_again(
    config: &Config,
    directory: &Path,
    reason: &Reason,
    is_content: impl Fn(&OsStr) -> bool,
) -> Result<(), Failure> {
    let Some(target) = DropPath::parse(&reason.dropped_at) else {
        let problem = format!("{} names no path below the drop directory", Foreign(&reason.dropped_at));
        return Err(Failure::new(exit::DATA, problem));
    };
    // What lies beside the folders is routed by its name.
    let keeps_name = target.parent().is_root();
    if let Some(client) = reason.client.as_ref().filter(|_| !keeps_name) {
        must_be_configured(config, client)?;
    }
    let from = Directory::of_platform(directory)?;
    let to = DropDirectory::make(&config.layout)?.make_directory(&target.parent())?;
    let client = reason.client.as_ref().and_then(|client| config.client(&client.parse().ok()?));
    let place = free_name::Destination { folder: &to, client, keeps_name };
    for name in from.names()?.iter().filter(|name| is_content(name)) {
        let called = free_name::first_free(place, target.name(), |other| {
            from.move_file(name, &to, other, Existing::Keep)
        })?;
        println!("{} is dropped again", target.parent().join(&called));
    }
    files::remove_dir_all(directory)?;
    Ok(())
}
