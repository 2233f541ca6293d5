//! The loop: look at the drop point, take what has settled, a few files at a time.
//!
//! Level-triggered: events and the clock only say when to look again, and each look starts from what lies there.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::Config;
use mysimbdp_core::io::drop_directory::DropPath;
use mysimbdp_core::manifest::Lane;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

use crate::Error;
use crate::judge::candidate;
use crate::measure::Measure;
use crate::pause::Pause;
use crate::room::Gate;
use crate::route::{self, Place};
use crate::scan::{self, ScanFault, Walk};
use crate::settle::{Ended, Ready, Tracker};
use crate::take::Taker;
use crate::watch::Watch;

/// Walks that follow each other by events take at most this share of the time: one part in five.
const WALK_REST_FACTOR: u32 = 4;
const WALK_REST_MIN: Duration = Duration::from_millis(50);
/// One that took long because the disk stood still is no reason to look away for minutes.
const WALK_REST_MAX: Duration = Duration::from_secs(20);

/// While files wait for room it is looked so often whether there is some again.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// The state of the loop.
pub(crate) struct Intake {
    config: Arc<Config>,
    taker: Arc<Taker>,
    tracker: Tracker,
    /// Settled files that wait for a free hand.
    queue: VecDeque<Ready>,
    tasks: JoinSet<(DropPath, Lane, Ended)>,
    /// How many of the tasks are of the backfill lane.
    backfilling: usize,
    /// Whose staging the files in work may come to lie in, and their bytes.
    in_work: HashMap<DropPath, (ClientId, u64)>,
    measure: Measure,
    gate: Gate,
    pause: Pause,
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
            gate: Gate::new(&config.settings.fetchdata),
            pause: Pause::new(&config.layout),
            measure: Measure::default(),
            in_work: HashMap::new(),
            config,
            taker,
            tracker: Tracker::default(),
            queue: VecDeque::new(),
            tasks: JoinSet::new(),
            backfilling: 0,
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
                if self.tell_shortages() {
                    next.at = next.at.min(Instant::now() + ROOM_EVERY);
                }
                tokio::select! {
                    changed = shutdown.changed() => {
                        if changed.is_err() {
                            return self.finish_tasks().await;
                        }
                        break;
                    }
                    Some(ended) = self.tasks.join_next() => {
                        let (path, lane, ended) = ended.map_err(Error::Crashed)?;
                        let now = Instant::now();
                        let look = self.ended(&path, lane, ended, now);
                        next.at = look.map_or(next.at, |look| look.min(next.at));
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
        // All of it is found again, and is not to be in memory twice.
        self.queue = VecDeque::new();
        let config = Arc::clone(&self.config);
        let started = Instant::now();
        let mut measure = std::mem::take(&mut self.measure);
        let walked = spawn_blocking(move || (scan::walk(&config), measure.level(&config.layout), measure));
        let (Walk { looks, faults }, level, measure) = walked.await.map_err(Error::Crashed)?;
        self.measure = measure;
        self.gate.measured(level.map_err(|error| mysimbdp_core::chain(&error)), self.in_work.values());
        self.warn_of(&faults);
        let now = Instant::now();
        self.queue = in_turns(self.tracker.observe(now, looks));
        let scan = now + self.config.settings.fetchdata.scan_every.duration();
        let at = self.tracker.next_look(now).map_or(scan, |look| look.min(scan));
        let rested = now + (WALK_REST_FACTOR * (now - started)).clamp(WALK_REST_MIN, WALK_REST_MAX);
        Ok(NextWalk { at, rested })
    }

    /// One hand is kept from backfill, whose files may be large: a live file need not wait until one is split. With a
    /// single hand there is none to keep.
    fn start_tasks(&mut self) {
        let hands = self.config.settings.fetchdata.files_in_parallel as usize;
        while self.tasks.len() < hands {
            let Some(next) = self.queue.front() else { return };
            let lane = route::lane(&next.look.place);
            // Backfill lies behind everything else, so nothing waits behind it.
            if lane == Lane::Backfill && hands > 1 && self.backfilling + 1 >= hands {
                return;
            }
            let Some(ready) = self.queue.pop_front() else { return };
            // What is refused unread goes on: to put it aside needs no room worth speaking of.
            let candidate = candidate(&self.config, &ready.look);
            let bytes = ready.look.stamp.bytes;
            let now = Instant::now();
            if candidate.is_some_and(|client| !self.gate.admit(client, bytes, self.tasks.len(), now)) {
                continue;
            }
            if self.tracker.take(&ready) {
                if let Some(client) = candidate {
                    self.in_work.insert(ready.look.path.clone(), (client.clone(), bytes));
                }
                self.backfilling += usize::from(lane == Lane::Backfill);
                let taker = Arc::clone(&self.taker);
                self.tasks.spawn(async move { (ready.look.path.clone(), lane, taker.take(ready).await) });
            }
        }
    }

    /// When the file is to be looked at again, where it waits for that.
    fn ended(&mut self, path: &DropPath, lane: Lane, ended: Ended, now: Instant) -> Option<Instant> {
        self.backfilling -= usize::from(lane == Lane::Backfill);
        self.in_work.remove(path);
        match &ended {
            Ended::Gone => self.gate.taken(),
            Ended::Exhausted(error) => self.gate.refused(error.clone(), now),
            _ => {}
        }
        self.tracker.ended(path, ended, now)
    }

    /// True where files wait for room.
    fn tell_shortages(&mut self) -> bool {
        if self.queue.is_empty() {
            self.gate.looked_at_all(self.tasks.len(), Instant::now());
        }
        let shortages = self.gate.shortages();
        self.pause.tell(&shortages);
        !shortages.is_empty()
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
