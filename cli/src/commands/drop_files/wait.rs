//! Waits until dropped files have ended, and reports progress on stderr meanwhile.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_model::outcome::Counts;
use mysimbdp_query::file_outcome::{self, Dropped, FileOutcome, FileProgress};
use mysimbdp_query::snapshot;
use mysimbdp_spool::staging;

use crate::args::DropFiles;
use crate::error::CommandError;
use crate::output::Foreign;

/// Between two scans of the directories; a person does not notice it.
const SCAN_EVERY: Duration = Duration::from_millis(100);
/// Nothing is reported before this time: most files have ended by then.
const REPORT_AFTER: Duration = Duration::from_secs(2);
/// How often missing processes and connections are checked.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How often progress is reported on a terminal, on which one line is overwritten.
const SHOW_EVERY: Duration = Duration::from_secs(1);
/// How often progress is reported elsewhere: each report is a new line.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Waits until one file has ended, and returns its outcome.
pub(super) async fn wait(
    config: &Config,
    args: &DropFiles,
    dropped: &Dropped,
    deadline: Instant,
    reporter: &mut WaitReporter,
) -> Result<FileOutcome, CommandError> {
    let started = Instant::now();
    loop {
        let progress = file_outcome::progress(config, &args.client, dropped).await?;
        let hidden_because = match progress {
            FileProgress::Ended(outcome) => {
                reporter.bar.set_message("");
                return Ok(outcome);
            }
            FileProgress::Dropped => None,
            FileProgress::Taken { hidden_because } => hidden_because,
        };
        if Instant::now() >= deadline {
            return Err(CommandError::new(
                exit::TEMPORARY,
                overdue(args, dropped, hidden_because.as_deref()),
            ));
        }
        if started.elapsed() >= REPORT_AFTER {
            reporter.waits_for(config, hidden_because).await;
            reporter.progress(config, &args.client, dropped);
        }
        tokio::time::sleep(SCAN_EVERY).await;
    }
}

/// Describes on one line how a file ended.
pub(super) fn shown(outcome: &FileOutcome) -> String {
    match outcome {
        FileOutcome::Ingested { run } => {
            let mut text = format!(
                "ingested: received {}, stored {}, duplicates {}, rejected {} in {:.2} s",
                run.received, run.stored, run.duplicates, run.rejected, run.seconds
            );
            if run.rejected > 0 {
                text.push_str(&format!("; `mysimbdp rejected {}` shows what was rejected", run.ingestion));
            }
            text
        }
        FileOutcome::Receipt { counts: Counts { received, stored, duplicates, rejected }, seconds } => {
            format!(
                "ingested: received {received}, stored {stored}, duplicates {duplicates}, rejected {rejected} in {seconds:.2} s"
            )
        }
        FileOutcome::Held(reasons) => format!("held: {}", Foreign(&reasons.join("; "))),
        FileOutcome::Discarded(reasons) => format!("discarded: {}", Foreign(&reasons.join("; "))),
    }
}

fn overdue(args: &DropFiles, dropped: &Dropped, hidden_because: Option<&str>) -> String {
    let Dropped { target, .. } = dropped;
    let within = args.timeout;
    match hidden_because {
        None => format!("{target} has not ended within {within:?}; `mysimbdp status` shows where it is"),
        Some(hidden_because) => {
            let hidden_because = Foreign(hidden_because);
            format!(
                "{target} was taken, and has not ended within {within:?} as far as this user can see: {hidden_because}"
            )
        }
    }
}

/// Reports what the command waits for, and how much of the file is done; each change once.
#[derive(Debug)]
pub(super) struct WaitReporter {
    /// The last line of a terminal; hidden elsewhere.
    bar: ProgressBar,
    asked_at: Option<Instant>,
    waits_for: Option<String>,
    shown_at: Option<Instant>,
    progress: Option<String>,
}

impl WaitReporter {
    pub(super) fn new() -> Self {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::no_length().with_style(style);
        Self { bar, asked_at: None, waits_for: None, shown_at: None, progress: None }
    }

    /// Reports what the file waits for. `hidden_because` is the reason why this user cannot tell whether a file that
    /// was taken has ended.
    async fn waits_for(&mut self, config: &Config, hidden_because: Option<String>) {
        if self.asked_at.is_some_and(|asked_at| asked_at.elapsed() < ASK_EVERY) {
            return;
        }
        self.asked_at = Some(Instant::now());
        let obstacles = snapshot::obstacles(config, snapshot::NEEDED_FOR_FILES).await;
        let waits_for = if obstacles.is_empty() { hidden_because } else { Some(obstacles.join("; ")) };
        if self.waits_for != waits_for {
            self.bar.suspend(|| match &waits_for {
                Some(waits_for) => eprintln!("waits: {}", Foreign(waits_for)),
                None => eprintln!("continues"),
            });
            self.waits_for = waits_for;
        }
    }

    /// Reports how much of the file the client's app has done.
    fn progress(&mut self, config: &Config, client: &ClientId, dropped: &Dropped) {
        let is_terminal = std::io::stderr().is_terminal();
        let every = if is_terminal { SHOW_EVERY } else { LINE_EVERY };
        if self.shown_at.is_some_and(|shown_at| shown_at.elapsed() < every) {
            return;
        }
        let Some(progress) = done(config, client, dropped) else { return };
        self.shown_at = Some(Instant::now());
        if self.progress.as_ref() == Some(&progress) {
            return;
        }
        if is_terminal {
            self.bar.set_message(mysimbdp_telemetry::logging::escape_controls(&progress).into_owned());
        } else {
            eprintln!("{progress}");
        }
        self.progress = Some(progress);
    }
}

impl Drop for WaitReporter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Describes how much of a staged file is done; `None` if it is not staged, or this user may not read it.
fn done(config: &Config, client: &ClientId, dropped: &Dropped) -> Option<String> {
    let staged = staging::read(&config.layout, client, dropped.ingestion).ok()?;
    let (manifest, outcomes) = (&staged.manifest, &staged.outcomes);
    let records: u64 = outcomes.values().map(|outcome| outcome.counts.received).sum();
    let bytes: u64 = outcomes.values().map(|outcome| outcome.bytes).sum();
    let mut text = format!(
        "{}: {} of {} micro-batches done, {records} of {} records, {} of {}",
        dropped.target,
        outcomes.len(),
        manifest.micro_batches.len(),
        manifest.records,
        HumanBytes(bytes),
        HumanBytes(manifest.bytes),
    );
    let undone = staged.attempts.iter().filter(|(unit, _)| !outcomes.contains_key(unit));
    if let Some((attempt, reason)) =
        undone.filter_map(|(_, attempt)| Some((attempt, attempt.reason.as_ref()?))).next()
    {
        text.push_str(&format!("; attempt {}: {}", attempt.attempt, Foreign(reason)));
    }
    Some(text)
}
