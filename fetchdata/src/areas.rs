//! Decides when each area of the drop directory is walked, and whose settled file is next.
//!
//! Pure: events, walks and the time in; walks to make and files to process out. Each area waits only for its own
//! walks and has its own cooldown after them, so a client whose folder takes long to walk over delays nobody else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use mysimbdp_config::Config;
use mysimbdp_model::manifest::Lane;
use mysimbdp_spool::drop_directory::DropPath;

use crate::route::Area;
use crate::scan::{self, FileSnapshot, Owner, Walk, WalkPlan};
use crate::scan_windows::Windows;
use crate::settle::{Ended, Ready, Tracker};
use crate::watch::Woken;

/// Files that are tracked in all areas together. It bounds the memory: some 2.5 KiB each. There may be twice as many
/// until the next walk over an area that has more than its share.
const FILES_MAX: usize = 30_000;

/// This many areas are walked at a time at most, those with the cheapest walks first. Because of the cooldowns it is
/// rarely more than one.
const WALKS_MAX: usize = 8;

/// One area's walks take at most one part in this many of a processor, and all walks together twice that. Elapsed time
/// does not measure that on a busy machine: the files of all clients would wait for each other's work.
const WALK_SHARE: u32 = 5;
const COOLDOWN_MIN: Duration = Duration::from_millis(50);
/// The longest cooldown, times the number of active areas: a walk that took long only because a disk stalled must not
/// keep its area waiting for minutes.
const COOLDOWN_MAX: Duration = Duration::from_secs(20);

/// While files wait for capacity, it is checked this often.
pub(crate) const CAPACITY_RETRY_EVERY: Duration = Duration::from_secs(1);

/// All areas.
#[derive(Debug)]
pub(crate) struct Areas {
    areas: BTreeMap<Area, State>,
    clients: usize,
    scan_every: Duration,
    served: Served,
    measurements: Measurements,
}

/// The measurements of the disk usage, by number.
#[derive(Debug, Default)]
struct Measurements {
    begun: u64,
    /// The last one with a known result.
    known: u64,
}

/// A file in progress.
#[derive(Clone, Debug)]
pub(crate) struct FileInProgress {
    pub(crate) area: Area,
    pub(crate) path: DropPath,
    pub(crate) owner: Owner,
}

/// What a walk cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Processor time.
    pub(crate) worked: Duration,
    pub(crate) lasted: Duration,
}

/// One area.
#[derive(Debug)]
struct State {
    /// The config contains it.
    is_walked: bool,
    tracker: Tracker,
    /// Settled files that wait for a free worker slot.
    ready: BTreeMap<Owner, VecDeque<Ready>>,
    /// The measurement that they wait for too: the first that began after they were seen.
    measurement: u64,
    /// Some files were postponed for lack of capacity since the last walk.
    lacks_capacity: bool,
    /// Files that have ended since the current walk began.
    ended: Vec<(FileInProgress, Ended)>,
    /// For each owner with files that the last walk left out: how many files have to end before another walk is worth
    /// it.
    ends_until_walk: BTreeMap<Owner, usize>,
    windows: Windows,
    /// Files of the last walk, or the most that the current one may scan.
    files: usize,
    /// Owners that had as much as their share, or more.
    large: BTreeSet<Owner>,
    /// Files of all other owners.
    files_of_others: usize,
    worked: Duration,
    is_walking: bool,
    /// When it is walked next.
    at: Instant,
    /// Not before, however many events come.
    cooldown_until: Instant,
}

/// When each owner was last served.
#[derive(Debug, Default)]
struct Served {
    turn: u64,
    last: BTreeMap<Owner, u64>,
}

/// How many directories of each area may be watched.
pub(crate) fn watches(config: &Config) -> usize {
    scan::share(FILES_MAX, config.clients.len())
}

impl Areas {
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let mut areas = Self {
            areas: BTreeMap::new(),
            clients: 0,
            scan_every: Duration::ZERO,
            served: Served::default(),
            measurements: Measurements::default(),
        };
        areas.configure(config, now);
        areas
    }

    /// Applies this config from now on; everything is scanned again under it.
    pub(crate) fn configure(&mut self, config: &Config, now: Instant) {
        self.clients = config.clients.len();
        self.scan_every = config.settings.fetchdata.scan_every.duration();
        let folders = config.clients.keys().cloned().map(Area::Folder);
        for area in folders.chain([Area::Shared]) {
            self.areas.entry(area).or_insert_with(|| State::new(now));
        }
        for (area, state) in &mut self.areas {
            state.is_walked = area.client().is_none_or(|client| config.client(client).is_some());
            state.ready.clear();
            state.at = now;
        }
        // An area with a file in progress is kept until that ends, also if its client comes back meanwhile.
        self.areas
            .retain(|_, state| state.is_walked || state.is_walking || state.tracker.has_file_in_progress());
    }

    pub(crate) fn is_walked(&self, area: &Area) -> bool {
        self.areas.get(area).is_some_and(|state| state.is_walked)
    }

    /// Events have happened in these areas.
    pub(crate) fn wake(&mut self, woken: &Woken, now: Instant) {
        for (_, state) in self.areas.iter_mut().filter(|(area, _)| woken.has(area)) {
            state.schedule_walk(now);
        }
    }

    /// The walks that are due.
    pub(crate) fn begin_walks(&mut self, now: Instant) -> Vec<WalkPlan> {
        let mut due: Vec<(Duration, Area)> = (self.areas.iter())
            .filter(|(_, state)| state.next_walk().is_some_and(|next| next <= now))
            .map(|(area, state)| (state.worked, area.clone()))
            .collect();
        due.sort_unstable();
        due.truncate(WALKS_MAX - self.walks());
        due.into_iter().filter_map(|(_, area)| self.begin_walk(area, now)).collect()
    }

    fn begin_walk(&mut self, area: Area, now: Instant) -> Option<WalkPlan> {
        let share = scan::share(FILES_MAX, self.clients);
        let own = share * area.owners(self.clients);
        let others = || self.areas.iter().filter(|(other, _)| **other != area).map(|(_, state)| state);
        let spare = FILES_MAX.saturating_sub(own + others().map(|state| state.files).sum::<usize>());
        // Shared with the other areas that need more too.
        let shared_with = others().filter(|state| !state.large.is_empty()).count();
        let state = self.areas.get_mut(&area)?;
        let files = if state.large.is_empty() { own } else { own + spare / (shared_with + 1) };
        let more = state.more(share, files);
        state.begin_walk(files, now + self.scan_every);
        Some(WalkPlan { starts: state.windows.starts(), area, share, more })
    }

    fn walks(&self) -> usize {
        self.areas.values().filter(|state| state.is_walking).count()
    }

    /// When the next walk is due. Walks that wait for another one to end are not considered.
    pub(crate) fn next_walk(&self) -> Option<Instant> {
        let may_begin = self.walks() < WALKS_MAX;
        may_begin.then(|| self.areas.values().filter_map(State::next_walk).min()).flatten()
    }

    /// Records the result of a walk.
    pub(crate) fn walked(&mut self, area: &Area, walk: Walk, cost: Cost, now: Instant) {
        let measurement = self.measurements.begun + 1;
        let cooldown = self.cooldown(area, cost, now);
        let Some(state) = self.areas.get_mut(area) else { return };
        state.walked(walk, now);
        (state.worked, state.cooldown_until, state.measurement) = (cost.worked, now + cooldown, measurement);
    }

    /// A walk under an earlier config has ended.
    pub(crate) fn walk_outdated(&mut self, area: &Area, now: Instant) {
        let Some(state) = self.areas.get_mut(area) else { return };
        state.walk_outdated(now);
    }

    /// All walks together take no more than two parts in [`WALK_SHARE`] of a processor, unless [`COOLDOWN_MAX`]
    /// shortens the cooldown of one that costs seconds. Each walk gets an equal share, or a share in proportion to
    /// its cost, whichever is more. So a cheap walk does not wait for expensive ones, nor an expensive one for many
    /// cheap ones.
    fn cooldown(&self, area: &Area, cost: Cost, now: Instant) -> Duration {
        let active = |state: &State| state.is_walking || state.cooldown_until > now;
        let others = || self.areas.iter().filter(|(other, state)| *other != area && active(state));
        let count = u32::try_from(others().count()).unwrap_or(u32::MAX);
        let sum: Duration = others().map(|(_, state)| state.worked).sum();
        let by_count = cost.worked.saturating_mul(WALK_SHARE.saturating_mul(count + 1) - 1);
        let by_cost = (WALK_SHARE - 1) * cost.worked + WALK_SHARE * sum;
        let max = COOLDOWN_MAX.saturating_mul(count + 1);
        // On a slow disk, half of the time is left to others.
        by_count.min(by_cost).max(cost.lasted).clamp(COOLDOWN_MIN, max)
    }

    /// Whether a walk has ended since the last measurement of the disk usage began: its files wait for the next one.
    pub(crate) fn needs_measurement(&self) -> bool {
        self.areas.values().any(|state| state.measurement > self.measurements.begun)
    }

    pub(crate) fn begin_measuring(&mut self) {
        self.measurements.begun += 1;
    }

    pub(crate) fn measured(&mut self) {
        self.measurements.known = self.measurements.begun;
    }

    /// The owner whose file is next. Owners take turns, one file each, so that none waits for another's flood; the
    /// owner served longest ago is first, and backfill comes after everything else.
    pub(crate) fn turn(&self) -> Option<(Area, Owner)> {
        let ready = self.areas.iter().filter(|(_, state)| state.measurement <= self.measurements.known);
        let owners = ready.flat_map(|(area, state)| state.ready.keys().map(move |owner| (area, owner)));
        let next = owners.min_by_key(|(_, owner)| (owner.lane == Lane::Backfill, self.served.last(owner)));
        next.map(|(area, owner)| (area.clone(), owner.clone()))
    }

    /// The next file of an owner.
    pub(crate) fn next_file(&mut self, area: &Area, owner: &Owner) -> Option<Ready> {
        let state = self.areas.get_mut(area)?;
        let files = state.ready.get_mut(owner)?;
        let ready = files.pop_front();
        if files.is_empty() {
            state.ready.remove(owner);
        }
        ready
    }

    /// There is no capacity for a file: it is scanned again when there may be.
    pub(crate) fn postpone(&mut self, area: &Area, now: Instant) {
        let Some(state) = self.areas.get_mut(area) else { return };
        state.lacks_capacity = true;
        state.schedule_walk(now + CAPACITY_RETRY_EVERY);
    }

    /// Marks a file as in progress if it is still as `ready` says.
    pub(crate) fn mark_in_progress(&mut self, area: &Area, ready: &Ready) -> Option<FileInProgress> {
        let state = self.areas.get_mut(area)?;
        let FileSnapshot { path, owner, .. } = &ready.snapshot;
        state.tracker.mark_in_progress(ready).then(|| {
            self.served.serve(owner);
            FileInProgress { area: area.clone(), path: path.clone(), owner: owner.clone() }
        })
    }

    /// Records what became of a file that was in progress.
    pub(crate) fn ended(&mut self, file: FileInProgress, ended: Ended, now: Instant) {
        if matches!(ended, Ended::Exhausted(_)) {
            self.postpone(&file.area, now);
        }
        let Some(state) = self.areas.get_mut(&file.area) else { return };
        if state.is_walking {
            // The walk may or may not have seen the file, so its end is applied after the walk.
            state.ended.push((file, ended));
        } else {
            state.ended(&file, ended, now);
        }
    }

    /// Whether all files that the last walk saw in an area have been tried since the last measurement.
    pub(crate) fn is_tried(&self, area: &Area) -> bool {
        self.areas.get(area).is_none_or(State::is_tried)
    }

    pub(crate) fn all_tried(&self) -> bool {
        self.areas.values().all(State::is_tried)
    }
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            is_walked: true,
            tracker: Tracker::default(),
            ready: BTreeMap::new(),
            measurement: 0,
            lacks_capacity: false,
            ended: Vec::new(),
            ends_until_walk: BTreeMap::new(),
            windows: Windows::default(),
            files: 0,
            large: BTreeSet::new(),
            files_of_others: 0,
            worked: Duration::ZERO,
            is_walking: false,
            at: now,
            cooldown_until: now,
        }
    }

    fn schedule_walk(&mut self, at: Instant) {
        self.at = self.at.min(at);
    }

    fn next_walk(&self) -> Option<Instant> {
        (self.is_walked && !self.is_walking).then(|| self.at.max(self.cooldown_until))
    }

    /// The owners that may exceed their share, if the area may have `files` files: those that needed more get what
    /// the others leave. This holds even if the last walk left nothing out: a file that a walk does not see is
    /// forgotten, and would restart its settle time again and again.
    fn more(&self, share: usize, files: usize) -> BTreeMap<Owner, usize> {
        let left = files.saturating_sub(self.files_of_others);
        let more = left.checked_div(self.large.len()).filter(|more| *more > share);
        more.map_or_else(BTreeMap::new, |more| self.large.iter().map(|owner| (owner.clone(), more)).collect())
    }

    fn begin_walk(&mut self, files: usize, next: Instant) {
        // The walk finds all of them again; they must not be in memory twice.
        self.ready.clear();
        (self.is_walking, self.files, self.at) = (true, files, next);
    }

    fn walked(&mut self, walk: Walk, now: Instant) {
        self.large = walk.large();
        let Walk { snapshots, left_out, .. } = walk;
        (self.lacks_capacity, self.files) = (false, snapshots.len());
        let seen = count_of_each(&snapshots);
        let count = |owner: &Owner| seen.get(owner).copied().unwrap_or_default();
        self.files_of_others = self.files - self.large.iter().map(count).sum::<usize>();
        for ready in self.tracker.observe(now, snapshots) {
            self.ready.entry(ready.snapshot.owner.clone()).or_default().push_back(ready);
        }
        self.windows.walked(&left_out, |owner| self.tracker.retries(owner) >= count(owner), now);
        let half = |owner: Owner| {
            let half = count(&owner).div_ceil(2);
            (owner, half)
        };
        self.ends_until_walk = left_out.into_keys().map(half).collect();
        self.end_walk(now);
        if let Some(next) = self.tracker.next_scan(now) {
            self.schedule_walk(next);
        }
    }

    fn walk_outdated(&mut self, now: Instant) {
        self.end_walk(now);
        self.schedule_walk(now);
    }

    /// Files that ended during the walk count only now.
    fn end_walk(&mut self, now: Instant) {
        self.is_walking = false;
        for (file, ended) in std::mem::take(&mut self.ended) {
            self.ended(&file, ended, now);
        }
    }

    fn ended(&mut self, FileInProgress { path, owner, .. }: &FileInProgress, ended: Ended, now: Instant) {
        if matches!(ended, Ended::Removed) && self.is_walk_worth_it(owner) {
            self.schedule_walk(now);
        }
        if let Some(at) = self.tracker.ended(path, owner, ended, now) {
            self.schedule_walk(at);
        }
    }

    /// Whether enough files have ended, with this one, for a walk to see those that the last one left out.
    fn is_walk_worth_it(&mut self, owner: &Owner) -> bool {
        let Some(left) = self.ends_until_walk.get_mut(owner) else { return false };
        *left = left.saturating_sub(1);
        *left == 0
    }

    fn is_tried(&self) -> bool {
        !self.is_walking && !self.lacks_capacity && self.ready.is_empty()
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

/// How many files of each owner there are.
fn count_of_each(snapshots: &[FileSnapshot]) -> BTreeMap<Owner, usize> {
    let mut counts: BTreeMap<Owner, usize> = BTreeMap::new();
    for snapshot in snapshots {
        match counts.get_mut(&snapshot.owner) {
            Some(count) => *count += 1,
            None => _ = counts.insert(snapshot.owner.clone(), 1),
        }
    }
    counts
}

#[cfg(test)]
mod tests;
