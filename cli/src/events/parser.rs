//! Server-sent events out of the bytes of an answer.

/// The longest line, and the longest data of an event. The server keeps 8 MiB of all events together.
const EVENT_BYTES_MAX: usize = 8 << 20;

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// What a listener names to get the events after this one.
    pub id: String,
    /// `staged`, `scaled` and so on.
    pub kind: String,
    /// JSON.
    pub data: String,
}

/// These are not events.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

/// Parses the bytes of an answer, however they are cut.
#[derive(Debug, Default)]
pub struct EventParser {
    /// The beginning of a line.
    line: Vec<u8>,
    /// The beginning of an event.
    event: Event,
    has_data: bool,
}

impl EventParser {
    /// Returns the events that are complete with these bytes.
    ///
    /// # Errors
    ///
    /// A line or an event is longer than any of the server.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            events.extend(self.line(line.strip_suffix(b"\r").unwrap_or(&line)));
            self.check()?;
        }
        self.line.extend_from_slice(rest);
        self.check()?;
        Ok(events)
    }

    /// Takes a line; an empty one completes the event.
    fn line(&mut self, line: &[u8]) -> Option<Event> {
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.event.id),
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                self.event.data.push_str(value);
            }
            // A comment, which only shows that the server is there.
            _ => {}
        }
        None
    }

    fn check(&self) -> Result<(), TooLong> {
        match self.line.len().max(self.event.data.len()) <= EVENT_BYTES_MAX {
            true => Ok(()),
            false => Err(TooLong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, kind: &str, data: &str) -> Event {
        Event { id: id.to_owned(), kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_however_their_bytes_are_cut() {
        let text = "id: a-1\nevent: staged\ndata: {\"name\":\"天気\"}\n\n:\n\nid: a-2\r\nevent:held\r\ndata: 1\r\ndata:  2\r\n\r\nid: a-3\ndata: {}\n";
        let expected = [event("a-1", "staged", "{\"name\":\"天気\"}"), event("a-2", "held", "1\n 2")];
        for length in 1..text.len() {
            let mut parser = EventParser::default();
            let events = text.as_bytes().chunks(length).map(|bytes| parser.push(bytes).expect("short"));
            assert_eq!(events.flatten().collect::<Vec<_>>(), expected, "in pieces of {length}");
            // The last one is not complete before its empty line.
            assert_eq!(parser.push(b"\n"), Ok(vec![event("a-3", "", "{}")]));
        }
    }

    #[test]
    fn what_never_ends_is_refused() {
        let mut parser = EventParser::default();
        let piece = vec![b'x'; 1 << 20];
        assert!((0..9).any(|_| parser.push(&piece).is_err()));
        let mut parser = EventParser::default();
        let line = [b"data: ", piece.as_slice(), b"\n"].concat();
        assert!((0..9).any(|_| parser.push(&line).is_err()));
    }
}
