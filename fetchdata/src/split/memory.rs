//! Long values that were looked at: what is measured or converted has the same ones time and again, and to read a decimal of
//! sixteen digits and write it again takes longer than all else.

use super::number::{self, BOOL, Kinds, NUMBER_BYTES_MAX, WORD};

/// Some 10 KB, which stay in the first-level cache.
const PLACES: usize = 256;

/// Of the values that share a place, the last one.
pub(super) struct Memory {
    places: Box<[Known; PLACES]>,
}

#[derive(Clone, Copy, Default)]
struct Known {
    value: Long,
    kinds: Kinds,
}

/// Eight to twenty-four bytes: the first eight, the last eight, and what may lie between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Long {
    words: [u64; 3],
    length: u8,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { places: Box::new([Known::default(); PLACES]) }
    }

    /// What a value is; no bit if it is text.
    #[inline]
    pub(super) fn kinds(&mut self, value: &[u8]) -> Kinds {
        match value {
            [b'-' | b'0'..=b'9', ..] if value.len() < WORD => number::of_digits(value),
            [b'-' | b'0'..=b'9', ..] if value.len() <= NUMBER_BYTES_MAX => self.of_digits(value),
            b"true" | b"false" => BOOL,
            _ => 0,
        }
    }

    /// As [`number::of_digits`].
    fn of_digits(&mut self, value: &[u8]) -> Kinds {
        let Some(long) = Long::of(value) else { return number::of_digits(value) };
        let place = &mut self.places[long.place()];
        if place.value != long {
            *place = Known { value: long, kinds: number::of_digits(value) };
        }
        place.kinds
    }
}

impl Long {
    fn of(value: &[u8]) -> Option<Self> {
        let word = |bytes: &[u8; WORD]| u64::from_le_bytes(*bytes);
        let (first, last) = (value.first_chunk().map(word)?, value.last_chunk().map(word)?);
        let middle = value.get(WORD..2 * WORD).and_then(<[u8]>::first_chunk).map_or(0, word);
        let is_whole = value.len() <= 3 * WORD;
        is_whole.then_some(Self { words: [first, middle, last], length: value.len() as u8 })
    }

    fn place(&self) -> usize {
        // An odd number without a pattern: each bit of the words moves all bits above it, and those come down.
        let mix = |mixed: u64, word: &u64| (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        self.words.iter().fold(0, mix) as usize % PLACES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_taken_for_another_one() {
        let values = [
            "12345678",
            "123456789",
            "123456780",
            "1234567812345678",
            "12345678912345678",
            "12345678x12345678",
        ];
        let long = values.map(|value| Long::of(value.as_bytes()).expect("long enough"));
        for (at, one) in long.iter().enumerate() {
            assert_eq!(long.iter().position(|other| other == one), Some(at), "{one:?}");
        }
        assert_eq!((Long::of(b"1234567"), Long::of(b"1234567890123456789012345")), (None, None));
    }
}
