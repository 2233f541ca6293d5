//! Returns a held file to staging, and a discarded one to the drop directory.

use std::ffi::OsStr;
use std::path::{Component, Path};

use mysimbdp_config::Config;
use mysimbdp_model::app::Ids;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::outcome::Run;
use mysimbdp_model::reason::ReasonFile;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_spool::drop_directory::{Directory, DropDirectory, DropPath, Existing};
use mysimbdp_spool::staging::{self, StagingError};

use crate::error::QueryError;
use crate::free_name;
use crate::reason_file::{ReasonLookup, reason_in};

/// Where the file was moved to.
#[derive(Debug)]
pub enum Retried {
    Staged { ingestion: IngestionId, client: ClientId },
    DroppedAgain(Vec<DropPath>),
}

/// Makes a held or discarded file be processed again; `id` is an ingestion, a run, or the name of a discarded
/// directory.
///
/// # Errors
///
/// There is no such file, its client is not configured, or it cannot be moved.
pub fn retry(config: &Config, id: &str) -> Result<Retried, QueryError> {
    if let Ok(ingestion) = id.parse::<IngestionId>() {
        return retry_held(config, ingestion);
    }
    if let Some(retried) = retry_beside_held(config, id)? {
        return Ok(retried);
    }
    if let Some(ingestion) = Run::ingestion_of(id) {
        return retry_held(config, ingestion);
    }
    retry_discarded(config, id)
}

fn retry_held(config: &Config, ingestion: IngestionId) -> Result<Retried, QueryError> {
    for client in staging::owners(&config.layout).map_err(file_error)? {
        let held = config.layout.held(&client, ingestion);
        if !exists(&held)? {
            continue;
        }
        require_configured(config, client.as_str())?;
        return match staging::retry_held(&config.layout, &client, ingestion) {
            Ok(()) => Ok(Retried::Staged { ingestion, client }),
            Err(error) if error.is_damaged_manifest() => drop_damaged(config, &held, error),
            Err(error) => Err(error.into()),
        };
    }
    Err(unknown(&ingestion.to_string()))
}

/// Retries a directory beside the held files: an original that was still written to after intake, or damaged content.
fn retry_beside_held(config: &Config, id: &str) -> Result<Option<Retried>, QueryError> {
    let is_beside = id.split_once('-').is_some_and(|(ingestion, _)| ingestion.parse::<IngestionId>().is_ok());
    // The id becomes a path component.
    if !is_beside || id.contains('/') {
        return Ok(None);
    }
    for client in config.clients.values() {
        let directory = config.layout.held_root().join(client.id.as_str()).join(id);
        if !exists(&directory)? {
            continue;
        }
        let reason = match reason_in(&directory)? {
            ReasonLookup::Found(reason) if staging::is_held_late(id) => reason,
            ReasonLookup::Found(_) | ReasonLookup::Damaged(_) | ReasonLookup::Moved => {
                let problem =
                    format!("{id} was set aside because it is damaged; `mysimbdp purge` removes it");
                return Err(QueryError::InvalidData(problem));
            }
        };
        // Its first part is already ingested. Only ids that come from the content keep its records from being stored
        // twice.
        let ids = client.app_for(&reason.file).map(|app| app.settings.ids);
        if !matches!(ids, Some(Ids::Key | Ids::Object)) {
            return Err(QueryError::InvalidData(format!(
                "the first part of {} is already ingested, and would be stored a second time: drop only the missing part, from {}; `mysimbdp purge` removes the rest",
                reason.file,
                directory.display()
            )));
        }
        return drop_again(config, &directory, &reason, |name| name != ReasonFile::FILE).map(Some);
    }
    Ok(None)
}

fn retry_discarded(config: &Config, id: &str) -> Result<Retried, QueryError> {
    // The id becomes a path component, and must be exactly one.
    let mut components = Path::new(id).components();
    let is_name = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    for client in files::list(&config.layout.discarded_root()).map_err(file_error)? {
        let directory = client.join(id);
        match reason_in(&directory).map_err(file_error)? {
            ReasonLookup::Found(reason) if is_name => {
                return drop_again(config, &directory, &reason, |name| name != ReasonFile::FILE);
            }
            ReasonLookup::Damaged(damaged) if is_name => {
                return Err(QueryError::InvalidData(format!(
                    "{damaged}; drop the file in that directory again"
                )));
            }
            ReasonLookup::Found(_) | ReasonLookup::Damaged(_) | ReasonLookup::Moved => {}
        }
    }
    Err(unknown(id))
}

/// A held file without a valid manifest is dropped again like a new one, unless it was staged in parts.
fn drop_damaged(config: &Config, directory: &Path, error: StagingError) -> Result<Retried, QueryError> {
    match reason_in(directory)? {
        ReasonLookup::Found(reason) if files::exists(&directory.join(&reason.file)) => {
            drop_again(config, directory, &reason, |name| name == reason.file.as_str())
        }
        ReasonLookup::Found(_) | ReasonLookup::Damaged(_) | ReasonLookup::Moved => {
            let problem = format!(
                "{}; drop the files in that directory again, with `mysimbdp drop`",
                error_chain(&error)
            );
            Err(QueryError::InvalidData(problem))
        }
    }
}

/// Moves the file first and removes its reason last: after a crash in between, the same command finishes the work.
fn drop_again(
    config: &Config,
    directory: &Path,
    reason: &ReasonFile,
    is_content: impl Fn(&OsStr) -> bool,
) -> Result<Retried, QueryError> {
    let Some(target) = DropPath::parse(&reason.dropped_at) else {
        let problem = format!("{} is not a path below the drop directory", reason.dropped_at);
        return Err(QueryError::InvalidData(problem));
    };
    // A file dropped outside the clients' folders is routed by its name.
    let keeps_name = target.parent().is_root();
    if let Some(client) = reason.client.as_ref().filter(|_| !keeps_name) {
        require_configured(config, client)?;
    }
    let from = Directory::open_platform(directory)?;
    let to = DropDirectory::open_or_create(&config.layout)?.open_or_create_directory(&target.parent())?;
    let client = reason.client.as_ref().and_then(|client| config.client(&client.parse().ok()?));
    let destination = free_name::Destination { folder: &to, client, keeps_name };
    let mut dropped = Vec::new();
    for name in from.names()?.iter().filter(|name| is_content(name)) {
        let called = free_name::first_free(destination, target.name(), |other| {
            from.move_file(name, &to, other, Existing::Keep)
        })?;
        dropped.push(target.parent().join(&called));
    }
    files::remove_dir_all(directory)?;
    Ok(Retried::DroppedAgain(dropped))
}

fn unknown(id: &str) -> QueryError {
    QueryError::NotFound(format!(
        "no held or discarded file has the id {id:?}; `mysimbdp status` lists the ids"
    ))
}

/// Refuses to move a file whose client is not configured: at its destination no process would take it; here a person or
/// `purge` finds it.
fn require_configured(config: &Config, client: &str) -> Result<(), QueryError> {
    if client.parse().is_ok_and(|id| config.client(&id).is_some()) {
        return Ok(());
    }
    Err(QueryError::NotFound(format!(
        "it is a file of {client}, which is not configured: add the client to the config first"
    )))
}

/// Whether the directory exists.
///
/// # Errors
///
/// It cannot be determined, for example for lack of permission.
pub(crate) fn exists(directory: &Path) -> Result<bool, QueryError> {
    match files::metadata(directory) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(file_error(error)),
    }
}

fn file_error(error: FileError) -> QueryError {
    if error.is_denied() { QueryError::NotPermitted(error) } else { QueryError::File(error) }
}
