//! Computed windows in memory, so that a repeated query need not read the records again.
//!
//! What is kept are segments of a series: a client, view, size, fields and source. A segment is dropped when a record in its
//! range was stored, when everything about its collection has to be forgotten, when it is older than [`KEPT_FOR`], or when there
//! is no room and it was not used for the longest time. Whatever of this happens while a segment is being computed, that segment
//! is not kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bson::RawDocumentBuf;
use mysimbdp_config::ViewLayer;
use mysimbdp_model::client::ClientId;

use super::WindowsQuery;
use super::segment::Segment;
use crate::records::time::RecordTime;

/// Nothing older is used, whatever was missed.
pub const KEPT_FOR: Duration = Duration::from_secs(600);

/// A range that is being computed and in which more windows than this have changed is not kept at all.
const CHANGED_MAX: usize = 1_000;

/// Identifies a series.
type SeriesId = [u8; 32];

/// Computed windows of all clients.
#[derive(Debug)]
pub struct KeptWindows {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    series: HashMap<SeriesId, Series>,
    /// Segments by when they were last used.
    uses: BTreeMap<u64, (SeriesId, i64)>,
    /// The number of the next use or computation.
    next: u64,
    bytes: usize,
    /// How often something about a client was forgotten, and how often everything was.
    forgotten: HashMap<ClientId, u64>,
    forgotten_all: u64,
}

#[derive(Debug)]
struct Series {
    query: Arc<WindowsQuery>,
    /// By the beginning of their range, each with its last use. They do not overlap.
    segments: BTreeMap<i64, (Arc<Segment>, u64)>,
    computing: BTreeMap<u64, Computing>,
}

/// A range that is being computed.
#[derive(Debug)]
struct Computing {
    range: Range<i64>,
    /// Windows of which records were stored meanwhile.
    changed: BTreeSet<i64>,
    /// Whether nothing of it may be kept.
    is_lost: bool,
}

/// What a change of the store may have changed in the windows of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affected {
    Nothing,
    Everything,
    /// The windows that begin at these times.
    Windows(BTreeSet<i64>),
}

impl WindowsQuery {
    /// Returns what may have changed when these documents were stored in a collection.
    pub fn affected_by(&self, collection: &str, documents: &[RawDocumentBuf]) -> Affected {
        let view = &self.view;
        let is_layer = |layer: &&ViewLayer| layer.collection == collection;
        let batch = view.batch.as_ref().filter(is_layer);
        let stream = view.stream.as_ref().filter(is_layer);
        match (batch, stream) {
            (None, None) => Affected::Nothing,
            // They may override records of any time.
            (Some(_), _) if !view.key.is_empty() => Affected::Everything,
            (batch, stream) if [batch, stream].into_iter().flatten().any(|layer| !layer.keeps_times) => {
                Affected::Everything
            }
            _ => Affected::Windows(
                documents
                    .iter()
                    .filter_map(|document| self.window_of(&RecordTime::of(document, &view.time)?))
                    .collect(),
            ),
        }
    }
}

impl KeptWindows {
    /// Keeps up to about this many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    /// Gives access to the series of a query. Only what is computed from now on is added to it.
    pub fn series(self: &Arc<Self>, query: &Arc<WindowsQuery>) -> KeptSeries {
        let forgotten = self.lock().forgotten(&query.client);
        KeptSeries { kept: Arc::clone(self), id: query.identity(), query: Arc::clone(query), forgotten }
    }

    /// Drops what these documents, which have been stored, have changed.
    pub fn stored(&self, client: &ClientId, collection: &str, documents: &[RawDocumentBuf]) {
        self.drop_affected(client, |query| query.affected_by(collection, documents));
    }

    /// Drops everything that was computed from this collection.
    pub fn forget(&self, client: &ClientId, collection: &str) {
        *self.lock().forgotten.entry(client.clone()).or_default() += 1;
        self.drop_affected(client, |query| match query.affected_by(collection, &[]) {
            Affected::Nothing => Affected::Nothing,
            _ => Affected::Everything,
        });
    }

    /// Drops everything.
    pub fn forget_all(&self) {
        let mut state = self.lock();
        state.forgotten_all += 1;
        state.bytes = 0;
        state.uses.clear();
        state.series.retain(|_, series| {
            series.computing.values_mut().for_each(|computing| computing.is_lost = true);
            series.segments.clear();
            !series.is_unused()
        });
    }

    fn drop_affected(&self, client: &ClientId, affected: impl Fn(&WindowsQuery) -> Affected) {
        let mut state = self.lock();
        let state = &mut *state;
        state.series.retain(|_, series| {
            if series.query.client != *client {
                return true;
            }
            let dropped: Vec<i64> = match affected(&series.query) {
                Affected::Nothing => return true,
                Affected::Everything => {
                    series.computing.values_mut().for_each(|computing| computing.is_lost = true);
                    series.segments.keys().copied().collect()
                }
                Affected::Windows(windows) => series.changed(&windows),
            };
            for start in dropped {
                if let Some((segment, used)) = series.segments.remove(&start) {
                    state.uses.remove(&used);
                    state.bytes -= segment.bytes();
                }
            }
            !series.is_unused()
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Series {
    /// Marks windows in what is being computed; returns the segments that have one of them.
    fn changed(&mut self, windows: &BTreeSet<i64>) -> Vec<i64> {
        for computing in self.computing.values_mut().filter(|computing| !computing.is_lost) {
            computing.changed.extend(windows.range(computing.range.clone()));
            computing.is_lost = computing.changed.len() > CHANGED_MAX;
        }
        let segments = windows.iter().filter_map(|window| self.at(*window));
        let starts: BTreeSet<i64> = segments.map(|segment| segment.range.start).collect();
        starts.into_iter().collect()
    }

    fn at(&self, start: i64) -> Option<&Arc<Segment>> {
        let (_, (segment, _)) = self.segments.range(..=start).next_back()?;
        Some(segment).filter(|segment| segment.range.contains(&start))
    }

    fn is_unused(&self) -> bool {
        self.segments.is_empty() && self.computing.is_empty()
    }
}

impl State {
    fn forgotten(&self, client: &ClientId) -> (u64, u64) {
        (self.forgotten.get(client).copied().unwrap_or_default(), self.forgotten_all)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn remove(&mut self, id: &SeriesId, start: i64) {
        let Some(series) = self.series.get_mut(id) else { return };
        if let Some((segment, used)) = series.segments.remove(&start) {
            self.uses.remove(&used);
            self.bytes -= segment.bytes();
        }
        if series.is_unused() {
            self.series.remove(id);
        }
    }
}

/// What is kept for one query.
#[derive(Clone, Debug)]
pub struct KeptSeries {
    kept: Arc<KeptWindows>,
    id: SeriesId,
    query: Arc<WindowsQuery>,
    /// What [`State::forgotten`] was when it was obtained.
    forgotten: (u64, u64),
}

/// Whether the windows from a time on are kept.
#[derive(Debug)]
pub(super) enum Found {
    Segment(Arc<Segment>),
    /// Nothing, up to this time.
    Nothing(i64),
}

impl KeptSeries {
    pub(super) fn find(&self, start: i64, now: Instant) -> Found {
        let mut state = self.kept.lock();
        let number = state.number();
        let state = &mut *state;
        let Some(series) = state.series.get_mut(&self.id) else { return Found::Nothing(i64::MAX) };
        let Some(segment) = series.at(start).cloned() else {
            let next = series.segments.range(start..).next();
            return Found::Nothing(next.map_or(i64::MAX, |(next, _)| *next));
        };
        if now.saturating_duration_since(segment.computed_at) > KEPT_FOR {
            let until = segment.range.end;
            state.remove(&self.id, segment.range.start);
            return Found::Nothing(until);
        }
        if let Some((_, used)) = series.segments.get_mut(&segment.range.start) {
            let last = std::mem::replace(used, number);
            state.uses.remove(&last);
            state.uses.insert(number, (self.id, segment.range.start));
        }
        Found::Segment(segment)
    }

    /// Begins to compute the windows of a range. To be called before its first record is read.
    pub(super) fn begin(&self, range: Range<i64>) -> Computation {
        let mut state = self.kept.lock();
        let number = state.number();
        let is_lost = state.forgotten(&self.query.client) != self.forgotten;
        let computing = Computing { range, changed: BTreeSet::new(), is_lost };
        let series = state.series.entry(self.id).or_insert_with(|| Series {
            query: Arc::clone(&self.query),
            segments: BTreeMap::new(),
            computing: BTreeMap::new(),
        });
        series.computing.insert(number, computing);
        Computation { kept: Arc::clone(&self.kept), id: self.id, number }
    }
}

/// A range that is being computed, until this is dropped.
#[derive(Debug)]
pub(super) struct Computation {
    kept: Arc<KeptWindows>,
    id: SeriesId,
    number: u64,
}

impl Computation {
    /// Keeps a segment of the range, unless something in it has changed since the computation was begun.
    pub(super) fn keep(&self, segment: &Arc<Segment>) {
        let bytes = segment.bytes();
        if bytes > self.kept.bytes_max || segment.range.is_empty() {
            return;
        }
        let mut state = self.kept.lock();
        let number = state.number();
        let state = &mut *state;
        let Some(series) = state.series.get_mut(&self.id) else { return };
        let is_valid = series.computing.get(&self.number).is_some_and(|computing| {
            !computing.is_lost && computing.changed.range(segment.range.clone()).next().is_none()
        });
        // Another query may have computed the same meanwhile.
        let next = series.segments.range(segment.range.start..).next();
        let overlaps = series.at(segment.range.start).is_some()
            || next.is_some_and(|(start, _)| *start < segment.range.end);
        if !is_valid || overlaps {
            return;
        }
        series.segments.insert(segment.range.start, (Arc::clone(segment), number));
        state.uses.insert(number, (self.id, segment.range.start));
        state.bytes += bytes;
        while state.bytes > self.kept.bytes_max
            && let Some((_, (id, start))) = state.uses.pop_first()
        {
            state.remove(&id, start);
        }
    }
}

impl Drop for Computation {
    fn drop(&mut self) {
        let mut state = self.kept.lock();
        if let Some(series) = state.series.get_mut(&self.id) {
            series.computing.remove(&self.number);
            if series.is_unused() {
                state.series.remove(&self.id);
            }
        }
    }
}
