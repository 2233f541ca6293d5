//! Returns archived files to staging, as runs that replace what their app stored before.

use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::outcome::Run;
use mysimbdp_platform::clock;
use mysimbdp_spool::replace::{self, ReplacementTimes};
use mysimbdp_spool::staging;
use mysimbdp_store::history::History;

use crate::error::QueryError;
use crate::retry::exists;

/// Processes archived ingestions again.
#[derive(Debug)]
pub struct Reprocessing<'a> {
    config: &'a Config,
    history: &'a History,
    /// Only checks whether it is possible; stages nothing.
    dry_run: bool,
}

/// An ingestion that was staged again, or would have been without `dry_run`.
#[derive(Debug)]
pub struct Reprocessed {
    pub ingestion: IngestionId,
    pub client: ClientId,
    pub file: String,
}

impl<'a> Reprocessing<'a> {
    pub fn new(config: &'a Config, history: &'a History, dry_run: bool) -> Self {
        Self { config, history, dry_run }
    }

    /// Processes one ingestion again.
    ///
    /// # Errors
    ///
    /// It is unknown, or cannot be processed again.
    pub async fn one(&self, ingestion: IngestionId) -> Result<Reprocessed, QueryError> {
        let runs = self.history.entries_of(ingestion).await?;
        let runs = runs.into_iter().collect::<Result<Vec<Run>, _>>()?;
        if let Some(client) = runs.first().and_then(|run| run.client.parse().ok()) {
            return self.content(&client, ingestion, &runs);
        }
        // An ingestion that is still in its first run has no history.
        for client in self.config.clients.keys() {
            self.check_not_staged_or_held(client, ingestion)
                .map_err(|error| error.of_content(ingestion, client))?;
        }
        Err(QueryError::NotFound(format!(
            "unknown ingestion {ingestion}; `mysimbdp reconcile` lists the known ones"
        )))
    }

    /// Processes all ingestions of a client again that were received at or after `since`. Calls `report` for each one
    /// as it is done; the failure of one does not affect the others.
    ///
    /// # Errors
    ///
    /// The history cannot be read.
    pub async fn all(
        &self,
        client: &ClientId,
        since: Timestamp,
        report: &mut (dyn FnMut(Result<Reprocessed, QueryError>) + Send),
    ) -> Result<(), QueryError> {
        let (mut after, mut runs, mut previous) = (None, Vec::<Run>::new(), None);
        loop {
            let page = self.history.page(Some(client), after).await?;
            for run in page.runs {
                runs.push(run?);
            }
            // The runs of an ingestion are adjacent; those of the last one may continue on the next page.
            while let Some(first) = runs.first() {
                let of_first = |run: &Run| run.ingestion == first.ingestion;
                let count = runs.iter().take_while(|run| of_first(run)).count();
                if count == runs.len() && page.next.is_some() {
                    break;
                }
                let content: Vec<Run> = runs.drain(..count).collect();
                let Some(ingestion) = due(&content, since) else { continue };
                // Another run may have ended while the pages were read.
                if previous.replace(ingestion) != Some(ingestion) {
                    report(self.content(client, ingestion, &content));
                }
            }
            if page.next.is_none() {
                return Ok(());
            }
            after = page.next;
        }
    }

    /// Processes one ingestion again, if that is possible.
    fn content(
        &self,
        client: &ClientId,
        ingestion: IngestionId,
        runs: &[Run],
    ) -> Result<Reprocessed, QueryError> {
        let staged = self.examine(client, ingestion, runs).and_then(|times| {
            if self.dry_run {
                return Ok(());
            }
            Ok(staging::reprocess(&self.config.layout, client, ingestion, times)?)
        });
        staged.map_err(|error| error.of_content(ingestion, client))?;
        let file = runs.last().map(|run| run.file.clone()).unwrap_or_default();
        Ok(Reprocessed { ingestion, client: client.clone(), file })
    }

    fn examine(
        &self,
        client: &ClientId,
        ingestion: IngestionId,
        runs: &[Run],
    ) -> Result<ReplacementTimes, QueryError> {
        let refused = QueryError::NotConfigured;
        let Some(settings) = self.config.client(client) else {
            return Err(refused("its client is no longer in the config".to_owned()));
        };
        self.check_not_staged_or_held(client, ingestion)?;
        let archived = self.config.layout.archived(client, ingestion);
        if !exists(&archived)? {
            let problem = "it is not in the archive: drop the file again, with `\"on_duplicate\": \"replace\"` for the client";
            return Err(QueryError::NotFound(problem.to_owned()));
        }
        let manifest = staging::read_manifest(&archived).map_err(QueryError::DamagedManifest)?;
        let Some(app) = settings.app(&manifest.app) else {
            let name = &manifest.app;
            return Err(refused(format!("the app {name}, which ingested it, is no longer in the config")));
        };
        if let Some(reason) = replace::refusal(app, replace::last_ingested(runs)) {
            return Err(refused(format!("it cannot be replaced: {reason}")));
        }
        replace::replacement_times(runs, clock::now())
            .ok_or_else(|| QueryError::NotFound("it has no history".to_owned()))
    }

    /// # Errors
    ///
    /// It is staged or held.
    fn check_not_staged_or_held(&self, client: &ClientId, ingestion: IngestionId) -> Result<(), QueryError> {
        let layout = &self.config.layout;
        if exists(&layout.staged(client, ingestion))? {
            let problem = "it is still being ingested; try again when it has ended";
            return Err(QueryError::TryLater(problem.to_owned()));
        }
        if exists(&layout.held(client, ingestion))? {
            let problem = format!("it is held; `mysimbdp retry {ingestion}` runs it again");
            return Err(QueryError::InvalidData(problem));
        }
        Ok(())
    }
}

/// The ingestion of these runs, if it was ingested, and received at or after `since`.
fn due(runs: &[Run], since: Timestamp) -> Option<IngestionId> {
    let last = replace::last_ingested(runs)?;
    let is_due = last.received_at.timestamp_millis() >= since.as_millisecond();
    is_due.then(|| last.ingestion.parse().ok())?
}
