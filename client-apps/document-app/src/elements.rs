//! A JSON array: each element is a record.
//!
//! This module only finds the boundaries of the elements. An element is checked when it is converted, so that an invalid
//! one does not affect the others.

use std::io::BufRead;

use mysimbdp_sdk::Failure;
use mysimbdp_sdk::record::RECORD_BYTES_MAX;

use crate::Record;

/// The elements of an array.
pub(crate) struct Elements<R> {
    input: R,
    element: Vec<u8>,
    position: Position,
}

/// The reader's position in the array.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    BeforeArray,
    /// After the `[`.
    First,
    /// After a comma.
    Next,
    AfterArray,
}

/// The nesting inside an element: the depth, and whether it is in a string.
#[derive(Default)]
struct Nesting {
    depth: u64,
    in_string: bool,
    is_escaped: bool,
}

/// What ended an element.
enum End {
    Comma,
    Bracket,
}

impl<R: BufRead> Elements<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, element: Vec::new(), position: Position::BeforeArray }
    }

    /// Returns the next element; `None` after the `]`, if only blanks follow it.
    pub(crate) fn next(&mut self) -> Result<Option<Record<'_>>, Failure> {
        if self.position == Position::BeforeArray {
            self.open_array()?;
        }
        if self.position == Position::AfterArray {
            return Ok(None);
        }
        let (end, too_large) = self.read_element()?;
        let is_blank = !too_large && self.element.iter().copied().all(is_blank);
        let is_first = self.position == Position::First;
        self.position = match end {
            End::Comma => Position::Next,
            End::Bracket => Position::AfterArray,
        };
        if self.position == Position::AfterArray {
            self.expect_blank_remainder()?;
            if is_blank && is_first {
                return Ok(None);
            }
        }
        match (is_blank, too_large) {
            (true, _) => Err(Failure::Data("JSON array has a comma without an element".to_owned())),
            (false, true) => Ok(Some(Record::TooLarge)),
            (false, false) => Ok(Some(Record::Text(&self.element))),
        }
    }

    fn open_array(&mut self) -> Result<(), Failure> {
        match self.skip_blank()? {
            Some(b'[') => {
                self.input.consume(1);
                self.position = Position::First;
                Ok(())
            }
            Some(_) => Err(Failure::Data("JSON is not an array: it does not begin with [".to_owned())),
            None => Err(Failure::Data("JSON is empty".to_owned())),
        }
    }

    fn expect_blank_remainder(&mut self) -> Result<(), Failure> {
        match self.skip_blank()? {
            None => Ok(()),
            Some(_) => Err(Failure::Data("JSON continues after the end of its array".to_owned())),
        }
    }

    /// Returns the next byte that is not blank, without consuming it.
    fn skip_blank(&mut self) -> Result<Option<u8>, Failure> {
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let blank = buffer.iter().take_while(|&&byte| is_blank(byte)).count();
            let next = buffer.get(blank).copied();
            self.input.consume(blank);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Reads up to and including the comma or bracket that ends the element; returns whether the element was too large to keep.
    fn read_element(&mut self) -> Result<(End, bool), Failure> {
        self.element.clear();
        let mut nesting = Nesting::default();
        let mut too_large = false;
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Err(Failure::Data("JSON array is incomplete: its ] is missing".to_owned()));
            }
            let end =
                buffer.iter().enumerate().find_map(|(at, &byte)| nesting.end(byte).map(|end| (at, end)));
            let piece = &buffer[..end.as_ref().map_or(buffer.len(), |(at, _)| *at)];
            too_large |= self.element.len() + piece.len() > RECORD_BYTES_MAX;
            if !too_large {
                self.element.extend_from_slice(piece);
            }
            let consumed = piece.len() + usize::from(end.is_some());
            self.input.consume(consumed);
            if let Some((_, end)) = end {
                return Ok((end, too_large));
            }
        }
    }
}

impl Nesting {
    /// Returns how `byte` ends the element, if it does.
    fn end(&mut self, byte: u8) -> Option<End> {
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return None;
        }
        match byte {
            b'"' => self.in_string = true,
            b'[' | b'{' => self.depth += 1,
            b']' if self.depth == 0 => return Some(End::Bracket),
            b',' if self.depth == 0 => return Some(End::Comma),
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        None
    }
}

/// Whether `byte` is white space in JSON, which has less of it than ASCII: a form feed is an (invalid) element.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str, buffer_bytes: usize) -> Result<Vec<String>, Failure> {
        let mut elements = Elements::new(std::io::BufReader::with_capacity(buffer_bytes, text.as_bytes()));
        let mut all = Vec::new();
        while let Some(element) = elements.next()? {
            all.push(match element {
                Record::Text(text) => String::from_utf8_lossy(text).trim().to_owned(),
                Record::TooLarge => "too large".to_owned(),
            });
        }
        Ok(all)
    }

    #[test]
    fn commas_and_brackets_in_strings_and_inside_elements_do_not_end_an_element() {
        let text = " [ {\"a\":[1,2]} , \"x,]\\\"\\\\\" ,3] \n";
        for buffer_bytes in [1, 2, 7, 100] {
            assert_eq!(all(text, buffer_bytes).expect("an array"), ["{\"a\":[1,2]}", "\"x,]\\\"\\\\\"", "3"]);
        }
        for empty in ["[]", " [ ] "] {
            assert!(all(empty, 100).expect("an array").is_empty());
        }
    }

    #[test]
    fn input_that_is_not_an_array_is_bad_data() {
        for bad in ["", " ", "{}", "[", "[1", "[1,", "[1,]", "[,1]", "[1,,2]", "[1] x", "[1]]", "[\"x]"] {
            assert!(matches!(all(bad, 100), Err(Failure::Data(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_form_feed_is_an_element_as_in_the_splitter() {
        assert_eq!(all("[1,\u{c},2]", 100).expect("an array").len(), 3);
    }

    #[test]
    fn an_element_that_is_too_large_is_skipped_and_the_next_is_read() {
        let text = format!("[\"{}\",2]", "x".repeat(RECORD_BYTES_MAX));
        assert_eq!(all(&text, 64 * 1024).expect("an array"), ["too large", "2"]);
    }

    proptest! {
        #[test]
        fn elements_are_the_same_as_those_of_serde_json(
            values in prop::collection::vec(prop_oneof![
                any::<i64>().prop_map(serde_json::Value::from),
                ".{0,12}".prop_map(serde_json::Value::from),
                prop::collection::vec(".{0,4}", 0..3).prop_map(serde_json::Value::from),
            ], 0..8),
            buffer_bytes in 1_usize..40,
        ) {
            let text = serde_json::to_string_pretty(&values).expect("json");
            let found: Vec<serde_json::Value> = all(&text, buffer_bytes)
                .expect("an array")
                .iter()
                .map(|element| serde_json::from_str(element).expect("an element is a value"))
                .collect();
            prop_assert_eq!(found, values);
        }
    }
}
