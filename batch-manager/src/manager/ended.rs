//! Applies the results of tasks that have ended.

use std::time::Instant;

use mysimbdp_config::settings;
use mysimbdp_model::error_chain;
use mysimbdp_model::outcome::Counts;
use mysimbdp_model::reason::{self, Objection};
use mysimbdp_platform::random;

use super::{Ended, Manager, Part, Waiter, Waiting};
use crate::attempt::Attempted;
use crate::backoff;
use crate::finish::Finish;
use crate::finish::error::FinishError;
use crate::job::Key;

impl Manager {
    pub(super) fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Attempt { key, unit, attempted } => self.attempted(&key, unit, attempted),
            Ended::Finish { key, result } => self.finished(&key, result),
            Ended::Hold { key, reasons, result } => self.held(&key, &reasons, result),
            Ended::Published(result) => {
                self.publishing = false;
                if let Err(error) = result {
                    // Not a warning: the next connection, or the clock, tries again.
                    tracing::debug!(error = error_chain(&error), "messages wait for the broker");
                }
            }
            Ended::Swept => {}
        }
    }

    fn attempted(&mut self, key: &Key, unit: usize, attempted: Attempted) {
        let settings = self.config.settings.batch_manager.clone();
        let Some(found) = self.ingestions.get_mut(key) else { return };
        let (index, file) = (found.work.units[unit].index, found.work.manifest.file.clone());
        let (client, ingestion) = key;
        let app = (client.clone(), found.job.app.clone(), Part::Units);
        let has_stopped_waiting = !matches!(attempted, Attempted::Later { .. } | Attempted::Stopped);
        match attempted {
            Attempted::Done(outcome) => {
                found.outcomes.insert(index, outcome);
                found.job.done(unit);
            }
            Attempted::Failed { attempt, reason } if attempt.failures >= settings.attempts_max => {
                let failures = attempt.failures;
                found.attempts.insert(index, attempt);
                let text = format!("unit {index} failed {failures} times, last: {reason}");
                found.job.give_up(Some(unit), reason.code.because(text));
            }
            Attempted::Failed { attempt, reason } => {
                let failures = attempt.failures;
                tracing::warn!(%client, %ingestion, file, unit = index, failures, %reason, "a unit failed, it is tried again");
                found.attempts.insert(index, attempt);
                found.job.again(unit, |_| delay_until(&settings, failures));
            }
            Attempted::Later { attempt, reason } => {
                found.attempts.insert(index, attempt);
                found.job.again(unit, |tries| wait_until(&settings, tries));
                self.begin_wait(key, app.clone(), &file, reason);
            }
            Attempted::Hopeless { attempt, reason } => {
                found.attempts.insert(index, attempt);
                let text = format!("unit {index}: {reason}");
                found.job.give_up(Some(unit), reason.code.because(text));
            }
            Attempted::Stopped => found.job.again(unit, |tries| delay_until(&settings, tries)),
        }
        if has_stopped_waiting {
            self.end_wait(&app);
        }
    }

    /// Logs one warning for a whole outage: each try of each unit would log the same.
    fn begin_wait(&mut self, (client, ingestion): &Key, app: Waiter, file: &str, reason: String) {
        let waiting = self.waiting.entry(app).or_default();
        waiting.tries += 1;
        if waiting.tries == 1 {
            tracing::warn!(%client, %ingestion, file, reason, "work waits and is tried again");
        } else {
            tracing::debug!(%client, %ingestion, file, reason, "work waits and is tried again");
        }
        waiting.reason = reason;
    }

    fn end_wait(&mut self, app: &Waiter) {
        if let Some(Waiting { tries, .. }) = self.waiting.remove(app) {
            tracing::info!(client = %app.0, app = app.1, tries, "work goes on again");
        }
    }

    fn finished(&mut self, key: &Key, result: Result<Finish, FinishError>) {
        let settings = self.config.settings.batch_manager.clone();
        let (client, ingestion) = key;
        let Some(found) = self.ingestions.get_mut(key) else { return };
        let manifest = &found.work.manifest;
        match result {
            Ok(Finish::Ingested(counts)) => {
                let Counts { received, stored, duplicates, rejected } = counts;
                let file = manifest.file.clone();
                tracing::info!(%client, %ingestion, file, received, stored, duplicates, rejected, "ingested");
                let event = (*ingestion, rejected);
                if rejected > 0 && self.rejected_bursts.count(client.clone(), event, Instant::now()).is_some()
                {
                    tracing::warn!(%client, %ingestion, file, rejected, "records were rejected, `mysimbdp rejected` shows them");
                }
                let app = (client.clone(), found.job.app.clone(), Part::End);
                self.forget(key);
                self.end_wait(&app);
                self.publish_outbox();
            }
            Ok(Finish::Refused(reason)) => found.job.give_up(None, reason),
            Err(error) => {
                let (file, app) = (manifest.file.clone(), (client.clone(), found.job.app.clone(), Part::End));
                found.job.end_again(|tries| wait_until(&settings, tries));
                self.begin_wait(key, app, &file, format!("cannot finish yet: {}", error_chain(&error)));
            }
        }
    }

    fn held(&mut self, key: &Key, reasons: &[Objection], result: Result<(), FinishError>) {
        let settings = self.config.settings.batch_manager.clone();
        let (client, ingestion) = key;
        let Some(found) = self.ingestions.get_mut(key) else { return };
        let file = found.work.manifest.file.clone();
        match result {
            Ok(()) => {
                let reason = reason::joined(reasons);
                tracing::error!(%client, %ingestion, file, reason, "held");
                let app = (client.clone(), found.job.app.clone(), Part::End);
                self.forget(key);
                self.end_wait(&app);
                self.publish_outbox();
            }
            Err(error) => {
                let app = (client.clone(), found.job.app.clone(), Part::End);
                found.job.end_again(|tries| wait_until(&settings, tries));
                self.begin_wait(key, app, &file, format!("cannot hold yet: {}", error_chain(&error)));
            }
        }
    }
}

/// Returns when to try again what waits for something unavailable, and not for a repaired app.
fn wait_until(settings: &settings::BatchManager, tries: u32) -> Instant {
    Instant::now() + backoff::wait(settings, tries, random::jitter())
}

fn delay_until(settings: &settings::BatchManager, failures: u32) -> Instant {
    Instant::now() + backoff::delay(settings, failures, random::jitter())
}
