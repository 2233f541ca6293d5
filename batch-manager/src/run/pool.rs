//! Keeps the workers that wait for units.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mysimbdp_model::app::UnitHeader;
use tokio::sync::watch;

use super::app_report::Lists;
use super::program::Program;
use super::worker::Worker;
use super::{UnitRun, not_started};
use crate::feed::Feed;

/// Idle workers by their app. An app never has more of them than units of it have run at the same time.
#[derive(Debug, Default)]
pub struct Workers {
    idle: Mutex<BTreeMap<String, Vec<Worker>>>,
}

impl Workers {
    /// Runs a unit on an idle worker of the app `key`, or on a new one.
    pub async fn run(
        &self,
        key: &str,
        program: &Program,
        header: &UnitHeader,
        feed: Feed,
        lists: Lists,
        stop: watch::Receiver<bool>,
    ) -> UnitRun {
        let since = Instant::now();
        let (worker, spawn) = match self.take(key).await {
            Some(worker) => (worker, Duration::ZERO),
            None => match Worker::start(program).await {
                Ok(worker) => (worker, since.elapsed()),
                Err(error) => {
                    let verdict = not_started(&error);
                    return UnitRun { verdict, rejects: lists.rejects, spawn: since.elapsed() };
                }
            },
        };
        let worked = worker.work(header, feed, lists, stop).await;
        if let Some(worker) = worked.worker {
            self.idle().entry(key.to_owned()).or_default().push(worker);
        }
        UnitRun { verdict: worked.verdict, rejects: worked.rejects, spawn }
    }

    /// Ends the workers that have been idle for `age`.
    pub async fn end_idle(&self, age: Duration) {
        let mut old = Vec::new();
        for workers in self.idle().values_mut() {
            old.extend(workers.extract_if(.., |worker| worker.idle_since.elapsed() >= age));
        }
        end(old).await;
    }

    /// Ends all of them.
    pub async fn end_all(&self) {
        let all = std::mem::take(&mut *self.idle());
        end(all.into_values().flatten().collect()).await;
    }

    /// Takes the worker that became idle last, so that workers which are not needed reach their idle limit.
    async fn take(&self, key: &str) -> Option<Worker> {
        loop {
            let worker = self.idle().get_mut(key)?.pop()?;
            if worker.is_alive() {
                return Some(worker);
            }
        }
    }

    /// A poisoned lock is usable: no panic can leave the map half changed.
    fn idle(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<Worker>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends all at the same time, as each takes up to its grace.
async fn end(workers: Vec<Worker>) {
    let mut ending: tokio::task::JoinSet<()> = workers.into_iter().map(Worker::end).collect();
    while ending.join_next().await.is_some() {}
}
