//! A cache of long values: measured or converted data repeats the same values, and to read a decimal of sixteen
//! digits and write it again takes longer than everything else.

use super::number::{self, BOOL, Kinds, NUMBER_BYTES_MAX, WORD};

/// Some 10 KB, which stay in the first-level cache.
const ENTRIES: usize = 256;

/// Keeps the last one of the values that share an entry.
pub(super) struct ValueCache {
    entries: Box<[Entry; ENTRIES]>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    value: LongValue,
    kinds: Kinds,
}

/// Eight to twenty-four bytes: the first eight, the last eight, and those between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LongValue {
    words: [u64; 3],
    length: u8,
}

impl ValueCache {
    pub(super) fn new() -> Self {
        Self { entries: Box::new([Entry::default(); ENTRIES]) }
    }

    /// The kind of a value; no bit if it is text.
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
        let Some(long) = LongValue::of(value) else { return number::of_digits(value) };
        let entry = &mut self.entries[long.index()];
        if entry.value != long {
            *entry = Entry { value: long, kinds: number::of_digits(value) };
        }
        entry.kinds
    }
}

impl LongValue {
    fn of(value: &[u8]) -> Option<Self> {
        let word = |bytes: &[u8; WORD]| u64::from_le_bytes(*bytes);
        let (first, last) = (value.first_chunk().map(word)?, value.last_chunk().map(word)?);
        let middle = value.get(WORD..2 * WORD).and_then(<[u8]>::first_chunk).map_or(0, word);
        let is_whole = value.len() <= 3 * WORD;
        is_whole.then_some(Self { words: [first, middle, last], length: value.len() as u8 })
    }

    fn index(&self) -> usize {
        // An odd number without a pattern: each bit of the words changes all bits above it, and the rotation brings
        // those down.
        let mix = |mixed: u64, word: &u64| (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        self.words.iter().fold(0, mix) as usize % ENTRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_mistaken_for_another_one() {
        let values = [
            "12345678",
            "123456789",
            "123456780",
            "1234567812345678",
            "12345678912345678",
            "12345678x12345678",
        ];
        let long = values.map(|value| LongValue::of(value.as_bytes()).expect("long enough"));
        for (at, one) in long.iter().enumerate() {
            assert_eq!(long.iter().position(|other| other == one), Some(at), "{one:?}");
        }
        assert_eq!((LongValue::of(b"1234567"), LongValue::of(b"1234567890123456789012345")), (None, None));
    }
}
