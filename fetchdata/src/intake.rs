//! The loop: look at the drop point, take what has settled, a few files at a time.
//!
//! Level-triggered: events and the clock only say when to look again, and each look starts from what lies there.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::Config;
use mysimbdp_core::config::live::LiveConfig;
use mysimbdp_core::io::drop_directory::{DropDirectory, DropPath};
use mysimbdp_core::io::files;
use mysimbdp_core::manifest::Lane;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

use crate::Error;
use crate::judge::candidate;
use crate::late::Lookout;
use crate::measure::Measure;
use crate::pause::Pause;
use crate::room::Gate;
use crate::scan::{self, Look, Owner, Walk};
use crate::set_aside;
use crate::settle::{Ended, Ready, Tracker};
use crate::take::Taker;
use crate::waiting::Waiting;
use crate::watch::Watch;
use crate::windows::Windows;

/// Walks that follow each other by events take at most this share of a processor: one part in five. The time that passes is no
/// measure of that on a busy machine, where the files of all would wait for each other's work.
const WALK_REST_FACTOR: u32 = 4;
const WALK_REST_MIN: Duration = Duration::from_millis(50);
/// One that took long because the disk stood still is no reason to look away for minutes.
const WALK_REST_MAX: Duration = Duration::from_secs(20);

/// While files wait for room it is looked so often whether there is some again.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// The state of the loop.
pub(crate) struct Intake {
    live: LiveConfig,
    /// What it runs on.
    config: Arc<Config>,
    taker: Arc<Taker>,
    watch: Arc<Watch>,
    lookout: Lookout,
    tracker: Tracker,
    /// Settled files that wait for a free hand.
    queue: VecDeque<Ready>,
    tasks: JoinSet<(Taken, Ended)>,
    /// How many of the tasks are of the backfill lane.
    backfilling: usize,
    /// Whose staging the files in work may come to lie in, and their bytes.
    in_work: HashMap<DropPath, (ClientId, u64)>,
    measure: Measure,
    gate: Gate,
    pause: Pause,
    waiting: Waiting,
    served: Served,
    /// Owners of whom the last walk has left out files: how many have to go before the next walk is worth it.
    cut_off: BTreeMap<Owner, usize>,
    windows: Windows,
}

/// A file in work.
#[derive(Debug)]
struct Taken {
    path: DropPath,
    owner: Owner,
}

/// Whose turn was when.
#[derive(Debug, Default)]
struct Served {
    turn: u64,
    last: BTreeMap<Owner, u64>,
}

/// When the drop point is walked again.
#[derive(Clone, Copy, Debug)]
struct NextWalk {
    at: Instant,
    /// Not before, however many events come.
    rested: Instant,
}

impl Intake {
    pub(crate) fn new(live: LiveConfig, taker: Arc<Taker>, watch: Arc<Watch>) -> Self {
        let config = live.running();
        Self {
            live,
            gate: Gate::new(&config.settings.fetchdata),
            pause: Pause::new(&config.layout),
            waiting: Waiting::new(&config.layout),
            measure: Measure::default(),
            in_work: HashMap::new(),
            config,
            taker,
            watch,
            lookout: Lookout::default(),
            tracker: Tracker::default(),
            queue: VecDeque::new(),
            tasks: JoinSet::new(),
            backfilling: 0,
            served: Served::default(),
            cut_off: BTreeMap::new(),
            windows: Windows::default(),
        }
    }

    /// Runs until `shutdown` is true, then finishes the files in work.
    pub(crate) async fn run(&mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), Error> {
        let watch = Arc::clone(&self.watch);
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
                        let (taken, ended) = ended.map_err(Error::Crashed)?;
                        let now = Instant::now();
                        let look = self.ended(&taken, ended, now);
                        next.at = look.map_or(next.at, |look| look.min(next.at));
                    }
                    () = watch.woken() => next.at = next.at.min(next.rested),
                    config = self.live.offer() => {
                        self.take_over(config).await?;
                        break;
                    }
                    () = tokio::time::sleep_until(next.at.max(next.rested).into()) => break,
                }
            }
        }
        self.finish_tasks().await
    }

    /// Goes by another config from the next walk on.
    async fn take_over(&mut self, config: Arc<Config>) -> Result<(), Error> {
        let made = Arc::clone(&config);
        let made = spawn_blocking(move || {
            crate::announce(&made);
            DropDirectory::open(&made.layout).map(|found| crate::make_folders(&made, &found))
        });
        if let Err(error) = made.await.map_err(Error::Crashed)? {
            // Its files are staged as soon as that is possible, as any others.
            tracing::warn!(error = mysimbdp_core::chain(&error), "folders of new clients cannot be prepared");
        }
        self.taker = Arc::new(self.taker.with(Arc::clone(&config)));
        self.gate.limit(&config.settings.fetchdata);
        self.live.taken_over(&config);
        self.config = config;
        Ok(())
    }

    /// Looks at everything and queues what has settled.
    async fn walk(&mut self) -> Result<NextWalk, Error> {
        // All of it is found again, and is not to be in memory twice.
        self.queue = VecDeque::new();
        let config = Arc::clone(&self.config);
        let started = Instant::now();
        let mut measure = std::mem::take(&mut self.measure);
        let (watch, mut lookout) = (Arc::clone(&self.watch), std::mem::take(&mut self.lookout));
        let starts = self.windows.starts();
        let walked = spawn_blocking(move || {
            let before = processor_time();
            let (walk, level) = (scan::walk(&config, Some(&watch), starts), measure.level(&config.layout));
            restore_left(&config, &walk.left);
            lookout.look(&config.layout);
            (walk, level, (measure, lookout), processor_time().saturating_sub(before))
        });
        let (Walk { looks, faults, cut_off, .. }, level, (measure, lookout), worked) =
            walked.await.map_err(Error::Crashed)?;
        (self.measure, self.lookout) = (measure, lookout);
        self.gate.measured(level.map_err(|error| mysimbdp_core::chain(&error)), self.in_work.values());
        self.waiting.tell(&faults, self.taker.tell());
        self.taker.tell().go_on();
        let now = Instant::now();
        let seen = count_of_each(&looks);
        let count = |owner: &Owner| seen.get(owner).copied().unwrap_or_default();
        self.queue = in_turns(self.tracker.observe(now, looks), &self.served);
        self.windows.walked(&cut_off, |owner| self.tracker.in_vain(owner) >= count(owner), now);
        let half = |owner: Owner| {
            let half = count(&owner).div_ceil(2);
            (owner, half)
        };
        self.cut_off = cut_off.into_keys().map(half).collect();
        let scan = now + self.config.settings.fetchdata.scan_every.duration();
        let at = self.tracker.next_look(now).map_or(scan, |look| look.min(scan));
        // A slow disk has half of the time for others.
        let rest = (WALK_REST_FACTOR * worked).max(now - started);
        let rested = now + rest.clamp(WALK_REST_MIN, WALK_REST_MAX);
        Ok(NextWalk { at, rested })
    }

    /// One hand is kept from backfill, whose files may be large: a live file need not wait until one is split. With a
    /// single hand there is none to keep.
    fn start_tasks(&mut self) {
        let hands = self.config.settings.fetchdata.files_in_parallel as usize;
        while self.tasks.len() < hands {
            let Some(next) = self.queue.front() else { return };
            let lane = next.look.owner.lane;
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
                let taken = Taken { path: ready.look.path.clone(), owner: ready.look.owner.clone() };
                self.served.serve(&taken.owner);
                let taker = Arc::clone(&self.taker);
                self.tasks.spawn(async move { (taken, taker.take(ready).await) });
            }
        }
    }

    /// When the file is to be looked at again, where it waits for that.
    fn ended(&mut self, taken: &Taken, ended: Ended, now: Instant) -> Option<Instant> {
        let Taken { path, owner } = taken;
        self.backfilling -= usize::from(owner.lane == Lane::Backfill);
        self.in_work.remove(path);
        let mut look = None;
        match &ended {
            Ended::Gone => {
                self.gate.taken();
                look = self.makes_room(owner).then_some(now);
            }
            Ended::Exhausted(error) => self.gate.refused(error.clone(), now),
            _ => {}
        }
        self.tracker.ended(path, owner, ended, now).or(look)
    }

    /// Whether with this file enough have gone for a walk to see those that the last one has left out.
    fn makes_room(&mut self, owner: &Owner) -> bool {
        let Some(left) = self.cut_off.get_mut(owner) else { return false };
        *left = left.saturating_sub(1);
        *left == 0
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
}

impl Served {
    fn serve(&mut self, owner: &Owner) {
        self.turn += 1;
        self.last.insert(owner.clone(), self.turn);
    }

    fn last(&self, owner: &Owner) -> u64 {
        self.last.get(owner).copied().unwrap_or_default()
    }
}

fn restore_left(config: &Config, left: &[DropPath]) {
    if !left.is_empty()
        && let Ok(drop_directory) = DropDirectory::open(&config.layout)
    {
        set_aside::restore_left(&drop_directory, left);
    }
}

/// How long this thread has had a processor; zero if the kernel does not tell.
fn processor_time() -> Duration {
    let text = files::read_to_string(Path::new("/proc/thread-self/schedstat")).unwrap_or_default();
    let nanos = text.split_ascii_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// How many files of each owner were looked at.
fn count_of_each(looks: &[Look]) -> BTreeMap<Owner, usize> {
    let mut counts: BTreeMap<Owner, usize> = BTreeMap::new();
    for look in looks {
        match counts.get_mut(&look.owner) {
            Some(count) => *count += 1,
            None => _ = counts.insert(look.owner.clone(), 1),
        }
    }
    counts
}

/// One file of each owner after the other, so that none waits for another's flood, and first of those who were served
/// longest ago; backfill after everything else.
fn in_turns(ready: Vec<Ready>, served: &Served) -> VecDeque<Ready> {
    let mut position: BTreeMap<Owner, u64> = BTreeMap::new();
    let mut ranked: Vec<((bool, u64, u64), Ready)> = ready
        .into_iter()
        .map(|ready| {
            let owner = &ready.look.owner;
            let rank = position.entry(owner.clone()).or_default();
            *rank += 1;
            ((owner.lane == Lane::Backfill, *rank, served.last(owner)), ready)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, ready)| ready).collect()
}

#[cfg(test)]
mod tests;
