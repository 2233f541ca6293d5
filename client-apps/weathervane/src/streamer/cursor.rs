//! The progress of sending the file.

use mysimbdp_edge::Position;

use crate::batch::{Batch, Hour};
use crate::file::Hours;

/// The next batch to send, by the positions of hours in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The hour after the last one to send.
    end: usize,
    hour: usize,
    batch: usize,
}

impl Cursor {
    /// Starts after `accepted`, the position of the last batch that the outbox has accepted, or at the beginning if there is none.
    ///
    /// # Errors
    ///
    /// The outbox belongs to another file.
    pub fn new(
        hours: &Hours,
        from: Option<&Hour>,
        count: Option<usize>,
        accepted: &Position,
    ) -> Result<Self, String> {
        let first = from.map_or(0, |hour| hours.position_from(hour));
        let end = count.map_or(hours.len(), |count| first.saturating_add(count).min(hours.len()));
        if accepted.is_empty() {
            return Ok(Self { end, hour: first, batch: 0 });
        }
        let text = String::from_utf8_lossy(accepted.as_bytes());
        let (hour, batch) = text
            .split_once(' ')
            .and_then(|(hour, batch)| {
                Some((hours.position(&hour.parse().ok()?)?, batch.parse::<usize>().ok()?))
            })
            .ok_or_else(|| format!("the outbox belongs to another file: its last batch is {text:?}"))?;
        // An earlier process may have begun earlier.
        let (hour, batch) = if hour < first { (first, 0) } else { (hour, batch + 1) };
        let mut cursor = Self { end, hour, batch };
        cursor.wrap(hours);
        Ok(cursor)
    }

    /// Returns the next batch; `None` after the end.
    pub fn batch(&self, hours: &Hours) -> Option<Batch> {
        let is_within = self.hour < self.end;
        is_within.then(|| hours.batches(self.hour).into_iter().nth(self.batch)).flatten()
    }

    /// Returns the position of a batch in the file, for the outbox.
    pub fn position(&self, batch: &Batch) -> Position {
        // An hour and a number: far below the size limit of a position.
        Position::new(format!("{} {}", batch.hour, batch.batch)).unwrap_or_default()
    }

    /// Advances past a batch that is sent.
    pub fn advance(&mut self, sent: &Batch) {
        self.batch += 1;
        if self.batch >= sent.batches as usize {
            (self.hour, self.batch) = (self.hour + 1, 0);
        }
    }

    fn wrap(&mut self, hours: &Hours) {
        if self.batch >= hours.batches(self.hour).len() {
            (self.hour, self.batch) = (self.hour + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours() -> Hours {
        let header = "origin,time_hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib\n";
        let row = |origin, hour| format!("{origin},2013-01-01T0{hour}:00:00Z,1,NA,NA,NA,NA,NA,NA,NA,NA\n");
        let rows = (0..4).flat_map(|hour| ["EWR", "JFK"].map(|origin| row(origin, hour)));
        let content = rows.fold(header.to_owned(), |all, row| all + &row);
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        mysimbdp_platform::files::write_atomic(file.path(), content.as_bytes()).expect("write");
        Hours::read(file.path(), 1).expect("a weather file")
    }

    /// Returns everything that is left to send, and the position after each batch.
    fn remaining(mut cursor: Cursor, hours: &Hours) -> Vec<(String, Position)> {
        let mut sent = Vec::new();
        while let Some(batch) = cursor.batch(hours) {
            sent.push((format!("{} {}", &batch.hour.as_str()[11..13], batch.batch), cursor.position(&batch)));
            cursor.advance(&batch);
        }
        sent
    }

    #[test]
    fn a_restart_continues_after_any_batch() {
        let hours = hours();
        let cursor = |accepted: &Position| Cursor::new(&hours, None, None, accepted).expect("of this file");
        let all = remaining(cursor(&Position::default()), &hours);
        assert_eq!(all.len(), 8);
        for (number, (_, position)) in all.iter().enumerate() {
            assert_eq!(remaining(cursor(position), &hours), all[number + 1..]);
        }
    }

    #[test]
    fn it_begins_and_ends_as_configured() {
        let hours = hours();
        let from = "2013-01-01T01:00:00Z".parse().expect("an hour");
        let cursor = Cursor::new(&hours, Some(&from), Some(2), &Position::default()).expect("of this file");
        let names: Vec<String> = remaining(cursor, &hours).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["01 0", "01 1", "02 0", "02 1"]);
    }

    #[test]
    fn the_outbox_of_another_file_is_refused() {
        for text in
            ["", " ", "2014-01-01T00:00:00Z 1", "2013-01-01T01:00:00Z x"].map(|text| format!("x{text}"))
        {
            let position = Position::new(text).expect("short");
            assert!(Cursor::new(&hours(), None, None, &position).is_err());
        }
    }
}
