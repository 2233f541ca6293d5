//! A JSON array whose elements are the records.
//!
//! Follows brackets and strings, which is enough to separate elements. The content of an element is for the app to
//! inspect, with two exceptions: it must not be nested without bound, and its brackets must match, because otherwise
//! its end could not be found.

use memchr::memchr2;
use mysimbdp_model::reason::{Objection, ReasonCode};

use super::cutter::Cutter;
use super::scanner::RecordScanner;

/// Deeper than any real document: MongoDB allows 100 levels, most parsers stop at 128 or 512.
const DEPTH_MAX: usize = 1_000;

const NO_ARRAY_BUT_OBJECT: &str = "is not a JSON array: it begins with {; one object per line is NDJSON, which is named \
    .ndjson, or the app has \"format\": \"ndjson\"";

pub(super) struct JsonArray {
    state: State,
    /// The closing brackets that match the open ones in this element.
    closers: Vec<u8>,
    /// Elements that have ended.
    elements: u64,
}

#[derive(Clone, Copy)]
enum State {
    /// Before the array.
    Start,
    /// After its opening bracket; the prefix continues.
    Opened,
    /// After a comma between elements.
    AfterComma,
    Element,
    String,
    /// After a backslash in a string.
    Escape,
    /// After the closing bracket.
    Closed,
}

impl JsonArray {
    pub(super) fn new() -> Self {
        Self { state: State::Start, closers: Vec::new(), elements: 0 }
    }

    fn follow(&mut self, chunk: &[u8], mut at: usize, cutter: &mut Cutter) -> Result<(), String> {
        while let Some(&byte) = chunk.get(at) {
            match self.state {
                State::String => {
                    let Some(length) = memchr2(b'"', b'\\', &chunk[at..]) else { break };
                    at += length;
                    self.state = if chunk[at] == b'"' { State::Element } else { State::Escape };
                }
                State::Escape => self.state = State::String,
                State::Element => {
                    let ends =
                        self.element_byte(byte).map_err(|fault| self.at_position(fault, at, cutter))?;
                    if ends {
                        self.end_element(byte, chunk, at, cutter);
                    }
                }
                _ if is_blank(byte) => {}
                State::Start if byte == b'[' => self.state = State::Opened,
                State::Start if byte == b'{' => return Err(NO_ARRAY_BUT_OBJECT.to_owned()),
                State::Start => return Err("is not a JSON array: it does not begin with [".to_owned()),
                State::Opened => {
                    cutter.end_prefix(at);
                    if byte == b']' {
                        self.state = State::Closed;
                    } else {
                        self.begin_element(byte, at, cutter)?;
                        continue;
                    }
                }
                State::AfterComma => {
                    self.begin_element(byte, at, cutter)?;
                    continue;
                }
                State::Closed => {
                    return Err(self.at_position(
                        "has content after the end of the array".to_owned(),
                        at,
                        cutter,
                    ));
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// At the first byte of an element, or of what is there instead. Consumes nothing.
    fn begin_element(&mut self, byte: u8, at: usize, cutter: &Cutter) -> Result<(), String> {
        if matches!(byte, b',' | b']') {
            return Err(self.at_position(format!("element {} is missing", self.elements), at, cutter));
        }
        self.state = State::Element;
        Ok(())
    }

    /// Whether `byte` ends the element: a comma or the array's own closing bracket.
    fn element_byte(&mut self, byte: u8) -> Result<bool, String> {
        match byte {
            b'"' => self.state = State::String,
            b'{' | b'[' => {
                if self.closers.len() == DEPTH_MAX {
                    return Err(format!(
                        "element {} is nested deeper than {DEPTH_MAX} levels",
                        self.elements
                    ));
                }
                self.closers.push(if byte == b'{' { b'}' } else { b']' });
            }
            b'}' | b']' => match self.closers.pop() {
                None if byte == b']' => return Ok(true),
                Some(closer) if closer == byte => {}
                _ => return Err(format!("element {} has an unmatched {}", self.elements, char::from(byte))),
            },
            b',' => return Ok(self.closers.is_empty()),
            _ => {}
        }
        Ok(false)
    }

    fn end_element(&mut self, byte: u8, chunk: &[u8], at: usize, cutter: &mut Cutter) {
        self.elements += 1;
        if byte == b']' {
            // No boundary yet: the bracket, and any white space after it, stays with the last element.
            self.state = State::Closed;
        } else {
            self.state = State::AfterComma;
            cutter.boundary(chunk, at + 1, 1);
        }
    }

    fn at_position(&self, fault: String, at: usize, cutter: &Cutter) -> String {
        format!("{fault}, at byte {}", cutter.chunk_start() + at as u64)
    }
}

impl RecordScanner for JsonArray {
    fn feed(&mut self, chunk: &[u8], at: usize, cutter: &mut Cutter) -> Result<(), Objection> {
        self.follow(chunk, at, cutter).map_err(|text| ReasonCode::InvalidJson.because(text))
    }

    fn end(&mut self, cutter: &mut Cutter) -> Result<(), Objection> {
        let text = match self.state {
            State::Closed => {
                cutter.boundary(&[], 0, u64::from(self.elements > 0));
                return Ok(());
            }
            State::Start => "is not a JSON array: it is blank".to_owned(),
            _ => format!("is not a complete JSON array: it ends within element {}", self.elements),
        };
        Err(ReasonCode::InvalidJson.because(text))
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
