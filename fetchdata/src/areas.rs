//! When each area of the drop directory is walked over, and whose turn it is of what has settled there.
//!
//! Pure: events, walks and the time in; walks to make and files to take out. Each area waits for its own walks alone, and rests
//! after them for itself. So a client whose folder takes long to look at delays nobody else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use mysimbdp_config::Config;
use mysimbdp_model::manifest::Lane;
use mysimbdp_spool::drop_directory::DropPath;

use crate::route::Area;
use crate::scan::{self, Look, Owner, Plan, Walk};
use crate::settle::{Ended, Ready, Tracker};
use crate::watch::Woken;
use crate::windows::Windows;

/// Files that are looked at, of all areas, which bounds the memory: some 2.5 KiB each. It may be twice as many until the next walk
/// over an area that has more than its part.
const FILES_MAX: usize = 30_000;

/// So many areas are walked over at a time, those first whose walks cost least. As walks rest, it is rarely more than one.
const WALKS_MAX: usize = 8;

/// Walks that follow each other by events take at most this share of a processor: one part in five. The time that passes is no
/// measure of that on a busy machine, where the files of all would wait for each other's work.
const WALK_SHARE: u32 = 5;
const REST_MIN: Duration = Duration::from_millis(50);
/// For each area that is at it. A disk that stood still is no reason to look away for minutes.
const REST_MAX: Duration = Duration::from_secs(20);

/// While files wait for room it is tried so often whether there is some again.
pub(crate) const ROOM_EVERY: Duration = Duration::from_secs(1);

/// All areas.
#[derive(Debug)]
pub(crate) struct Areas {
    areas: BTreeMap<Area, State>,
    clients: usize,
    scan_every: Duration,
    served: Served,
    room: Measurements,
}

/// The measurements of how much room there is, by number.
#[derive(Debug, Default)]
struct Measurements {
    begun: u64,
    /// The last one whose result is known.
    known: u64,
}

/// A file in work.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) area: Area,
    pub(crate) path: DropPath,
    pub(crate) owner: Owner,
}

/// What a walk took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Of a processor.
    pub(crate) worked: Duration,
    pub(crate) lasted: Duration,
}

/// One area.
#[derive(Debug)]
struct State {
    /// It is in the config.
    is_walked: bool,
    tracker: Tracker,
    /// Settled files that wait for a free hand.
    ready: BTreeMap<Owner, VecDeque<Ready>>,
    /// The measurement that they wait for too: the first that was begun after they were seen.
    measurement: u64,
    /// Some were refused for want of room since the last walk.
    wants_room: bool,
    /// What has ended since the walk began that is under way.
    ended: Vec<(Taken, Ended)>,
    /// Owners of whom the last walk has left out files: how many have to go before the next walk is worth it.
    cut_off: BTreeMap<Owner, usize>,
    windows: Windows,
    /// Files of the last walk, or those that the one under way may look at.
    files: usize,
    /// Owners who had as much as their share, or more.
    large: BTreeSet<Owner>,
    /// Files of all others.
    files_of_others: usize,
    worked: Duration,
    is_walking: bool,
    /// When it is walked over next.
    at: Instant,
    /// Not before, however many events come.
    rested: Instant,
}

/// Whose turn was when.
#[derive(Debug, Default)]
struct Served {
    turn: u64,
    last: BTreeMap<Owner, u64>,
}

/// How many directories of each area are watched.
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
            room: Measurements::default(),
        };
        areas.configure(config, now);
        areas
    }

    /// Goes by this config from now on, under which everything is looked at again.
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
        // What is in work is known until it has ended, also if its client comes back meanwhile.
        self.areas.retain(|_, state| state.is_walked || state.is_walking || state.tracker.is_at_work());
    }

    pub(crate) fn is_walked(&self, area: &Area) -> bool {
        self.areas.get(area).is_some_and(|state| state.is_walked)
    }

    /// Something has happened.
    pub(crate) fn wake(&mut self, woken: &Woken, now: Instant) {
        for (_, state) in self.areas.iter_mut().filter(|(area, _)| woken.has(area)) {
            state.look_at(now);
        }
    }

    /// The walks that are due.
    pub(crate) fn begin_walks(&mut self, now: Instant) -> Vec<Plan> {
        let mut due: Vec<(Duration, Area)> = (self.areas.iter())
            .filter(|(_, state)| state.next_walk().is_some_and(|next| next <= now))
            .map(|(area, state)| (state.worked, area.clone()))
            .collect();
        due.sort_unstable();
        due.truncate(WALKS_MAX - self.walks());
        due.into_iter().filter_map(|(_, area)| self.begin_walk(area, now)).collect()
    }

    fn begin_walk(&mut self, area: Area, now: Instant) -> Option<Plan> {
        let share = scan::share(FILES_MAX, self.clients);
        let own = share * area.owners(self.clients);
        let others = || self.areas.iter().filter(|(other, _)| **other != area).map(|(_, state)| state);
        let spare = FILES_MAX.saturating_sub(own + others().map(|state| state.files).sum::<usize>());
        // With those who have use for it too.
        let shared_with = others().filter(|state| !state.large.is_empty()).count();
        let state = self.areas.get_mut(&area)?;
        let files = if state.large.is_empty() { own } else { own + spare / (shared_with + 1) };
        let more = state.more(share, files);
        state.begin_walk(files, now + self.scan_every);
        Some(Plan { starts: state.windows.starts(), area, share, more })
    }

    fn walks(&self) -> usize {
        self.areas.values().filter(|state| state.is_walking).count()
    }

    /// When the next walk is due. Those that wait for the end of another are not.
    pub(crate) fn next_walk(&self) -> Option<Instant> {
        let may_begin = self.walks() < WALKS_MAX;
        may_begin.then(|| self.areas.values().filter_map(State::next_walk).min()).flatten()
    }

    /// Takes in what a walk has found.
    pub(crate) fn walked(&mut self, area: &Area, walk: Walk, cost: Cost, now: Instant) {
        let measurement = self.room.begun + 1;
        let rest = self.rest(area, cost, now);
        let Some(state) = self.areas.get_mut(area) else { return };
        state.walked(walk, now);
        (state.worked, state.rested, state.measurement) = (cost.worked, now + rest, measurement);
    }

    /// A walk under an earlier config has ended.
    pub(crate) fn walked_in_vain(&mut self, area: &Area, now: Instant) {
        let Some(state) = self.areas.get_mut(area) else { return };
        state.walked_in_vain(now);
    }

    /// All walks together take no more than twice [`WALK_SHARE`] of a processor, unless [`REST_MAX`] cuts the rest of one that costs
    /// seconds: each takes its share among equals, or what it costs of the cost of all, whichever is more. So a cheap one does
    /// not wait for dear ones, nor a dear one for many that are cheap.
    fn rest(&self, area: &Area, cost: Cost, now: Instant) -> Duration {
        let active = |state: &State| state.is_walking || state.rested > now;
        let others = || self.areas.iter().filter(|(other, state)| *other != area && active(state));
        let count = u32::try_from(others().count()).unwrap_or(u32::MAX);
        let sum: Duration = others().map(|(_, state)| state.worked).sum();
        let by_count = cost.worked.saturating_mul(WALK_SHARE.saturating_mul(count + 1) - 1);
        let by_cost = (WALK_SHARE - 1) * cost.worked + WALK_SHARE * sum;
        let max = REST_MAX.saturating_mul(count + 1);
        // A slow disk has half of the time for others.
        by_count.min(by_cost).max(cost.lasted).clamp(REST_MIN, max)
    }

    /// Whether files wait until it is measured how much room there is.
    pub(crate) fn wants_measuring(&self) -> bool {
        self.areas.values().any(|state| state.measurement > self.room.begun)
    }

    pub(crate) fn begin_measuring(&mut self) {
        self.room.begun += 1;
    }

    pub(crate) fn measured(&mut self) {
        self.room.known = self.room.begun;
    }

    /// Whose turn it is: one file of each owner after the other, so that none waits for another's flood, and first of the one
    /// that was served longest ago; backfill after everything else.
    pub(crate) fn turn(&self) -> Option<(Area, Owner)> {
        let ready = self.areas.iter().filter(|(_, state)| state.measurement <= self.room.known);
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

    /// There is no room for a file: it is looked at again when there may be.
    pub(crate) fn refused(&mut self, area: &Area, now: Instant) {
        let Some(state) = self.areas.get_mut(area) else { return };
        state.wants_room = true;
        state.look_at(now + ROOM_EVERY);
    }

    /// Marks a file as in work, where it is still as `ready` says.
    pub(crate) fn take(&mut self, area: &Area, ready: &Ready) -> Option<Taken> {
        let state = self.areas.get_mut(area)?;
        let Look { path, owner, .. } = &ready.look;
        state.tracker.take(ready).then(|| {
            self.served.serve(owner);
            Taken { area: area.clone(), path: path.clone(), owner: owner.clone() }
        })
    }

    /// Says what became of a file that was in work.
    pub(crate) fn ended(&mut self, taken: Taken, ended: Ended, now: Instant) {
        if matches!(ended, Ended::Exhausted(_)) {
            self.refused(&taken.area, now);
        }
        let Some(state) = self.areas.get_mut(&taken.area) else { return };
        if state.is_walking {
            // The walk has seen the file or has not, which its end must not be mixed with.
            state.ended.push((taken, ended));
        } else {
            state.ended(&taken, ended, now);
        }
    }

    /// Whether all that the last walks have seen in an area has been tried since it was measured how much room there is.
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
            wants_room: false,
            ended: Vec::new(),
            cut_off: BTreeMap::new(),
            windows: Windows::default(),
            files: 0,
            large: BTreeSet::new(),
            files_of_others: 0,
            worked: Duration::ZERO,
            is_walking: false,
            at: now,
            rested: now,
        }
    }

    fn look_at(&mut self, at: Instant) {
        self.at = self.at.min(at);
    }

    fn next_walk(&self) -> Option<Instant> {
        (self.is_walked && !self.is_walking).then(|| self.at.max(self.rested))
    }

    /// Who may have more than a share, if the area has so many files: those who had use for it, what the others leave to them. Also if
    /// nothing was left out then: what a walk does not see is forgotten, and would settle anew again and again.
    fn more(&self, share: usize, files: usize) -> BTreeMap<Owner, usize> {
        let left = files.saturating_sub(self.files_of_others);
        let more = left.checked_div(self.large.len()).filter(|more| *more > share);
        more.map_or_else(BTreeMap::new, |more| self.large.iter().map(|owner| (owner.clone(), more)).collect())
    }

    fn begin_walk(&mut self, files: usize, next: Instant) {
        // All of it is found again, and is not to be in memory twice.
        self.ready.clear();
        (self.is_walking, self.files, self.at) = (true, files, next);
    }

    fn walked(&mut self, walk: Walk, now: Instant) {
        self.large = walk.large();
        let Walk { looks, cut_off, .. } = walk;
        (self.wants_room, self.files) = (false, looks.len());
        let seen = count_of_each(&looks);
        let count = |owner: &Owner| seen.get(owner).copied().unwrap_or_default();
        self.files_of_others = self.files - self.large.iter().map(count).sum::<usize>();
        for ready in self.tracker.observe(now, looks) {
            self.ready.entry(ready.look.owner.clone()).or_default().push_back(ready);
        }
        self.windows.walked(&cut_off, |owner| self.tracker.in_vain(owner) >= count(owner), now);
        let half = |owner: Owner| {
            let half = count(&owner).div_ceil(2);
            (owner, half)
        };
        self.cut_off = cut_off.into_keys().map(half).collect();
        self.end_walk(now);
        if let Some(next) = self.tracker.next_look(now) {
            self.look_at(next);
        }
    }

    fn walked_in_vain(&mut self, now: Instant) {
        self.end_walk(now);
        self.look_at(now);
    }

    /// What has ended meanwhile counts only now.
    fn end_walk(&mut self, now: Instant) {
        self.is_walking = false;
        for (taken, ended) in std::mem::take(&mut self.ended) {
            self.ended(&taken, ended, now);
        }
    }

    fn ended(&mut self, Taken { path, owner, .. }: &Taken, ended: Ended, now: Instant) {
        if matches!(ended, Ended::Gone) && self.makes_room(owner) {
            self.look_at(now);
        }
        if let Some(look) = self.tracker.ended(path, owner, ended, now) {
            self.look_at(look);
        }
    }

    /// Whether with this file enough have gone for a walk to see those that the last one has left out.
    fn makes_room(&mut self, owner: &Owner) -> bool {
        let Some(left) = self.cut_off.get_mut(owner) else { return false };
        *left = left.saturating_sub(1);
        *left == 0
    }

    fn is_tried(&self) -> bool {
        !self.is_walking && !self.wants_room && self.ready.is_empty()
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

#[cfg(test)]
mod tests;
