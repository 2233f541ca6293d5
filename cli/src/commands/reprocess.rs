//! `mysimbdp reprocess`: archived files back to staging, as runs that replace what their app has stored before.

use bson::{Bson, Document, doc};
use jiff::Timestamp;
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::outcome::Run;
use mysimbdp_platform::clock;
use mysimbdp_spool::replace::{self, Succession};
use mysimbdp_spool::staging;
use mysimbdp_store::Coredms;

use crate::args::Reprocess;
use crate::commands::{drop_files, retry};
use crate::error::Failure;
use crate::output::{self, Foreign};

/// Runs that are read at a time.
const PAGE: i64 = 500;

/// Far more often than anybody has one content ingested.
const RUNS_MAX: i64 = 10_000;

pub async fn run(config: &Config, args: &Reprocess) -> Result<(), Failure> {
    if let Some(id) = args.client.as_ref().filter(|id| config.client(id).is_none()) {
        return Err(drop_files::unknown_client(config, id.as_str()));
    }
    let platform = mysimbdp_store::open(&config.coredms_url, &config.settings.coredms.database).await?;
    let command = Command { config, platform: platform.as_ref(), dry_run: args.dry_run };
    let result = match (args.ingestion, &args.client, args.since) {
        (Some(ingestion), _, _) => command.one(ingestion).await,
        (None, Some(client), Some(since)) => command.all(client, since).await,
        // The command line lets nothing else through.
        (None, _, _) => Err(Failure::new(exit::USAGE, "neither an ingestion nor a client and a time given")),
    };
    platform.close().await;
    result
}

struct Command<'a> {
    config: &'a Config,
    platform: &'a dyn Coredms,
    dry_run: bool,
}

impl Command<'_> {
    async fn one(&self, ingestion: IngestionId) -> Result<(), Failure> {
        let found =
            self.platform.find(Run::COLLECTION, doc! {"ingestion": ingestion.to_string()}, RUNS_MAX).await?;
        let runs = read(found)?;
        if let Some(client) = runs.first().and_then(|run| run.client.parse().ok()) {
            return self
                .content(&client, ingestion, &runs)
                .map_err(|failure| named(ingestion, &client, &failure));
        }
        // One that is ingested for the first time has no history yet.
        for client in self.config.clients.keys() {
            self.not_elsewhere(client, ingestion).map_err(|failure| named(ingestion, client, &failure))?;
        }
        let problem = format!("no ingestion {ingestion} is known; `mysimbdp reconcile` lists those that are");
        Err(Failure::new(exit::NO_INPUT, problem))
    }

    /// All of a client, the history page by page: the runs of a content follow one another there.
    async fn all(&self, client: &ClientId, since: Timestamp) -> Result<(), Failure> {
        let filter = doc! { "client": client.as_str() };
        let (mut after, mut runs, mut last) = (None::<Bson>, Vec::<Run>::new(), None);
        let (mut done, mut left) = (0_u64, 0_u64);
        loop {
            let page = self.platform.page(Run::COLLECTION, filter.clone(), after, PAGE).await?;
            let is_last = (page.len() as i64) < PAGE;
            after = page.last().and_then(|run| run.get("_id")).cloned();
            runs.extend(read(page)?);
            while let Some(first) = runs.first() {
                let of_first = |run: &Run| run.ingestion == first.ingestion;
                let count = runs.iter().take_while(|run| of_first(run)).count();
                if count == runs.len() && !is_last {
                    break;
                }
                let content: Vec<Run> = runs.drain(..count).collect();
                let Some(id) = self.due(&content, since) else { continue };
                // It may have ended once more while we were reading on.
                if last.replace(id) == Some(id) {
                    continue;
                }
                match self.content(client, id, &content) {
                    Ok(()) => done += 1,
                    Err(failure) => {
                        left += 1;
                        println!("left {}", named(id, client, &failure));
                    }
                }
            }
            if is_last {
                break;
            }
        }
        let word = if self.dry_run { "would be run again" } else { "run again" };
        println!("{} {word}, {left} left", output::files(done));
        if left == 0 { Ok(()) } else { Err(Failure::said(exit::DATA)) }
    }

    /// The content of these runs, if it was ingested and received since then.
    fn due(&self, runs: &[Run], since: Timestamp) -> Option<IngestionId> {
        let last = replace::last_ingested(runs)?;
        let is_due = last.received_at.timestamp_millis() >= since.as_millisecond();
        is_due.then(|| last.ingestion.parse().ok())?
    }

    /// Runs one content again, unless something is in the way.
    fn content(&self, client: &ClientId, ingestion: IngestionId, runs: &[Run]) -> Result<(), Failure> {
        let times = self.examine(client, ingestion, runs)?;
        let file = runs.last().map(|run| run.file.as_str()).unwrap_or_default();
        let (file, layout) = (Foreign(file), &self.config.layout);
        if self.dry_run {
            println!("would run {ingestion} of {client} again: {file}");
            return Ok(());
        }
        staging::reprocess(layout, client, ingestion, times)
            .map_err(|error| Failure::of(exit::IO, &error))?;
        println!("{ingestion} of {client} is run again, and replaces what it has stored: {file}");
        Ok(())
    }

    fn examine(
        &self,
        client: &ClientId,
        ingestion: IngestionId,
        runs: &[Run],
    ) -> Result<Succession, Failure> {
        let refused = |problem: String| Failure::new(exit::CONFIG, problem);
        let Some(settings) = self.config.client(client) else {
            return Err(refused("the config has no such client any more".to_owned()));
        };
        self.not_elsewhere(client, ingestion)?;
        let archived = self.config.layout.archived(client, ingestion);
        if !retry::is_there(&archived)? {
            let problem = "it is not in the archive: drop the file again, with `\"on_duplicate\": \"replace\"` of the client";
            return Err(Failure::new(exit::NO_INPUT, problem));
        }
        let manifest = staging::read_manifest(&archived).map_err(|error| Failure::of(exit::DATA, &error))?;
        let Some(app) = settings.app(&manifest.app) else {
            let name = &manifest.app;
            return Err(refused(format!("the client has no app {name} any more, which ingested it")));
        };
        if let Some(reason) = replace::refusal(app, replace::last_ingested(runs)) {
            return Err(refused(format!("it cannot be replaced: {reason}")));
        }
        replace::after(runs, clock::now()).ok_or_else(|| Failure::new(exit::NO_INPUT, "it has no history"))
    }

    /// # Errors
    ///
    /// It is staged or held.
    fn not_elsewhere(&self, client: &ClientId, ingestion: IngestionId) -> Result<(), Failure> {
        let layout = &self.config.layout;
        if retry::is_there(&layout.staged(client, ingestion))? {
            let problem = "it is still being ingested; try again when it has ended";
            return Err(Failure::new(exit::TEMPORARY, problem));
        }
        if retry::is_there(&layout.held(client, ingestion))? {
            let problem = format!("it is held; `mysimbdp retry {ingestion}` runs it again");
            return Err(Failure::new(exit::DATA, problem));
        }
        Ok(())
    }
}

/// The failure with the content that it is about, which its own text calls "it".
fn named(ingestion: IngestionId, client: &ClientId, failure: &Failure) -> Failure {
    Failure::new(failure.code, format!("{ingestion} of {client}: {failure}"))
}

fn read(found: Vec<Document>) -> Result<Vec<Run>, Failure> {
    let runs = found.into_iter().map(bson::deserialize_from_document::<Run>).collect::<Result<_, _>>();
    runs.map_err(|error| Failure::of(exit::DATA, &error))
}
