//! Windows over a view: how many numbers a field has in a window of time, by source, their least and greatest, their mean and
//! their standard deviation.
//!
//! 1. [`WindowsQuery`] says which windows. They begin at multiples of their size since 1970;
//! 2. [`compute`] reads the records of a range of time as [`records`](crate::records) does, in the same order, and adds their
//!    numbers to one window after the other ([`accumulate`], [`stats`]);
//! 3. [`KeptWindows`] keeps what was computed, in segments of time, until it is told what has changed;
//! 4. [`WindowsReader`] returns windows in order: what is kept, and what is not kept is computed, a few ranges at the same time.
//!
//! [`Publication`] decides which windows are published as events.
//!
//! **What is counted.** A record of the view whose time is in the window, once for each field that is a finite number. A
//! window of a source without any number does not exist.
//!
//! **The same numbers.** A window is computed by one reader, from its first record to its last one in the order of the view. So the
//! result depends only on what is stored, to the last bit, and not on the range of the query or on what is kept.
//!
//! **Memory.** For each range that is being computed: what [`records`](crate::records) holds, one window of at most [`SERIES_MAX`]
//! sources and fields, and about as much that has been computed and not taken yet.

mod accumulate;
mod compute;
mod edge;
mod items;
mod kept;
mod position;
mod publication;
mod reader;
mod segment;
mod source;
mod stats;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bson::Bson;
use jiff::Timestamp;
use mysimbdp_config::View;
use mysimbdp_config::settings::TimeType;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::Hasher;
use mysimbdp_model::units::Period;
use mysimbdp_model::window::WindowSize;
use mysimbdp_store::Order;

pub use items::{WINDOW_COLUMNS, WindowItem, WindowItems};
pub use kept::{Affected, KEPT_FOR, KeptSeries, KeptWindows};
pub use position::WindowsPosition;
pub use publication::{Publication, PublishedWindow};
pub use reader::{ReadAhead, WindowsReader, closed_until};
pub use segment::Window;
pub use source::WindowSource;
pub use stats::WindowStats;

use crate::error::QueryError;
use crate::records::time::RecordTime;
use crate::records::{RecordFields, RecordsQuery};

/// The most fields of a query.
pub const FIELDS_MAX: usize = 20;

/// The most sources times fields in a window, which are in memory while it is computed: some 10 MB.
pub const SERIES_MAX: usize = 100_000;

/// The most windows and sources of a [`Publication`] that are remembered.
pub const PUBLISHED_MAX: usize = 10_000;

/// Which windows of a view are returned.
#[derive(Clone, Debug)]
pub struct WindowsQuery {
    pub client: ClientId,
    pub view: View,
    pub size: WindowSize,
    /// Paths.
    pub fields: Vec<String>,
    /// The value that the view's source field must have.
    pub source: Option<Bson>,
    /// Windows that begin at this time or later.
    pub from: Option<Timestamp>,
    /// Windows that begin before this time.
    pub until: Option<Timestamp>,
}

impl WindowsQuery {
    /// Reads a size such as `1m`, which must be one for windows of this view.
    ///
    /// # Errors
    ///
    /// [`QueryError::InvalidRequest`].
    pub fn parse_size(view: &View, text: &str) -> Result<WindowSize, QueryError> {
        let invalid = |error: String| QueryError::InvalidRequest(format!("invalid size {text:?}: {error}"));
        let period = Period::try_from(text.to_owned()).map_err(|error| invalid(error.to_string()))?;
        let size =
            WindowSize::try_from(period).map_err(|error| QueryError::InvalidRequest(error.to_string()))?;
        if view.time_type == TimeType::Text && !size.is_whole_seconds() {
            let expected = format!("expected whole seconds, as the times of view {} are text", view.name);
            return Err(invalid(expected));
        }
        Ok(size)
    }

    /// Reads names of fields with commas between them.
    ///
    /// # Errors
    ///
    /// [`QueryError::InvalidRequest`]: a name is not the path of a field, or is listed twice, or there are too many.
    pub fn parse_fields(text: &str) -> Result<Vec<String>, QueryError> {
        let fields = RecordFields::parse(text)?;
        match fields.columns() {
            Some(names) if names.len() <= FIELDS_MAX => Ok(names.to_vec()),
            _ => Err(QueryError::InvalidRequest(format!(
                "invalid fields: expected names of 1 to {FIELDS_MAX} fields with commas between them, such as temp,meta.x"
            ))),
        }
    }

    /// The beginnings of the windows, as far as the query limits them.
    fn starts(&self) -> Range<i64> {
        let first_from = |time: Timestamp| {
            let millis = -(-time.as_nanosecond()).div_euclid(1_000_000);
            let millis = i64::try_from(millis).expect("it is a time of jiff");
            self.size.start_of(millis + self.size.millis() - 1)
        };
        self.from.map_or(i64::MIN, first_from)..self.until.map_or(i64::MAX, first_from)
    }

    /// The beginning of the window that a record is in.
    fn window_of(&self, time: &RecordTime) -> Option<i64> {
        let size = self.size.millis();
        let mut start = self.size.start_of(time.millis(self.view.time_type)?);
        if let (RecordTime::Float(seconds), TimeType::Seconds) = (time, self.view.time_type) {
            // Milliseconds are rounded, and the store compares the number itself with the bounds of a range.
            if *seconds < seconds_of(start) {
                start -= size;
            } else if *seconds >= seconds_of(start + size) {
                start += size;
            }
        }
        // Its end can be written.
        (start + size <= Timestamp::MAX.as_millisecond()).then_some(start)
    }

    /// The records of a range, with what windows need of them.
    fn records(&self, range: &Range<i64>, order: Order) -> RecordsQuery {
        let fields = self.fields.iter().chain(&self.view.source).cloned();
        RecordsQuery {
            client: self.client.clone(),
            view: self.view.clone(),
            from: Timestamp::from_millisecond(range.start).ok(),
            until: Timestamp::from_millisecond(range.end).ok(),
            source: self.source.clone(),
            order,
            fields: RecordFields::Named(fields.collect()),
            after: None,
            expected: u32::MAX,
        }
    }

    /// Identifies everything that decides what a window has, but not the range of the query.
    fn identity(&self) -> [u8; 32] {
        let view = &self.view;
        let layer = |layer: &Option<mysimbdp_config::ViewLayer>| {
            layer.as_ref().map(|layer| layer.collection.clone()).unwrap_or_default()
        };
        let mut texts = vec![
            self.client.to_string(),
            view.name.clone(),
            layer(&view.batch),
            layer(&view.stream),
            view.time.clone(),
            format!("{:?} {:?}", view.time_type, view.source_type),
            format!("{:?}", view.key),
            format!("{:?} {:?}", view.source, self.source),
            self.size.to_string(),
        ];
        texts.extend(self.fields.iter().cloned());
        let mut hasher = Hasher::new();
        for text in texts {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }
}

/// The number with which the store compares seconds.
fn seconds_of(millis: i64) -> f64 {
    if millis % 1_000 == 0 { (millis / 1_000) as f64 } else { (millis as f64 * 1e6) / 1e9 }
}
