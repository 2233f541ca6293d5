//! Formats an event as a line of logfmt.

use std::borrow::Cow;
use std::fmt::{self, Write};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::escape::{escape, quote};

/// The targets of the platform's own crates begin with this. Their events are identified by the process; those of libraries get a
/// field with their target.
const OWN_TARGETS: &str = "mysimbdp";

/// The longest value; longer ones are cut, because a message of megabytes must not become a line of megabytes.
const VALUE_BYTES_MAX: usize = 4 * 1024;

/// The style of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineStyle {
    /// Date and time to the microsecond: for files, and for a stderr that is not a terminal.
    Full,
    /// The time of day to the second.
    Short,
    /// As [`Self::Short`], with the level in colour.
    Coloured,
}

/// Whether the event comes from the platform's own crates.
pub(super) fn is_own(event: &Event<'_>) -> bool {
    event.metadata().target().starts_with(OWN_TARGETS)
}

/// `2026-11-21T03:22:11.123456Z INFO fetchdata: staged client=client1 bytes=12`, without the end of the line.
pub(super) fn line(event: &Event<'_>, process_name: &str, now: Timestamp, style: LineStyle) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    if !is_own(event) {
        fields.add("target", &quote(metadata.target()));
    }
    let time = match style {
        LineStyle::Full => time(now),
        LineStyle::Short | LineStyle::Coloured => now.strftime("%H:%M:%S").to_string(),
    };
    let level = metadata.level();
    let (on, off) = if style == LineStyle::Coloured { (colour(*level), "\u{1b}[0m") } else { ("", "") };
    format!("{time} {on}{level}{off} {process_name}: {}{}", fields.message, fields.others)
}

fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= VALUE_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]))
}

/// UTC, always with six digits after the point, so that lines are aligned and sort by their text.
pub(super) fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG | Level::TRACE => "\u{1b}[2m",
    }
}

/// The message, and the other fields each with a space in front.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Fields {
    fn add(&mut self, name: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.others, " {name}={value}");
    }

    fn text(&mut self, field: &Field, text: &str) {
        let text = &shortened(text);
        match field.name() {
            "message" => self.message = escape(text).into_owned(),
            name => self.add(name, &quote(text)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, &mysimbdp_model::error_chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}
