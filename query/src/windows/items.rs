//! Windows as a flat list: an item for each source and field of a window, which is written as a JSON object or a CSV row.

use std::sync::Arc;

use jiff::Timestamp;

use super::segment::Window;
use super::source::WindowSource;
use super::stats::WindowStats;
use super::{WindowsPosition, WindowsReader};
use crate::error::QueryError;
use crate::records::RecordForm;
use crate::records::value::{Members, Row, append_number, append_text};

/// The columns of the CSV form.
pub const WINDOW_COLUMNS: [&str; 10] =
    ["start", "end", "source", "field", "count", "min", "max", "mean", "stddev", "state"];

/// What one field of one source has in a window.
#[derive(Clone, Debug)]
pub struct WindowItem {
    pub window: Arc<Window>,
    pub is_closed: bool,
    /// The number of the source in the window, and that of the field in the query.
    source: usize,
    pub field: usize,
    fields: usize,
}

impl WindowItem {
    pub fn source(&self) -> &WindowSource {
        &self.window.sources[self.source]
    }

    pub fn stats(&self) -> &WindowStats {
        &self.window.stats[self.source * self.fields + self.field]
    }
}

/// Items in the order of windows, sources and fields.
#[derive(Debug)]
pub struct WindowItems {
    reader: WindowsReader,
    /// Only what comes after it.
    after: Option<WindowsPosition>,
    /// The window whose items are returned, and the number of the next one.
    window: Option<(Arc<Window>, usize)>,
    /// Beginning and end of a window as texts: they are the same for all its items.
    times: Option<(i64, [String; 2])>,
    /// The next item, if it is known already.
    peeked: Option<WindowItem>,
}

impl WindowItems {
    /// The reader was opened for the same position.
    pub fn new(reader: WindowsReader, after: Option<WindowsPosition>) -> Self {
        Self { reader, after, window: None, times: None, peeked: None }
    }

    pub fn reader(&self) -> &WindowsReader {
        &self.reader
    }

    /// Returns the next item. May be called again if it was dropped before it was ready.
    ///
    /// # Errors
    ///
    /// Those of [`WindowsReader::next`].
    pub async fn next(&mut self) -> Result<Option<WindowItem>, QueryError> {
        if let Some(item) = self.peeked.take() {
            return Ok(Some(item));
        }
        loop {
            if let Some(item) = self.next_of_window() {
                return Ok(Some(item));
            }
            match self.reader.next().await? {
                Some(window) => self.window = Some((window, 0)),
                None => return Ok(None),
            }
        }
    }

    /// Whether an item follows.
    pub async fn has_next(&mut self) -> Result<bool, QueryError> {
        self.peeked = self.next().await?;
        Ok(self.peeked.is_some())
    }

    /// Where the items begin that follow this one.
    pub fn position_after(&self, item: &WindowItem) -> WindowsPosition {
        WindowsPosition::new(self.reader.query(), item.window.start, item.source().clone(), item.field)
    }

    /// Appends an item in this form.
    pub fn append(&mut self, buffer: &mut Vec<u8>, form: RecordForm, item: &WindowItem) {
        let start = item.window.start;
        if self.times.as_ref().is_none_or(|(known, _)| *known != start) {
            let times = [start, start + self.reader.query().size.millis()].map(|millis| {
                // A window whose end cannot be written does not exist.
                Timestamp::from_millisecond(millis).unwrap_or_default().to_string()
            });
            self.times = Some((start, times));
        }
        let Some((_, [start, end])) = &self.times else { return };
        let field = &self.reader.query().fields[item.field];
        let WindowStats { count, min, max, mean, .. } = *item.stats();
        let numbers = [("min", min), ("max", max), ("mean", mean), ("stddev", item.stats().stddev())];
        let state = if item.is_closed { "closed" } else { "open" };
        match form {
            RecordForm::Object => {
                let mut members = Members::begin(buffer);
                append_text(members.begin_member("start"), start);
                append_text(members.begin_member("end"), end);
                match item.source() {
                    WindowSource::None => members.begin_member("source").extend_from_slice(b"null"),
                    WindowSource::Integer(number) => append_number(members.begin_member("source"), number),
                    WindowSource::Float(number) => append_float(members.begin_member("source"), *number),
                    WindowSource::Text(text) => append_text(members.begin_member("source"), text),
                }
                append_text(members.begin_member("field"), field);
                append_number(members.begin_member("count"), count);
                for (name, number) in numbers {
                    append_float(members.begin_member(name), number);
                }
                append_text(members.begin_member("state"), state);
                members.end();
            }
            RecordForm::Row => {
                let mut row = Row::begin(buffer);
                row.append_text(start.as_bytes());
                row.append_text(end.as_bytes());
                match item.source() {
                    WindowSource::None => row.append_text(b""),
                    WindowSource::Integer(number) => row.append_text(number.to_string().as_bytes()),
                    WindowSource::Float(number) => row.append_text(&float(*number)),
                    WindowSource::Text(text) => row.append_text(text.as_bytes()),
                }
                row.append_text(field.as_bytes());
                row.append_text(count.to_string().as_bytes());
                for (_, number) in numbers {
                    row.append_text(if number.is_finite() { float(number) } else { Vec::new() }.as_slice());
                }
                row.append_text(state.as_bytes());
                row.end();
            }
        }
    }

    fn next_of_window(&mut self) -> Option<WindowItem> {
        let (window, next) = self.window.as_mut()?;
        let fields = self.reader.query().fields.len();
        while *next < window.stats.len() {
            let (source, field) = (*next / fields, *next % fields);
            *next += 1;
            let is_wanted = window.stats[source * fields + field].count > 0
                && self
                    .after
                    .as_ref()
                    .is_none_or(|after| after.is_before(window.start, &window.sources[source], field));
            if is_wanted {
                let is_closed = self.reader.is_closed(window);
                return Some(WindowItem { window: Arc::clone(window), is_closed, source, field, fields });
            }
        }
        self.window = None;
        None
    }
}

/// Null if it exceeds the doubles, as a mean of the largest ones may.
fn append_float(buffer: &mut Vec<u8>, number: f64) {
    serde_json::to_writer(buffer, &number).expect("a vector takes all bytes");
}

fn float(number: f64) -> Vec<u8> {
    let mut text = Vec::new();
    append_float(&mut text, number);
    text
}
