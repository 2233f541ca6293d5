//! Reads windows in order: ranges of time that are kept, and others that are computed a few at the same time.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mysimbdp_platform::clock;
use mysimbdp_store::Coredms;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::compute::{Computed, SERIES_AHEAD, Task};
use super::kept::{Found, KeptSeries};
use super::segment::{Segment, Window};
use super::{WindowsPosition, WindowsQuery, edge};
use crate::error::QueryError;

/// A range that is computed as a whole is to have about this many records: opening a cursor then does not count, and a page
/// does not read much more than it needs.
const RANGE_RECORDS: u64 = 100_000;

/// The windows of the first range, whose number of records is not known.
const FIRST_WINDOWS: i64 = 64;

/// Ranges that are planned in advance.
const PARTS_MAX: usize = 64;

/// Segments of one range that wait to be taken.
const SEGMENTS_MAX: usize = 64;

/// How far a query reads ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAhead {
    /// For a page, which ends soon.
    Page,
    /// For a list: one range more than a host with few cores can read at the same time.
    List,
}

impl ReadAhead {
    fn ranges(self) -> usize {
        match self {
            Self::Page => 2,
            Self::List => 4,
        }
    }
}

/// Windows, which are read one after the other.
pub struct WindowsReader {
    store: Arc<dyn Coredms>,
    query: Arc<WindowsQuery>,
    kept: Option<KeptSeries>,
    turns: Arc<Semaphore>,
    ahead: ReadAhead,
    /// Where the next range begins.
    next: i64,
    /// The windows that are returned.
    range: Range<i64>,
    /// The number of windows in the next range.
    windows: i64,
    /// Whether nothing was found in the last range, so that the next one begins where there is something.
    must_skip: bool,
    parts: VecDeque<Part>,
    tasks: JoinSet<()>,
    current: Option<Current>,
    closed_until: i64,
    /// Windows that were returned, from what is kept.
    pub from_kept: u64,
    /// Windows that were returned, having been computed.
    pub from_store: u64,
}

/// What is returned next.
enum Part {
    Kept(Arc<Segment>),
    Computing(Computing),
}

struct Computing {
    range: Range<i64>,
    segments: mpsc::Receiver<Result<Computed, QueryError>>,
    /// Up to where segments have been received.
    received: i64,
    records: u64,
}

struct Current {
    segment: Arc<Segment>,
    index: usize,
    is_kept: bool,
}

impl std::fmt::Debug for WindowsReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WindowsReader").field("query", &self.query).finish_non_exhaustive()
    }
}

impl WindowsReader {
    /// Begins to read, with the window of `after` if there is one. `turns` bounds how many ranges are read at the same time, over
    /// all queries.
    ///
    /// # Errors
    ///
    /// [`QueryError::Store`].
    pub async fn open(
        store: Arc<dyn Coredms>,
        query: Arc<WindowsQuery>,
        kept: Option<KeptSeries>,
        turns: Arc<Semaphore>,
        ahead: ReadAhead,
        after: Option<&WindowsPosition>,
    ) -> Result<Self, QueryError> {
        let newest = edge::newest(&store, &query).await?;
        let closed_until = closed_until_at(&query, newest, clock::now());
        let Range { start, end } = query.starts();
        let start = after.map_or(start, |after| after.start.max(start));
        let size = query.size.millis();
        let end = newest.map_or(i64::MIN, |newest| end.min(query.size.start_of(newest) + size));
        Ok(Self {
            store,
            query,
            kept,
            turns,
            ahead,
            next: start,
            range: start..end,
            windows: 0,
            must_skip: true,
            parts: VecDeque::new(),
            tasks: JoinSet::new(),
            current: None,
            closed_until,
            from_kept: 0,
            from_store: 0,
        })
    }

    pub fn query(&self) -> &WindowsQuery {
        &self.query
    }

    /// Whether a window was closed when the query began.
    pub fn is_closed(&self, window: &Window) -> bool {
        window.start + self.query.size.millis() <= self.closed_until
    }

    /// Returns the next window. May be called again if it was dropped before it was ready.
    ///
    /// # Errors
    ///
    /// [`QueryError::Store`]; [`QueryError::InvalidRequest`] if a window has too many sources.
    pub async fn next(&mut self) -> Result<Option<Arc<Window>>, QueryError> {
        loop {
            if let Some(window) = self.next_of_current() {
                return Ok(Some(window));
            }
            self.plan().await?;
            let (segment, is_kept) = match self.parts.front_mut() {
                None => return Ok(None),
                Some(Part::Kept(segment)) => (Arc::clone(segment), true),
                Some(Part::Computing(computing)) => match computing.segments.recv().await.transpose()? {
                    Some(Computed { segment, .. }) => {
                        computing.received = segment.range.end;
                        computing.records += segment.records;
                        (segment, false)
                    }
                    None if computing.received == computing.range.end => {
                        let (range, records) = (computing.range.clone(), computing.records);
                        self.parts.pop_front();
                        self.adapt(&range, records);
                        continue;
                    }
                    None => {
                        return Err(QueryError::NoAnswer("reading the records was interrupted".to_owned()));
                    }
                },
            };
            if is_kept {
                self.parts.pop_front();
            }
            self.current = Some(Current { segment, index: 0, is_kept });
        }
    }

    fn next_of_current(&mut self) -> Option<Arc<Window>> {
        let current = self.current.as_mut()?;
        while let Some(window) = current.segment.windows.get(current.index) {
            current.index += 1;
            // A segment that is kept may begin earlier and end later.
            if self.range.contains(&window.start) {
                if current.is_kept {
                    self.from_kept += 1
                } else {
                    self.from_store += 1
                }
                return Some(Arc::clone(window));
            }
        }
        self.current = None;
        None
    }

    /// Plans the next ranges.
    async fn plan(&mut self) -> Result<(), QueryError> {
        while self.tasks.try_join_next().is_some() {}
        while self.next < self.range.end && self.parts.len() < PARTS_MAX {
            let computing = self.parts.iter().filter(|part| matches!(part, Part::Computing(_))).count();
            if computing >= self.ahead.ranges() {
                return Ok(());
            }
            let found = match &self.kept {
                Some(kept) => kept.find(self.next, Instant::now()),
                None => Found::Nothing(i64::MAX),
            };
            match found {
                Found::Segment(segment) => {
                    self.next = segment.range.end;
                    self.parts.push_back(Part::Kept(segment));
                }
                Found::Nothing(_) if self.must_skip && !self.parts.is_empty() => return Ok(()),
                Found::Nothing(until) if self.must_skip => self.skip(until).await?,
                Found::Nothing(until) => self.compute(until),
            }
        }
        Ok(())
    }

    /// Continues at the next window that has a record, or at `until`.
    async fn skip(&mut self, until: i64) -> Result<(), QueryError> {
        let range = self.next..self.range.end.min(until);
        let computation = self.kept.as_ref().map(|kept| kept.begin(range.clone()));
        let began = Instant::now();
        let first = edge::first_window(&self.store, &self.query, &range).await?;
        let first = first.map_or(range.end, |first| first.clamp(range.start, range.end));
        if let Some(computation) = computation {
            computation.keep(&Arc::new(Segment::empty(range.start..first, began)));
        }
        self.next = first;
        self.must_skip = false;
        if self.windows == 0 {
            let all = (self.range.end.saturating_sub(first)) / self.query.size.millis();
            self.windows = (all / self.ahead.ranges() as i64).clamp(1, FIRST_WINDOWS);
        }
        Ok(())
    }

    /// Begins to compute the next range, which ends no later than `until`.
    fn compute(&mut self, until: i64) {
        let length = self.windows.saturating_mul(self.query.size.millis());
        let end = self.next.saturating_add(length).min(until).min(self.range.end);
        let range = self.next..end;
        let (sender, segments) = mpsc::channel(SEGMENTS_MAX);
        let task = Task {
            store: Arc::clone(&self.store),
            query: Arc::clone(&self.query),
            range: range.clone(),
            turns: Arc::clone(&self.turns),
            computation: self.kept.as_ref().map(|kept| kept.begin(range.clone())),
            segments: sender,
            ahead: Arc::new(Semaphore::new(SERIES_AHEAD)),
        };
        self.tasks.spawn(task.run());
        self.next = end;
        let received = range.start;
        self.parts.push_back(Part::Computing(Computing { range, segments, received, records: 0 }));
    }

    /// Makes the next ranges longer or shorter, by what this one had.
    fn adapt(&mut self, range: &Range<i64>, records: u64) {
        let windows = (range.end - range.start) / self.query.size.millis();
        self.must_skip = records == 0;
        self.windows = match records {
            0 => self.windows,
            few if few < RANGE_RECORDS / 8 => self.windows.max(windows.saturating_mul(4)),
            few if few < RANGE_RECORDS / 2 => self.windows.max(windows.saturating_mul(2)),
            many if many > 2 * RANGE_RECORDS => self.windows.min(windows / 2).max(1),
            _ => self.windows,
        };
    }
}

/// Windows that end until then, in milliseconds since 1970, are closed.
///
/// # Errors
///
/// [`QueryError::Store`].
pub async fn closed_until(store: &Arc<dyn Coredms>, query: &WindowsQuery) -> Result<i64, QueryError> {
    Ok(closed_until_at(query, edge::newest(store, query).await?, clock::now()))
}

fn closed_until_at(query: &WindowsQuery, newest: Option<i64>, now: Timestamp) -> i64 {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let windows = &query.view.windows;
    let silent = now.as_millisecond().saturating_sub(millis(windows.idle));
    newest.map_or(silent, |newest| newest.max(silent)).saturating_sub(millis(windows.lateness))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::tests::query;

    #[test]
    fn a_window_is_closed_by_later_records_or_by_the_clock() {
        let mut query = query(60_000);
        query.view.windows.lateness = Duration::from_secs(10);
        query.view.windows.idle = Duration::from_secs(60);
        let at = |seconds| Timestamp::from_second(seconds).expect("a time");
        assert_eq!(closed_until_at(&query, Some(1_000_000), at(0)), 990_000);
        assert_eq!(closed_until_at(&query, Some(1_000_000), at(2_000)), 1_930_000);
        assert_eq!(closed_until_at(&query, None, at(2_000)), 1_930_000);
    }
}
