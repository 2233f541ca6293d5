//! Adds the numbers of records to one window after the other.

use std::collections::HashMap;
use std::sync::Arc;

use bson::RawDocument;
use bson::raw::RawBsonRef;

use super::segment::Window;
use super::source::{RecordSource, WindowSource};
use super::stats::WindowStats;
use super::{SERIES_MAX, WindowsQuery};
use crate::error::QueryError;
use crate::records::value;

/// Sources that are remembered from one window to the next, to spare copies of their names.
const SOURCES_MAX: usize = 100_000;

/// The window that records are added to.
pub(super) struct Accumulator {
    fields: usize,
    texts: HashMap<Arc<str>, Slot>,
    /// By whether it is a float, and its bits.
    numbers: HashMap<(bool, u64), Slot>,
    none: Slot,
    /// The number of the window, from 1.
    window: u64,
    sources: Vec<WindowSource>,
    /// Those of all fields of the first source, then those of the second, and so on.
    stats: Vec<WindowStats>,
    /// The numbers of one record.
    numbers_of_record: Vec<Option<f64>>,
    /// The only source that is wanted.
    only: Option<WindowSource>,
}

/// Where a source is in the last window that had it.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    window: u64,
    index: usize,
}

impl Accumulator {
    pub(super) fn new(query: &WindowsQuery) -> Self {
        let only = query.source.as_ref().map(|value| match value {
            bson::Bson::String(text) => WindowSource::Text(text.as_str().into()),
            bson::Bson::Int64(number) => WindowSource::Integer(*number),
            bson::Bson::Double(number) => WindowSource::Float(*number),
            _ => WindowSource::None,
        });
        Self {
            fields: query.fields.len(),
            texts: HashMap::new(),
            numbers: HashMap::new(),
            none: Slot::default(),
            window: 1,
            sources: Vec::new(),
            stats: Vec::new(),
            numbers_of_record: Vec::with_capacity(query.fields.len()),
            only,
        }
    }

    /// Adds a record to the window.
    ///
    /// # Errors
    ///
    /// The record is damaged, or the window has too many sources.
    pub(super) fn add(&mut self, query: &WindowsQuery, record: &RawDocument) -> Result<(), QueryError> {
        let damaged = |error| QueryError::InvalidData(format!("a stored document is damaged: {error}"));
        self.numbers_of_record.clear();
        for field in &query.fields {
            self.numbers_of_record.push(value::at(record, field).map_err(damaged)?.and_then(finite));
        }
        if self.numbers_of_record.iter().all(Option::is_none) {
            return Ok(());
        }
        let source = match &query.view.source {
            Some(field) => {
                RecordSource::of(value::at(record, field).map_err(damaged)?, query.view.source_type)
            }
            None => RecordSource::None,
        };
        // The store also finds lists that have the source among their elements.
        if self.only.as_ref().is_some_and(|only| !is(only, source)) {
            return Ok(());
        }
        let index = self.index(source).ok_or_else(|| {
            QueryError::InvalidRequest(format!(
                "invalid size or fields: a window has more than {SERIES_MAX} sources and fields; expected a smaller size, fewer fields, or source"
            ))
        })?;
        for (stats, number) in self.stats[index..].iter_mut().zip(&self.numbers_of_record) {
            if let Some(number) = number {
                stats.add(*number);
            }
        }
        Ok(())
    }

    /// Where the statistics of a source begin; `None` if there are too many.
    fn index(&mut self, source: RecordSource<'_>) -> Option<usize> {
        let slot = match source {
            RecordSource::None => Some(&mut self.none),
            RecordSource::Integer(number) => self.numbers.get_mut(&(false, number as u64)),
            RecordSource::Float(number) => self.numbers.get_mut(&(true, number.to_bits())),
            RecordSource::Text(text) => self.texts.get_mut(text),
        };
        if let Some(slot) = slot.as_ref().filter(|slot| slot.window == self.window) {
            return Some(slot.index);
        }
        let new = Slot { window: self.window, index: self.stats.len() };
        if new.index + self.fields > SERIES_MAX {
            return None;
        }
        let source = match source {
            RecordSource::None => WindowSource::None,
            RecordSource::Integer(number) => WindowSource::Integer(number),
            RecordSource::Float(number) => WindowSource::Float(number),
            RecordSource::Text(text) => {
                let known = self.texts.get_key_value(text).map(|(known, _)| Arc::clone(known));
                WindowSource::Text(known.unwrap_or_else(|| text.into()))
            }
        };
        match &source {
            WindowSource::None => self.none = new,
            WindowSource::Integer(number) => drop(self.numbers.insert((false, *number as u64), new)),
            WindowSource::Float(number) => drop(self.numbers.insert((true, number.to_bits()), new)),
            WindowSource::Text(text) => drop(self.texts.insert(Arc::clone(text), new)),
        }
        self.sources.push(source);
        self.stats.resize(new.index + self.fields, WindowStats::default());
        Some(new.index)
    }

    /// Ends the window, which begins at `start`; `None` if it has no numbers.
    pub(super) fn finish(&mut self, start: i64) -> Option<Window> {
        let (sources, stats) = (std::mem::take(&mut self.sources), std::mem::take(&mut self.stats));
        self.window += 1;
        if self.texts.len() + self.numbers.len() > SOURCES_MAX {
            self.texts.clear();
            self.numbers.clear();
        }
        if sources.is_empty() {
            return None;
        }
        let mut order: Vec<usize> = (0..sources.len()).collect();
        order.sort_unstable_by(|&one, &other| sources[one].cmp(&sources[other]));
        let fields = self.fields;
        let in_order = order.iter().flat_map(|&index| &stats[index * fields..(index + 1) * fields]);
        Some(Window {
            start,
            stats: in_order.copied().collect(),
            sources: order.iter().map(|&index| sources[index].clone()).collect(),
        })
    }
}

fn is(only: &WindowSource, source: RecordSource<'_>) -> bool {
    match (only, source) {
        (WindowSource::Text(one), RecordSource::Text(other)) => **one == *other,
        (WindowSource::Integer(one), RecordSource::Integer(other)) => *one == other,
        // The parameter may be a whole number that is written with a dot.
        (WindowSource::Float(one), RecordSource::Integer(other)) => *one == other as f64,
        (WindowSource::Float(one), RecordSource::Float(other)) => *one == other,
        _ => false,
    }
}

fn finite(value: RawBsonRef<'_>) -> Option<f64> {
    let number = match value {
        RawBsonRef::Int32(number) => number.into(),
        RawBsonRef::Int64(number) => number as f64,
        RawBsonRef::Double(number) => number,
        RawBsonRef::Decimal128(number) => number.to_string().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}
