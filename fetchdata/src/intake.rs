//! The loop: look at the drop point, take what has settled, a few files at a time.
//!
//! Level-triggered: events and the clock only say when to look again, and each look starts from what lies there.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_core::config::Config;
use mysimbdp_core::manifest::Lane;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

use crate::Error;
use crate::route::{self, Place};
use crate::scan::{self, ScanFault, Walk};
use crate::settle::{Ended, Ready, Tracker};
use crate::take::Taker;
use crate::watch::Watch;

/// Walks that follow each other by events take at most this share of the time: one part in five.
const WALK_REST_FACTOR: u32 = 4;
const WALK_REST_MIN: Duration = Duration::from_millis(50);

/// The state of the loop.
pub(crate) struct Intake {
    config: Arc<Config>,
    taker: Arc<Taker>,
    tracker: Tracker,
    /// Settled files that wait for a free hand.
    queue: VecDeque<Ready>,
    tasks: JoinSet<(PathBuf, Ended)>,
    /// What could not be looked at, and was warned of.
    faults: HashSet<String>,
}

/// When the drop point is walked again.
#[derive(Clone, Copy, Debug)]
struct NextWalk {
    at: Instant,
    /// Not before, however many events come.
    rested: Instant,
}

impl Intake {
    pub(crate) fn new(config: Arc<Config>, taker: Arc<Taker>) -> Self {
        Self {
            config,
            taker,
            tracker: Tracker::default(),
            queue: VecDeque::new(),
            tasks: JoinSet::new(),
            faults: HashSet::new(),
        }
    }

    /// Runs until `shutdown` is true, then finishes the files in work.
    pub(crate) async fn run(
        &mut self,
        watch: &Watch,
        mut shutdown: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        while !*shutdown.borrow_and_update() {
            let mut next = self.walk().await?;
            // Until then only ends and events are taken in.
            loop {
                self.start_tasks();
                tokio::select! {
                    changed = shutdown.changed() => {
                        if changed.is_err() {
                            return self.finish_tasks().await;
                        }
                        break;
                    }
                    Some(ended) = self.tasks.join_next() => {
                        let (path, ended) = ended.map_err(Error::Crashed)?;
                        let now = Instant::now();
                        self.tracker.ended(&path, ended, now);
                        next.at = self.tracker.next_look(now).map_or(next.at, |look| look.min(next.at));
                    }
                    () = watch.woken() => next.at = next.at.min(next.rested),
                    () = tokio::time::sleep_until(next.at.max(next.rested).into()) => break,
                }
            }
        }
        self.finish_tasks().await
    }

    /// Looks at everything and queues what has settled.
    async fn walk(&mut self) -> Result<NextWalk, Error> {
        let config = Arc::clone(&self.config);
        let started = Instant::now();
        let Walk { looks, faults } =
            spawn_blocking(move || scan::walk(&config)).await.map_err(Error::Crashed)?;
        self.warn_of(&faults);
        let now = Instant::now();
        self.queue = in_turns(self.tracker.observe(now, looks));
        let scan = now + self.config.settings.fetchdata.scan_every.duration();
        let at = self.tracker.next_look(now).map_or(scan, |look| look.min(scan));
        let rested = now + (WALK_REST_FACTOR * (now - started)).max(WALK_REST_MIN);
        Ok(NextWalk { at, rested })
    }

    fn start_tasks(&mut self) {
        while self.tasks.len() < self.config.settings.fetchdata.files_in_parallel as usize {
            let Some(ready) = self.queue.pop_front() else { return };
            if self.tracker.take(&ready) {
                let taker = Arc::clone(&self.taker);
                self.tasks.spawn(async move { (ready.look.path.clone(), taker.take(ready).await) });
            }
        }
    }

    /// Each file's steps are bounded in time, so this is too.
    async fn finish_tasks(&mut self) -> Result<(), Error> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(Error::Crashed)?;
        }
        Ok(())
    }

    /// Once for each that begins, not at every walk.
    fn warn_of(&mut self, faults: &[ScanFault]) {
        let faults: HashSet<String> = faults.iter().map(|fault| mysimbdp_core::chain(fault)).collect();
        for error in faults.difference(&self.faults) {
            tracing::warn!(error, "part of the drop point cannot be looked at");
        }
        self.faults = faults;
    }
}

/// One file of each client after the other, so that none waits for another's flood; backfill after everything else.
fn in_turns(ready: Vec<Ready>) -> VecDeque<Ready> {
    let mut position: BTreeMap<(bool, String), usize> = BTreeMap::new();
    let mut ranked: Vec<((bool, usize), Ready)> = ready
        .into_iter()
        .map(|ready| {
            let is_backfill = route::lane(&ready.look.place) == Lane::Backfill;
            let owner = match &ready.look.place {
                Place::Client(id) | Place::Backfill(id) => id.to_string(),
                Place::Shared => String::new(),
            };
            let rank = position.entry((is_backfill, owner)).or_default();
            *rank += 1;
            ((is_backfill, *rank), ready)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, ready)| ready).collect()
}
