//! Applies the results of tasks that have ended.

use std::time::Instant;

use mysimbdp_config::settings;
use mysimbdp_model::error_chain;
use mysimbdp_model::outcome::{Counts, FinalState};
use mysimbdp_model::reason::{self, Objection};
use mysimbdp_platform::random;
use mysimbdp_telemetry::metrics::metrics;

use super::{Manager, Part, TaskResult, WaitKey, Waiting};
use crate::attempt::AttemptEnd;
use crate::backoff;
use crate::finish::Finish;
use crate::finish::error::FinishError;
use crate::job::IngestionKey;

impl Manager {
    pub(super) fn ended(&mut self, ended: TaskResult) {
        match ended {
            TaskResult::Attempt { key, unit, attempted } => self.attempted(&key, unit, attempted),
            TaskResult::Finish { key, result } => self.finished(&key, result),
            TaskResult::Hold { key, reasons, result } => self.held(&key, &reasons, result),
            TaskResult::Published(result) => {
                self.publishing = false;
                if let Err(error) = result {
                    // Not a warning: the next connection, or the clock, tries again.
                    tracing::debug!(error = error_chain(&error), "messages wait for the broker");
                }
            }
            TaskResult::Swept => {}
            TaskResult::ArrivalsJudged(judged) => {
                self.arrivals.ended(judged, self.config.settings.batch_manager.scan_every.duration());
            }
        }
    }

    fn attempted(&mut self, key: &IngestionKey, unit: usize, attempted: AttemptEnd) {
        let settings = self.config.settings.batch_manager.clone();
        let Some(found) = self.ingestions.get_mut(key) else { return };
        let (index, file) = (found.work.units[unit].index, found.work.manifest.file.clone());
        let (client, ingestion) = key;
        let wait_key = (client.clone(), found.job.app.clone(), Part::Units);
        crate::metrics::attempted(client.as_str(), &found.job.app, &attempted);
        let has_stopped_waiting = !matches!(attempted, AttemptEnd::TryLater { .. } | AttemptEnd::Stopped);
        match attempted {
            AttemptEnd::Done(outcome) => {
                found.outcomes.insert(index, outcome);
                found.job.mark_done(unit);
            }
            AttemptEnd::Failed { attempt, reason } if attempt.failures >= settings.attempts_max => {
                let failures = attempt.failures;
                found.attempts.insert(index, attempt);
                let text = format!("unit {index} failed {failures} times, last: {reason}");
                found.job.give_up(Some(unit), reason.code.because(text));
            }
            AttemptEnd::Failed { attempt, reason } => {
                let failures = attempt.failures;
                tracing::warn!(%client, %ingestion, file, unit = index, failures, %reason, "a unit failed, it will be tried again");
                found.attempts.insert(index, attempt);
                found.job.retry_unit(unit, |_| after_failure(&settings, failures));
            }
            AttemptEnd::TryLater { attempt, reason } => {
                found.attempts.insert(index, attempt);
                found.job.retry_unit(unit, |tries| during_outage(&settings, tries));
                self.begin_wait(key, wait_key.clone(), &file, reason);
            }
            AttemptEnd::Hopeless { attempt, reason } => {
                found.attempts.insert(index, attempt);
                let text = format!("unit {index}: {reason}");
                found.job.give_up(Some(unit), reason.code.because(text));
            }
            AttemptEnd::Stopped => found.job.retry_unit(unit, |tries| after_failure(&settings, tries)),
        }
        if has_stopped_waiting {
            self.end_wait(&wait_key);
        }
    }

    /// Logs one warning for a whole outage: each try of each unit would log the same.
    fn begin_wait(
        &mut self,
        (client, ingestion): &IngestionKey,
        wait_key: WaitKey,
        file: &str,
        reason: String,
    ) {
        let waiting = self.waiting.entry(wait_key).or_default();
        waiting.tries += 1;
        if waiting.tries == 1 {
            tracing::warn!(%client, %ingestion, file, reason, "work waits, it will be tried again");
        } else {
            tracing::debug!(%client, %ingestion, file, reason, "work waits, it will be tried again");
        }
        waiting.reason = reason;
    }

    fn end_wait(&mut self, wait_key: &WaitKey) {
        if let Some(Waiting { tries, .. }) = self.waiting.remove(wait_key) {
            tracing::info!(client = %wait_key.0, app = wait_key.1, tries, "work resumes");
        }
    }

    fn finished(&mut self, key: &IngestionKey, result: Result<Finish, FinishError>) {
        let settings = self.config.settings.batch_manager.clone();
        let (client, ingestion) = key;
        let Some(found) = self.ingestions.get_mut(key) else { return };
        let manifest = &found.work.manifest;
        match result {
            Ok(Finish::Ingested(counts)) => {
                let Counts { received, stored, duplicates, rejected } = counts;
                let file = manifest.file.clone();
                metrics().file_ingested(client.as_str(), &found.job.app, counts, manifest.bytes);
                tracing::info!(%client, %ingestion, file, received, stored, duplicates, rejected, "ingested");
                let event = (*ingestion, rejected);
                if rejected > 0 && self.rejected_bursts.count(client.clone(), event, Instant::now()).is_some()
                {
                    tracing::warn!(%client, %ingestion, file, rejected, "records were rejected, `mysimbdp rejected` shows them");
                }
                let wait_key = (client.clone(), found.job.app.clone(), Part::End);
                self.arrivals.file_changed(&self.config, client, &file);
                self.forget(key);
                self.end_wait(&wait_key);
                self.publish_outbox();
            }
            Ok(Finish::MustHold(reason)) => found.job.give_up(None, reason),
            Err(error) => {
                let (file, wait_key) =
                    (manifest.file.clone(), (client.clone(), found.job.app.clone(), Part::End));
                found.job.retry_end(|tries| during_outage(&settings, tries));
                self.begin_wait(key, wait_key, &file, format!("cannot finish yet: {}", error_chain(&error)));
            }
        }
    }

    fn held(&mut self, key: &IngestionKey, reasons: &[Objection], result: Result<(), FinishError>) {
        let settings = self.config.settings.batch_manager.clone();
        let (client, ingestion) = key;
        let Some(found) = self.ingestions.get_mut(key) else { return };
        let file = found.work.manifest.file.clone();
        match result {
            Ok(()) => {
                let code = reasons.first().map(|reason| reason.code);
                metrics().file_ended(client.as_str(), FinalState::Held, code, found.work.manifest.bytes);
                let reason = reason::joined(reasons);
                tracing::error!(%client, %ingestion, file, reason, "held");
                let wait_key = (client.clone(), found.job.app.clone(), Part::End);
                self.arrivals.file_changed(&self.config, client, &file);
                self.forget(key);
                self.end_wait(&wait_key);
                self.publish_outbox();
            }
            Err(error) => {
                let wait_key = (client.clone(), found.job.app.clone(), Part::End);
                found.job.retry_end(|tries| during_outage(&settings, tries));
                self.begin_wait(key, wait_key, &file, format!("cannot hold yet: {}", error_chain(&error)));
            }
        }
    }
}

/// Returns when to try again what waits for something unavailable, and not for a repaired app.
fn during_outage(settings: &settings::BatchManager, tries: u32) -> Instant {
    Instant::now() + backoff::during_outage(settings, tries, random::jitter())
}

fn after_failure(settings: &settings::BatchManager, failures: u32) -> Instant {
    Instant::now() + backoff::after_failure(settings, failures, random::jitter())
}
