//! The encoding of an entry: `length (4) | checksum (8) | number (8) | length of the position (1) | position | payload`.
//!
//! Numbers are little-endian. The length is that of the bytes after the checksum; the checksum is the XXH3 of these bytes. No
//! I/O.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::message::Position;

/// Length and checksum.
const HEAD_BYTES: usize = 12;
/// The number and the length of the position.
const FIXED_BYTES: usize = 9;

/// The most bytes that an entry has in addition to its payload.
pub const OVERHEAD_BYTES_MAX: usize = HEAD_BYTES + FIXED_BYTES + Position::BYTES_MAX;

/// The largest payload. A greater length is invalid, so a damaged length does not cause a whole file to be read.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// A message with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub number: u64,
    pub position: Position,
    pub payload: Bytes,
}

/// What the bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole entry, and its length in bytes.
    Entry(Entry, usize),
    /// An incomplete entry; the length is the least that must be read to decode it.
    Short(usize),
    /// Not a valid entry.
    Damaged,
}

/// How many bytes [`encode`] appends.
pub fn encoded_bytes(position: &Position, payload: &[u8]) -> usize {
    HEAD_BYTES + FIXED_BYTES + position.as_bytes().len() + payload.len()
}

/// Appends an entry. Its payload has at most [`PAYLOAD_BYTES_MAX`] bytes.
pub fn encode(into: &mut Vec<u8>, number: u64, position: &Position, payload: &[u8]) {
    let length = encoded_bytes(position, payload) - HEAD_BYTES;
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX, "checked when the message was passed in");
    into.extend_from_slice(&(length as u32).to_le_bytes());
    let checksum_at = into.len();
    into.extend_from_slice(&[0; 8]);
    let body_at = into.len();
    into.extend_from_slice(&number.to_le_bytes());
    into.push(position.as_bytes().len() as u8);
    into.extend_from_slice(position.as_bytes());
    into.extend_from_slice(payload);
    let checksum = xxh3_64(&into[body_at..]);
    into[checksum_at..body_at].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads the entry that `bytes` begin with.
pub fn decode(bytes: &[u8]) -> Decoded {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Decoded::Short(HEAD_BYTES);
    };
    let ([l0, l1, l2, l3, checksum @ ..], mut sum) = (head, [0; 8]);
    let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
    if !(FIXED_BYTES..=PAYLOAD_BYTES_MAX + OVERHEAD_BYTES_MAX).contains(&length) {
        return Decoded::Damaged;
    }
    let Some(body) = rest.get(..length) else { return Decoded::Short(HEAD_BYTES + length) };
    sum.copy_from_slice(checksum);
    if xxh3_64(body) != u64::from_le_bytes(sum) {
        return Decoded::Damaged;
    }
    entry(body).map_or(Decoded::Damaged, |entry| Decoded::Entry(entry, HEAD_BYTES + length))
}

fn entry(body: &[u8]) -> Option<Entry> {
    let (number, rest) = body.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first()?;
    let (position, payload) = rest.split_at_checked(usize::from(*length))?;
    Some(Entry {
        number: u64::from_le_bytes(*number),
        position: Position::new(Bytes::copy_from_slice(position)).ok()?,
        payload: Bytes::copy_from_slice(payload),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = (
            any::<u64>(),
            prop::collection::vec(any::<u8>(), 0..40),
            prop::collection::vec(any::<u8>(), 0..200),
        );
        let entry = entry.prop_map(|(number, position, payload)| Entry {
            number,
            position: Position::new(position).expect("short"),
            payload: payload.into(),
        });
        prop::collection::vec(entry, 0..12)
    }

    fn encode_all(entries: &[Entry]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for entry in entries {
            encode(&mut bytes, entry.number, &entry.position, &entry.payload);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    /// Returns the whole entries at the beginning, and their length in bytes.
    fn decode_all(mut bytes: &[u8]) -> (Vec<Entry>, usize) {
        let (mut entries, mut read) = (Vec::new(), 0);
        while let Decoded::Entry(entry, length) = decode(bytes) {
            entries.push(entry);
            read += length;
            bytes = &bytes[length..];
        }
        (entries, read)
    }

    proptest! {
        #[test]
        fn entries_are_decoded_as_they_were_encoded(written in entries()) {
            let (bytes, _) = encode_all(&written);
            prop_assert_eq!(decode_all(&bytes), (written, bytes.len()));
        }

        #[test]
        fn a_torn_tail_gives_the_whole_entries_before_it(written in entries(), cut in any::<prop::sample::Index>()) {
            let (bytes, ends) = encode_all(&written);
            let cut = cut.index(bytes.len() + 1);
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            prop_assert_eq!(decode_all(&bytes[..cut]), (written[..whole].to_vec(), ends[whole]));
        }

        #[test]
        fn a_changed_bit_never_gives_another_entry(written in entries(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let (mut bytes, ends) = encode_all(&written);
            prop_assume!(!bytes.is_empty());
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            let before = ends.iter().filter(|end| **end <= at).count() - 1;
            prop_assert_eq!(decode_all(&bytes), (written[..before].to_vec(), ends[before]));
        }

        #[test]
        fn decoding_arbitrary_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_all(&bytes);
        }
    }
}
