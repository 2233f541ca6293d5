//! What is published of windows: each one when it is closed, and again whenever it has changed since.
//!
//! Pure: windows that were read in, what to publish out. It remembers what it has published, and says which windows have to be read
//! again when something was stored.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::kept::Affected;
use super::segment::Window;
use super::source::WindowSource;
use super::stats::WindowStats;
use super::{PUBLISHED_MAX, WindowsQuery};

/// A window of one source, as it is published.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PublishedWindow {
    pub view: String,
    pub size: String,
    pub start: String,
    pub end: String,
    pub source: Value,
    /// What each field has that has numbers.
    pub fields: Map<String, Value>,
    /// How often it was published, with this time.
    pub revision: u32,
    /// How many more numbers a field has than when the window was closed; the most of all fields.
    pub late: u64,
}

/// The windows of one query, as they are closed.
#[derive(Debug)]
pub struct Publication {
    query: Arc<WindowsQuery>,
    /// Windows that begin before this are published.
    next: i64,
    /// Windows that begin before this are no longer remembered.
    first: i64,
    remembered: BTreeMap<i64, BTreeMap<WindowSource, Remembered>>,
    /// How many windows and sources are remembered.
    count: usize,
}

#[derive(Debug)]
struct Remembered {
    /// Of each field.
    stats: Vec<WindowStats>,
    /// How many numbers each field had when the window was closed.
    first: Vec<u64>,
    revision: u32,
}

impl Publication {
    /// Begins with the windows that are still open at `closed_until`.
    pub fn new(query: Arc<WindowsQuery>, closed_until: i64) -> Self {
        let next = query.size.start_of(closed_until);
        Self { query, next, first: next, remembered: BTreeMap::new(), count: 0 }
    }

    pub fn query(&self) -> &Arc<WindowsQuery> {
        &self.query
    }

    /// The range of windows that have been closed meanwhile, and are to be read.
    pub fn closed(&self, closed_until: i64) -> Option<Range<i64>> {
        let range = self.next..self.query.size.start_of(closed_until);
        (!range.is_empty()).then_some(range)
    }

    /// The ranges of published windows that are to be read again.
    pub fn changed(&self, affected: Affected) -> Vec<Range<i64>> {
        let remembered = self.first..self.next;
        match affected {
            Affected::Everything if !remembered.is_empty() => vec![remembered],
            Affected::Nothing | Affected::Everything => Vec::new(),
            Affected::Windows(windows) => {
                let size = self.query.size.millis();
                let mut ranges: Vec<Range<i64>> = Vec::new();
                for start in windows.into_iter().filter(|start| remembered.contains(start)) {
                    match ranges.last_mut() {
                        Some(last) if last.end == start => last.end += size,
                        _ => ranges.push(start..start + size),
                    }
                }
                ranges
            }
        }
    }

    /// Returns what is to be published after the windows of `range` were read, of which `window` is the only one that has numbers.
    pub fn read(&mut self, range: Range<i64>, window: Option<&Window>) -> Vec<PublishedWindow> {
        let gone = self.remembered.range(range.clone()).map(|(start, _)| *start);
        let gone: Vec<i64> =
            gone.filter(|start| window.is_none_or(|window| window.start != *start)).collect();
        let mut published: Vec<PublishedWindow> =
            gone.into_iter().flat_map(|start| self.compare(start, &BTreeMap::new())).collect();
        if let Some(window) = window {
            let found: BTreeMap<&WindowSource, &[WindowStats]> = window.series().collect();
            published.extend(self.compare(window.start, &found));
        }
        self.next = self.next.max(range.end);
        while self.count > PUBLISHED_MAX
            && let Some((oldest, of_window)) = self.remembered.pop_first()
        {
            self.count -= of_window.len();
            self.first = oldest + self.query.size.millis();
        }
        published
    }

    /// Compares a window with what is remembered of it.
    fn compare(
        &mut self,
        start: i64,
        found: &BTreeMap<&WindowSource, &[WindowStats]>,
    ) -> Vec<PublishedWindow> {
        let fields = self.query.fields.len();
        let none = vec![WindowStats::default(); fields];
        let mut of_window = self.remembered.remove(&start).unwrap_or_default();
        self.count -= of_window.len();
        let gone: Vec<WindowSource> =
            of_window.keys().filter(|source| !found.contains_key(source)).cloned().collect();
        let there = found.iter().map(|(source, stats)| ((*source).clone(), *stats));
        let all: Vec<(WindowSource, &[WindowStats])> =
            there.chain(gone.into_iter().map(|source| (source, none.as_slice()))).collect();
        let mut published = Vec::new();
        for (source, stats) in all {
            let known = of_window.get(&source);
            if known.is_some_and(|known| known.stats == stats) {
                continue;
            }
            let first = match known {
                Some(known) => known.first.clone(),
                None if start >= self.next => stats.iter().map(|stats| stats.count).collect(),
                None => vec![0; fields],
            };
            let revision = known.map_or(1, |known| known.revision + 1);
            let late = stats.iter().zip(&first).map(|(stats, first)| stats.count.saturating_sub(*first));
            let late = late.max().unwrap_or(0);
            published.push(self.published(start, &source, stats, revision, late));
            of_window.insert(source, Remembered { stats: stats.to_vec(), first, revision });
        }
        self.count += of_window.len();
        if !of_window.is_empty() {
            self.remembered.insert(start, of_window);
        }
        published
    }

    fn published(
        &self,
        start: i64,
        source: &WindowSource,
        stats: &[WindowStats],
        revision: u32,
        late: u64,
    ) -> PublishedWindow {
        let time = |millis| Timestamp::from_millisecond(millis).unwrap_or_default().to_string();
        let fields = self.query.fields.iter().zip(stats).filter(|(_, stats)| stats.count > 0);
        let fields = fields.map(|(field, stats)| {
            let WindowStats { count, min, max, mean, .. } = *stats;
            let numbers =
                json!({"count": count, "min": min, "max": max, "mean": mean, "stddev": stats.stddev()});
            (field.clone(), numbers)
        });
        PublishedWindow {
            view: self.query.view.name.clone(),
            size: self.query.size.to_string(),
            start: time(start),
            end: time(start + self.query.size.millis()),
            source: source.to_json(),
            fields: fields.collect(),
            revision,
            late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::tests::query;

    /// A window in which sources have these numbers in the first field.
    fn window(start: i64, sources: &[(&str, &[f64])]) -> Window {
        let stats = sources.iter().flat_map(|(_, numbers)| {
            let mut stats = WindowStats::default();
            numbers.iter().for_each(|&number| stats.add(number));
            [stats, WindowStats::default()]
        });
        Window {
            start,
            sources: sources.iter().map(|(source, _)| WindowSource::Text((*source).into())).collect(),
            stats: stats.collect(),
        }
    }

    /// Source, count, revision and late of each.
    fn brief(published: &[PublishedWindow]) -> Vec<(String, Option<u64>, u32, u64)> {
        let brief = |window: &PublishedWindow| {
            let count = window.fields.get("v").and_then(|field| field["count"].as_u64());
            (window.source.as_str().unwrap_or_default().to_owned(), count, window.revision, window.late)
        };
        published.iter().map(brief).collect()
    }

    fn expected(source: &str, count: u64, revision: u32, late: u64) -> (String, Option<u64>, u32, u64) {
        (source.to_owned(), Some(count).filter(|count| *count > 0), revision, late)
    }

    #[test]
    fn a_window_is_published_when_it_is_closed_and_when_it_has_changed() {
        let mut publication = Publication::new(Arc::new(query(1_000)), 10_500);
        assert_eq!(publication.closed(10_999), None);
        assert_eq!(publication.closed(12_001), Some(10_000..12_000));
        let first = window(10_000, &[("a", &[1.0]), ("b", &[1.0, 2.0])]);
        let published = publication.read(10_000..11_000, Some(&first));
        assert_eq!(brief(&published), [expected("a", 1, 1, 0), expected("b", 2, 1, 0)]);
        assert_eq!(
            serde_json::to_value(&published[1]).expect("JSON"),
            json!({
                "view": "view", "size": "1s", "start": "1970-01-01T00:00:10Z", "end": "1970-01-01T00:00:11Z", "source": "b",
                "fields": {"v": {"count": 2, "min": 1.0, "max": 2.0, "mean": 1.5, "stddev": 0.5}}, "revision": 1, "late": 0,
            })
        );
        assert_eq!(publication.read(11_000..12_000, None), []);
        assert_eq!(publication.closed(12_999), None);

        // Nothing has changed.
        assert_eq!(publication.read(10_000..12_000, Some(&first)), []);
        let late = window(10_000, &[("a", &[1.0]), ("b", &[1.0, 2.0, 3.0]), ("c", &[5.0])]);
        let published = publication.read(10_000..11_000, Some(&late));
        assert_eq!(brief(&published), [expected("b", 3, 2, 1), expected("c", 1, 1, 1)]);
        // Corrected, and removed.
        let corrected = window(10_000, &[("b", &[1.0, 2.0, 30.0])]);
        let published = publication.read(10_000..11_000, Some(&corrected));
        assert_eq!(
            brief(&published),
            [expected("b", 3, 3, 1), expected("a", 0, 2, 0), expected("c", 0, 2, 0)]
        );
        let published = publication.read(10_000..12_000, None);
        assert_eq!(brief(&published), [expected("b", 0, 4, 0)]);
        assert_eq!(publication.read(10_000..12_000, None), []);
        // It was empty when it was closed.
        let published = publication.read(10_000..12_000, Some(&window(11_000, &[("a", &[1.0, 1.0])])));
        assert_eq!(brief(&published), [expected("a", 2, 1, 2)]);
    }

    #[test]
    fn changes_of_windows_that_are_not_remembered_are_not_read() {
        let mut publication = Publication::new(Arc::new(query(1_000)), 10_000);
        assert_eq!(publication.changed(Affected::Everything), []);
        publication.read(10_000..20_000, None);
        assert_eq!(publication.changed(Affected::Everything), std::slice::from_ref(&(10_000..20_000)));
        assert_eq!(publication.changed(Affected::Nothing), []);
        let windows = [9_000, 10_000, 11_000, 15_000, 19_000, 20_000].into();
        let expected = [10_000..12_000, 15_000..16_000, 19_000..20_000];
        assert_eq!(publication.changed(Affected::Windows(windows)), expected);

        for start in (20_000..).step_by(1_000).take(PUBLISHED_MAX + 5) {
            publication.read(start..start + 1_000, Some(&window(start, &[("a", &[1.0])])));
        }
        assert_eq!((publication.count, publication.first), (PUBLISHED_MAX, 25_000));
    }
}
