//! The received numbers of a source as bits, a fixed number of them in one document.
//!
//! Bits can only be set, so the result is the same whoever sets them, how often, and in which order.

use bson::{Bson, Document};
use mysimbdp_model::ranges::Ranges;

/// Numbers in a block. A batch of consecutive numbers touches one or two blocks, and a block takes about 400 bytes.
pub const NUMBERS: u64 = WORDS as u64 * WORD_BITS;

const WORDS: usize = 16;
const WORD_BITS: u64 = 64;

/// The field that holds the bits: a document of words by position.
pub(super) const BITS: &str = "bits";

/// Which numbers of one block are received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block([u64; WORDS]);

/// Returns the block that a number is in.
pub(super) fn block_of(number: u64) -> u64 {
    number / NUMBERS
}

/// Splits ranges into the blocks that they touch.
pub(super) fn blocks(ranges: &Ranges) -> impl Iterator<Item = (u64, Block)> + '_ {
    let parts = ranges.iter().flat_map(|(first, last)| {
        (block_of(first)..=block_of(last)).map(move |block| {
            let start = block * NUMBERS;
            let from = first.max(start) - start;
            let to = last.min(start + (NUMBERS - 1)) - start;
            (block, from, to)
        })
    });
    let mut parts = parts.peekable();
    std::iter::from_fn(move || {
        let (number, from, to) = parts.next()?;
        let mut block = Block::default();
        block.set(from, to);
        while let Some((_, from, to)) = parts.next_if(|next| next.0 == number) {
            block.set(from, to);
        }
        Some((number, block))
    })
}

impl Block {
    fn set(&mut self, from: u64, to: u64) {
        for (position, word) in self.0.iter_mut().enumerate() {
            let start = position as u64 * WORD_BITS;
            if to < start || from >= start + WORD_BITS {
                continue;
            }
            let low = from.saturating_sub(start);
            let high = (to - start).min(WORD_BITS - 1);
            *word |= (u64::MAX >> (WORD_BITS - 1 - high)) & (u64::MAX << low);
        }
    }

    /// Returns the words in which a bit is set, with their positions.
    pub(super) fn words(&self) -> impl Iterator<Item = (u8, u64)> + '_ {
        self.0.iter().enumerate().filter(|(_, word)| **word != 0).map(|(at, word)| (at as u8, *word))
    }

    /// Reads the block in a document; values that are not words are ignored.
    pub(super) fn read(document: &Document) -> Self {
        let mut block = Self::default();
        for (name, value) in document.get_document(BITS).into_iter().flatten() {
            if let Ok(position) = name.parse::<usize>()
                && let Some(word) = block.0.get_mut(position)
            {
                *word = word_of(value);
            }
        }
        block
    }

    /// Adds the received numbers of block `number` to `ranges`.
    pub(super) fn add_to(&self, number: u64, ranges: &mut Ranges) {
        for (position, word) in self.words() {
            let start = number * NUMBERS + u64::from(position) * WORD_BITS;
            let mut remainder = word;
            let mut at = 0;
            while remainder != 0 {
                at += u64::from(remainder.trailing_zeros());
                remainder = word >> at;
                let ones = u64::from(remainder.trailing_ones());
                ranges.insert(start + at, start + (at + ones - 1));
                at += ones;
                remainder = if at < WORD_BITS { word >> at } else { 0 };
            }
        }
    }
}

/// Returns the bits of a stored word. The embedded store does not keep the width of integers.
pub(crate) fn word_of(value: &Bson) -> u64 {
    match value {
        Bson::Int64(word) => *word as u64,
        Bson::Int32(word) => i64::from(*word) as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(ranges: &Ranges) -> Ranges {
        let mut back = Ranges::default();
        for (number, block) in blocks(ranges) {
            let words = block.words().map(|(at, word)| (at.to_string(), Bson::Int64(word as i64)));
            let document = bson::doc! { BITS: words.collect::<Document>() };
            assert_eq!(Block::read(&document), block);
            Block::read(&document).add_to(number, &mut back);
        }
        back
    }

    proptest! {
        #[test]
        fn ranges_come_back_from_their_blocks(parts in proptest::collection::vec((0u64..5000, 0u64..1500), 0..12)) {
            let ranges: Ranges = parts.iter().map(|&(first, more)| (first, first + more)).collect();
            prop_assert_eq!(round_trip(&ranges), ranges);
        }
    }

    #[test]
    fn the_last_number_of_all_has_its_block() {
        let ranges: Ranges = [(u64::MAX - 70, u64::MAX), (1023, 1024)].into_iter().collect();
        assert_eq!(round_trip(&ranges), ranges);
        assert_eq!(blocks(&ranges).map(|(number, _)| number).collect::<Vec<_>>(), [0, 1, u64::MAX / NUMBERS]);
    }
}
