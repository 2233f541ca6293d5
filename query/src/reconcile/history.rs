//! Reads the runs of the history, page by page, and counts what coredms holds of each ingestion.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use mysimbdp_config::{App, Client, Config};
use mysimbdp_model::app::Ids;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_spool::staging;
use mysimbdp_store::history::History;

use super::compare::{Content, Counted, Later};
use super::{Databases, ReconcileReport, Scope, count, disk};
use crate::error::QueryError;

/// Adds all ingestions of the scope to the report.
pub(super) async fn compare(
    config: &Config,
    scope: &Scope,
    history: &History,
    databases: &mut Databases<'_>,
    report: &mut ReconcileReport,
) -> Result<(), QueryError> {
    let mut after = None;
    // The runs of an ingestion are adjacent; those of the last one may continue on the next page.
    let mut runs: Vec<Run> = Vec::new();
    loop {
        let page = history.page(scope.client.as_ref(), after).await?;
        for run in page.runs {
            match run {
                Ok(run) => runs.push(run),
                Err(unreadable) => report.difference(format!("history: {}", error_chain(&unreadable))),
            }
        }
        let is_last = page.next.is_none();
        let next = if is_last { Vec::new() } else { split_last(&mut runs) };
        let contents = contents(std::mem::replace(&mut runs, next), scope.since);
        compare_contents(config, history, databases, contents, report).await?;
        if is_last {
            return Ok(());
        }
        after = page.next;
    }
}

/// Splits off the runs of the last ingestion.
fn split_last(runs: &mut Vec<Run>) -> Vec<Run> {
    let Some(last) = runs.last().map(|run| run.ingestion.clone()) else { return Vec::new() };
    let first = runs.iter().position(|run| run.ingestion == last).unwrap_or(0);
    runs.split_off(first)
}

/// Groups the runs by ingestion, and leaves out ingestions none of whose runs ended at or after `since`.
fn contents(runs: Vec<Run>, since: Option<Timestamp>) -> Vec<Vec<Run>> {
    let mut contents: Vec<Vec<Run>> = Vec::new();
    for run in runs {
        match contents.last_mut().filter(|content| content[0].ingestion == run.ingestion) {
            Some(content) => content.push(run),
            None => contents.push(vec![run]),
        }
    }
    let is_new =
        |run: &Run| since.is_none_or(|since| run.finished_at.timestamp_millis() >= since.as_millisecond());
    contents.retain(|content| content.iter().any(is_new));
    contents
}

async fn compare_contents(
    config: &Config,
    history: &History,
    databases: &mut Databases<'_>,
    contents: Vec<Vec<Run>>,
    report: &mut ReconcileReport,
) -> Result<(), QueryError> {
    let keyed = count_keyed(config, databases, &contents).await?;
    for runs in contents {
        let keyed = runs.first().and_then(|run| keyed.get(&run.ingestion)).copied().unwrap_or(0);
        let mut content = observe(config, history, databases, runs, keyed).await?;
        if !content.differences().is_empty() {
            // A run may have begun or ended during the count, so it is repeated once.
            let runs = runs_of(history, content.runs).await?;
            let keyed = count_keyed(config, databases, std::slice::from_ref(&runs)).await?;
            let keyed = keyed.into_values().next().unwrap_or(0);
            content = observe(config, history, databases, runs, keyed).await?;
        }
        report.content(&content);
    }
    Ok(())
}

/// Counts what coredms holds of the ingestion of these runs; `keyed` is its number of documents with keys.
async fn observe(
    config: &Config,
    history: &History,
    databases: &mut Databases<'_>,
    runs: Vec<Run>,
    keyed: u64,
) -> Result<Content, QueryError> {
    let vanished = vanished(config, history, &runs).await?;
    let later = later(config, &runs);
    let (mut counted, mut rejects) = (Counted::NotIngested, 0);
    if let Some(run) = runs.iter().rfind(|run| run.state == FinalState::Ingested) {
        counted = Counted::NoApp;
        if let (Some((client, app)), Ok(ingestion)) = (app_of(config, run), run.ingestion.parse()) {
            let store = databases.of(client).await?;
            counted = count::of_content(store.as_ref(), (client, app), ingestion, keyed).await?;
            rejects = count::rejects(store.as_ref(), ingestion).await?;
        }
    }
    Ok(Content { runs, counted, rejects, vanished, later })
}

/// Reads the current runs of the same ingestion.
async fn runs_of(history: &History, runs: Vec<Run>) -> Result<Vec<Run>, QueryError> {
    let Some(first) = runs.first() else { return Ok(runs) };
    let Ok(ingestion) = first.ingestion.parse() else { return Ok(runs) };
    let now = history.runs_of(ingestion).await?;
    Ok(if now.is_empty() { runs } else { now })
}

/// What a run that began after the latest ingested one may have changed.
fn later(config: &Config, runs: &[Run]) -> Later {
    let Some(last) = runs.last() else { return Later::None };
    let (Ok(client), Ok(ingestion)) = (last.client.parse(), last.ingestion.parse()) else {
        return Later::None;
    };
    let manifest = |directory: PathBuf| staging::read_manifest(&directory).ok();
    match manifest(config.layout.staged(&client, ingestion)) {
        Some(staged) if staged.replace => Later::Replaces,
        Some(_) => Later::Adds,
        // Its history is written only after the move to `held/`.
        None if manifest(config.layout.held(&client, ingestion)).is_some() => Later::Adds,
        None if last.state == FinalState::Ingested => Later::None,
        None => Later::Adds,
    }
}

/// Counts documents with keys by ingestion: each collection is scanned once for all ingestions of a page.
async fn count_keyed(
    config: &Config,
    databases: &mut Databases<'_>,
    contents: &[Vec<Run>],
) -> Result<BTreeMap<String, u64>, QueryError> {
    let mut asked: BTreeMap<(&ClientId, &str), (&Client, Vec<String>)> = BTreeMap::new();
    for run in contents.iter().filter_map(|runs| runs.iter().rfind(|run| run.state == FinalState::Ingested)) {
        if let Some((client, app)) = app_of(config, run)
            && app.settings.ids == Ids::Key
        {
            let (_, ingestions) =
                asked.entry((&client.id, &app.collection)).or_insert_with(|| (client, Vec::new()));
            ingestions.push(run.ingestion.clone());
        }
    }
    let mut counts = BTreeMap::new();
    for ((_, collection), (client, ingestions)) in asked {
        let store = databases.of(client).await?;
        counts.extend(store.count_by(collection, count::INGESTION, ingestions).await?);
    }
    Ok(counts)
}

fn app_of<'a>(config: &'a Config, run: &Run) -> Option<(&'a Client, &'a App)> {
    let client = config.client(&run.client.parse().ok()?)?;
    Some((client, client.app(&run.app)?))
}

/// The id of the last run, if it is held but is in neither directory. Earlier runs are superseded by it: what was held
/// then has been dropped again. A run that was retried and ingested meanwhile has another state by now.
async fn vanished(config: &Config, history: &History, runs: &[Run]) -> Result<Option<String>, QueryError> {
    let Some(run) = runs.last().filter(|run| run.state == FinalState::Held) else { return Ok(None) };
    let Ok(client) = run.client.parse() else { return Ok(None) };
    if disk::holds(&config.layout, &client, run)? {
        return Ok(None);
    }
    let is_held = history.run(&run.id).await?.is_some_and(|now| now.state == FinalState::Held);
    let has_vanished = is_held && !disk::holds(&config.layout, &client, run)?;
    Ok(has_vanished.then(|| run.id.clone()))
}
