//! Looks at staging: what is there that was not known, and what is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use mysimbdp_config::{App, Client, Config};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_platform::{clock, files};
use mysimbdp_spool::staging::{self, Staged, StagingError};

use crate::job::Job;
use crate::unit::WorkUnit;

/// What does not change about an ingestion while it is staged.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) directory: std::path::PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) units: Vec<WorkUnit>,
    config: Arc<Config>,
    app: usize,
}

/// One client's staging, compared with what was known of it.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) new: Vec<(Staged, Work)>,
    pub(crate) gone: Vec<IngestionId>,
    /// There is more that is new.
    pub(crate) more: bool,
    pub(crate) unreadable: Vec<(IngestionId, Unreadable)>,
}

/// Why a staged directory is left where it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Staging(#[from] StagingError),
    #[error("the config has no client {0} any more")]
    NoClient(ClientId),
    #[error("client {client} has no app {app:?} any more, which {file:?} was staged for")]
    NoApp { client: ClientId, app: String, file: String },
}

impl Work {
    fn of(config: &Arc<Config>, staged: &Staged) -> Result<Self, Unreadable> {
        let manifest = staged.manifest.clone();
        let Some(client) = config.client(&manifest.client) else {
            return Err(Unreadable::NoClient(manifest.client));
        };
        let Some(app) = client.apps.iter().position(|app| app.name == manifest.app) else {
            return Err(Unreadable::NoApp {
                client: manifest.client,
                app: manifest.app,
                file: manifest.file,
            });
        };
        let units = WorkUnit::all(&manifest, client.apps[app].settings.unit, client.block_bytes_max);
        Ok(Self { directory: staged.directory.clone(), manifest, units, config: Arc::clone(config), app })
    }

    /// The rules that it goes by, to its end.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn client(&self) -> &Client {
        &self.config.clients[&self.manifest.client]
    }

    pub(crate) fn app(&self) -> &App {
        &self.client().apps[self.app]
    }

    /// The state of this work: units that have an outcome are done.
    pub(crate) fn job(&self, staged: &Staged) -> Job {
        let done: BTreeSet<usize> = (0..)
            .zip(&self.units)
            .filter(|(_, unit)| {
                staged
                    .outcomes
                    .get(&unit.index)
                    .is_some_and(|outcome| unit.is_done_by(outcome, &self.manifest))
            })
            .map(|(position, _)| position)
            .collect();
        let app = &self.app().settings;
        Job {
            ingestion: self.manifest.ingestion,
            lane: self.manifest.lane,
            staged_at: self.manifest.staged_at,
            app: app.name.clone(),
            concurrency: app.concurrency as usize,
            ordered: app.ordered,
            joins: app.unit == mysimbdp_model::app::Unit::Range,
            stage: Job::stage_of(self.units.len(), &done),
        }
    }
}

/// What is new is taken up so many ingestions at a time: thousands of one client must not keep others waiting until all of
/// their manifests are read.
const NEW_MAX: usize = 500;

/// Looks at one client's staging. `unreadable` are those that could not be read the last time. Blocks.
///
/// # Errors
///
/// Its directory cannot be listed; what is in it does not fail the look.
pub(crate) fn look(
    config: &Arc<Config>,
    client: &ClientId,
    known: &BTreeSet<IngestionId>,
    unreadable: &BTreeSet<IngestionId>,
) -> Result<Look, StagingError> {
    let there: BTreeSet<IngestionId> = staging::ingestions(&config.layout, client)?.into_iter().collect();
    let gone = known.difference(&there).copied().collect();
    let mut new = there.difference(known).filter(|ingestion| !unreadable.contains(ingestion)).copied();
    let mut sought: Vec<IngestionId> = new.by_ref().take(NEW_MAX).collect();
    let more = new.next().is_some();
    sought.extend(there.intersection(unreadable));
    Ok(Look { gone, more, ..look_for(config, client, sought)? })
}

/// Looks for these ingestions of a client only, none of which is known; those that are not there are passed over.
/// Blocks.
///
/// # Errors
///
/// The machine is out of something; what is wrong with one of them does not fail the look.
pub(crate) fn look_for(
    config: &Arc<Config>,
    client: &ClientId,
    sought: impl IntoIterator<Item = IngestionId>,
) -> Result<Look, StagingError> {
    let mut look = Look::default();
    for ingestion in sought {
        match take_up(config, client, ingestion) {
            Ok(found) => look.new.push(found),
            // Ended meanwhile, or held or retried by hand.
            Err(Unreadable::Staging(StagingError::File(error))) if error.is_not_found() => {}
            // It says nothing about this ingestion: the whole look is made again.
            Err(Unreadable::Staging(StagingError::File(error))) if error.is_exhausted() => {
                return Err(error.into());
            }
            Err(Unreadable::Staging(error)) if error.is_damaged_manifest() => {
                if let Err(error) = hold_unreadable(config, client, ingestion) {
                    look.unreadable.push((ingestion, error.into()));
                }
            }
            Err(error) => look.unreadable.push((ingestion, error)),
        }
    }
    if !look.new.is_empty() {
        // What is worked on must not be back in the drop directory after a power cut. One sync for all that are new.
        files::sync_dir(&config.layout.staging().join(client.as_str()))?;
    }
    Ok(look)
}

/// Holds a file whose manifest is damaged: its content is there, but nothing can be done with it.
fn hold_unreadable(config: &Config, client: &ClientId, ingestion: IngestionId) -> Result<(), StagingError> {
    if let Some(reason) = staging::hold_unreadable(&config.layout, client, ingestion, clock::now())? {
        let (file, reason) = (reason.file, reason.reasons.join("; "));
        tracing::error!(%client, %ingestion, file, reason, "held");
    }
    Ok(())
}

fn take_up(
    config: &Arc<Config>,
    client: &ClientId,
    ingestion: IngestionId,
) -> Result<(Staged, Work), Unreadable> {
    let mut staged = staging::read(&config.layout, client, ingestion)?;
    staging::remove_torn(&mut staged)?;
    let work = Work::of(config, &staged)?;
    Ok((staged, work))
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::ingestion::Hasher;
    use mysimbdp_model::layout::Layout;
    use mysimbdp_testbed::Root;
    use serde_json::json;

    use super::*;
    use crate::testing::manifest;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "stages by hand")]
    fn thousands_are_taken_up_some_at_a_time_and_each_once() {
        let app = json!({"name": "app", "command": ["app"]});
        let root = Root::new(&json!({"clients": [{"id": "client1", "apps": [app]}]}));
        let config = Arc::new(Config::load(&root.config(), |_| None).expect("a config without faults"));
        let client: ClientId = "client1".parse().expect("client id");
        let (mut staged, mut broken) = (BTreeSet::new(), BTreeSet::new());
        for number in 0..2 * NEW_MAX as u64 + 10 {
            let content = Hasher::new().update(&number.to_be_bytes()).finalize();
            let mut manifest =
                Manifest { ingestion: IngestionId::new(&client, &content), ..manifest(&[(10, 3)]) };
            if number % 10 == 0 {
                manifest.app = "gone".to_owned();
                broken.insert(manifest.ingestion);
            } else {
                staged.insert(manifest.ingestion);
            }
            let directory = config.layout.staged(&client, manifest.ingestion);
            std::fs::create_dir_all(&directory).expect("directory");
            std::fs::write(directory.join(Layout::MANIFEST), manifest.to_json()).expect("manifest");
        }
        let (mut known, mut unreadable) = (BTreeSet::new(), BTreeSet::new());
        let mut looks = 0;
        loop {
            looks += 1;
            let found = look(&config, &client, &known, &unreadable).expect("a look");
            assert!(found.new.len() <= NEW_MAX && found.gone.is_empty());
            assert!(found.new.iter().all(|(staged, _)| known.insert(staged.manifest.ingestion)));
            unreadable.extend(found.unreadable.into_iter().map(|(ingestion, _)| ingestion));
            if !found.more {
                break;
            }
        }
        assert_eq!(looks, 3);
        assert!(known == staged && unreadable == broken, "{} and {}", known.len(), unreadable.len());
    }
}
