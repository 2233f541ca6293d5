//! Scans staging: finds ingestions that are new, and those that have been removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use mysimbdp_config::{App, Client, Config};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_platform::{clock, files};
use mysimbdp_spool::staging::{self, StagedIngestion, StagingError};

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

/// The result of scanning one client's staging: the differences from what was known.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) new: Vec<(StagedIngestion, Work)>,
    pub(crate) removed: Vec<IngestionId>,
    /// There are more new ingestions than `new` holds.
    pub(crate) more: bool,
    pub(crate) left_in_place: Vec<(IngestionId, LeftInPlace)>,
}

/// Why a staged directory is left in place, unprocessed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeftInPlace {
    #[error(transparent)]
    Staging(#[from] StagingError),
    #[error("the config no longer has client {0}")]
    NoClient(ClientId),
    #[error("client {client} no longer has app {app:?}, for which {file:?} was staged")]
    NoApp { client: ClientId, app: String, file: String },
}

impl Work {
    fn of(config: &Arc<Config>, staged: &StagedIngestion) -> Result<Self, LeftInPlace> {
        let manifest = staged.manifest.clone();
        let Some(client) = config.client(&manifest.client) else {
            return Err(LeftInPlace::NoClient(manifest.client));
        };
        let Some(app) = client.apps.iter().position(|app| app.name == manifest.app) else {
            return Err(LeftInPlace::NoApp {
                client: manifest.client,
                app: manifest.app,
                file: manifest.file,
            });
        };
        let units = WorkUnit::all(&manifest, client.apps[app].settings.unit, client.block_bytes_max);
        Ok(Self { directory: staged.directory.clone(), manifest, units, config: Arc::clone(config), app })
    }

    /// The config that applies to this work until it ends.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn client(&self) -> &Client {
        &self.config.clients[&self.manifest.client]
    }

    pub(crate) fn app(&self) -> &App {
        &self.client().apps[self.app]
    }

    /// Returns the initial state of this work: units that have an outcome are done.
    pub(crate) fn job(&self, staged: &StagedIngestion) -> Job {
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
            joins: app.unit == mysimbdp_model::app::UnitKind::Range,
            stage: Job::stage_of(self.units.len(), &done),
        }
    }
}

/// New ingestions of a client that one scan reads at most: a client with thousands must not keep others waiting until
/// all of its manifests are read.
const NEW_MAX: usize = 500;

/// Scans one client's staging. `left_in_place` holds the ingestions that the last scan left in place. Blocks.
///
/// # Errors
///
/// Its directory cannot be listed, or the machine has run out of a resource. An unreadable ingestion does not fail the
/// scan.
pub(crate) fn scan(
    config: &Arc<Config>,
    client: &ClientId,
    known: &BTreeSet<IngestionId>,
    left_in_place: &BTreeSet<IngestionId>,
) -> Result<Scan, StagingError> {
    let present: BTreeSet<IngestionId> = staging::ingestions(&config.layout, client)?.into_iter().collect();
    let removed = known.difference(&present).copied().collect();
    let mut new = present.difference(known).filter(|ingestion| !left_in_place.contains(ingestion)).copied();
    let mut requested: Vec<IngestionId> = new.by_ref().take(NEW_MAX).collect();
    let more = new.next().is_some();
    requested.extend(present.intersection(left_in_place));
    Ok(Scan { removed, more, ..scan_requested(config, client, requested)? })
}

/// Scans only these ingestions of a client, none of which may be known yet. Skips those that are not staged. Blocks.
///
/// # Errors
///
/// The machine has run out of a resource. An unreadable ingestion does not fail the scan.
pub(crate) fn scan_requested(
    config: &Arc<Config>,
    client: &ClientId,
    requested: impl IntoIterator<Item = IngestionId>,
) -> Result<Scan, StagingError> {
    let mut scan = Scan::default();
    for ingestion in requested {
        match read_staged(config, client, ingestion) {
            Ok(found) => scan.new.push(found),
            // It has ended meanwhile, or somebody has held or retried it by hand.
            Err(LeftInPlace::Staging(StagingError::File(error))) if error.is_not_found() => {}
            // This is not about this ingestion: the whole scan is repeated.
            Err(LeftInPlace::Staging(StagingError::File(error))) if error.is_exhausted() => {
                return Err(error.into());
            }
            Err(LeftInPlace::Staging(error)) if error.is_damaged_manifest() => {
                if let Err(error) = hold_unreadable(config, client, ingestion) {
                    scan.left_in_place.push((ingestion, error.into()));
                }
            }
            Err(error) => scan.left_in_place.push((ingestion, error)),
        }
    }
    if !scan.new.is_empty() {
        // A file that is processed must not reappear in the drop directory after a power cut. One sync for all new
        // ones.
        files::sync_dir(&config.layout.staging().join(client.as_str()))?;
    }
    Ok(scan)
}

/// Holds a file whose manifest is damaged: its content exists, but cannot be processed.
fn hold_unreadable(config: &Config, client: &ClientId, ingestion: IngestionId) -> Result<(), StagingError> {
    if let Some(reason) = staging::hold_unreadable(&config.layout, client, ingestion, clock::now())? {
        let (file, reason) = (reason.file, reason.reasons.join("; "));
        tracing::error!(%client, %ingestion, file, reason, "held");
    }
    Ok(())
}

fn read_staged(
    config: &Arc<Config>,
    client: &ClientId,
    ingestion: IngestionId,
) -> Result<(StagedIngestion, Work), LeftInPlace> {
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
    fn thousands_are_scanned_some_at_a_time_and_each_once() {
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
        let (mut known, mut left_in_place) = (BTreeSet::new(), BTreeSet::new());
        let mut scans = 0;
        loop {
            scans += 1;
            let found = scan(&config, &client, &known, &left_in_place).expect("scan");
            assert!(found.new.len() <= NEW_MAX && found.removed.is_empty());
            assert!(found.new.iter().all(|(staged, _)| known.insert(staged.manifest.ingestion)));
            left_in_place.extend(found.left_in_place.into_iter().map(|(ingestion, _)| ingestion));
            if !found.more {
                break;
            }
        }
        assert_eq!(scans, 3);
        assert!(known == staged && left_in_place == broken, "{} and {}", known.len(), left_in_place.len());
    }
}
