//! Turns a manifest into work units: what an app is given at a time, and the header that describes it.

use mysimbdp_model::app::{Phase, UnitHeader, UnitKind};
use mysimbdp_model::column::Column;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_model::outcome::Outcome;
use mysimbdp_store::CHUNK_BYTES;

/// Length of a range if the client has no block size.
const RANGE_BYTES: u64 = 8 << 20;

/// Before a range is fed, the micro-batches that it overlaps are verified as a whole. A range has at least one part in
/// this many of the largest micro-batch, before it is rounded down to whole chunks, so a byte is verified some 32 times
/// at most.
const RANGES_PER_MICRO_BATCH: u64 = 16;

/// A part of an ingestion that an app processes at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkUnit {
    pub index: u32,
    /// The number of units of the ingestion.
    pub count: u32,
    pub first_record: u64,
    pub records: u64,
    pub input: Input,
}

/// What an app is fed for a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The prefix and this micro-batch.
    MicroBatch(usize),
    /// The whole file, byte for byte.
    File,
    /// A raw range of the file.
    Range { offset: u64, length: u64 },
    /// Nothing: the app commits what it stored for the ranges.
    Join,
}

impl WorkUnit {
    /// Returns the units of an ingestion, in file order. `block_bytes` is the client's block size.
    pub fn all(manifest: &Manifest, kind: UnitKind, block_bytes: Option<u64>) -> Vec<Self> {
        let inputs: Vec<Input> = match kind {
            UnitKind::MicroBatch => (0..manifest.micro_batches.len()).map(Input::MicroBatch).collect(),
            UnitKind::File => vec![Input::File],
            UnitKind::Range => {
                let step = range_bytes(manifest, block_bytes);
                let offsets = (0..manifest.bytes.div_ceil(step)).map(|number| number * step);
                let range = |offset| Input::Range { offset, length: step.min(manifest.bytes - offset) };
                offsets.map(range).chain([Input::Join]).collect()
            }
        };
        let count = inputs.len() as u32;
        let unit = |(index, input)| {
            let (first_record, records) = match input {
                Input::MicroBatch(batch) => {
                    (manifest.micro_batches[batch].first_record, manifest.micro_batches[batch].records)
                }
                Input::File | Input::Join => (0, manifest.records),
                // Which records are in it is not known; the join counts all of them.
                Input::Range { .. } => (0, 0),
            };
            Self { index, count, first_record, records, input }
        };
        (0..).zip(inputs).map(unit).collect()
    }

    /// Whether this outcome belongs to this unit: the config may have changed since it was written.
    pub fn is_done_by(&self, outcome: &Outcome, manifest: &Manifest) -> bool {
        outcome.index == self.index
            && outcome.counts.received == self.records
            && outcome.counts.balances()
            && outcome.bytes == self.bytes(manifest)
    }

    /// Returns how many bytes of the file the unit covers, without the prefix.
    pub fn bytes(&self, manifest: &Manifest) -> u64 {
        match self.input {
            Input::MicroBatch(batch) => manifest.micro_batches[batch].length,
            Input::File => manifest.bytes,
            Input::Range { length, .. } => length,
            Input::Join => 0,
        }
    }

    /// Returns the header that the app gets; `length` is the number of bytes that it will be fed.
    pub fn header(&self, manifest: &Manifest, encoding: &str, attempt: u32, length: u64) -> UnitHeader {
        UnitHeader {
            client_id: manifest.client.to_string(),
            ingestion: manifest.ingestion.to_string(),
            file: manifest.file.clone(),
            format: manifest.format,
            encoding: encoding.to_owned(),
            batch_index: self.index,
            batch_count: self.count,
            first_record: self.first_record,
            records: self.records,
            offset: match self.input {
                Input::MicroBatch(batch) => manifest.micro_batches[batch].offset,
                Input::Range { offset, .. } => offset,
                Input::File | Input::Join => 0,
            },
            length,
            file_bytes: manifest.bytes,
            received_at: manifest.received_at,
            attempt,
            phase: if self.input == Input::Join { Phase::Join } else { Phase::Ingest },
            columns: Column::values_of(&manifest.columns),
            replace: manifest.replace.then_some(manifest.staged_at),
        }
    }
}

/// Returns the length of a range, a multiple of the chunk size, so that no two units write the same chunk.
fn range_bytes(manifest: &Manifest, block_bytes: Option<u64>) -> u64 {
    let largest = manifest.micro_batches.iter().map(|batch| batch.length).max().unwrap_or(0);
    let desired = block_bytes.unwrap_or(RANGE_BYTES).max(largest / RANGES_PER_MICRO_BATCH);
    let chunk = u64::from(CHUNK_BYTES);
    (desired / chunk).max(1) * chunk
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::manifest;

    #[test]
    fn each_micro_batch_is_a_unit_with_its_own_records() {
        let manifest = manifest(&[(100, 4), (50, 2)]);
        let units = WorkUnit::all(&manifest, UnitKind::MicroBatch, None);
        assert_eq!(units.len(), 2);
        let header = units[1].header(&manifest, "utf-8", 3, 60);
        assert_eq!(
            (header.first_record, header.records, header.offset),
            (4, 2, manifest.prefix.length + 100)
        );
        assert_eq!((header.batch_index, header.batch_count, header.length, header.attempt), (1, 2, 60, 3));
        assert_eq!((header.phase, header.file_bytes), (Phase::Ingest, manifest.bytes));
    }

    #[test]
    fn a_file_is_one_unit_and_an_empty_one_has_no_micro_batches() {
        let manifest = manifest(&[(100, 4), (50, 2)]);
        let units = WorkUnit::all(&manifest, UnitKind::File, None);
        assert_eq!(units.len(), 1);
        assert_eq!((units[0].records, units[0].bytes(&manifest)), (6, manifest.bytes));
        assert_eq!(WorkUnit::all(&crate::testing::manifest(&[]), UnitKind::MicroBatch, None), []);
    }

    #[test]
    fn an_outcome_of_other_settings_belongs_to_no_unit() {
        let manifest = manifest(&[(100, 4), (50, 2)]);
        let batch = WorkUnit::all(&manifest, UnitKind::MicroBatch, None).remove(0);
        let file = WorkUnit::all(&manifest, UnitKind::File, None).remove(0);
        let outcome = crate::testing::outcome(&batch, &manifest);
        assert!(batch.is_done_by(&outcome, &manifest));
        assert!(!file.is_done_by(&outcome, &manifest));
        let invalid =
            Outcome { counts: mysimbdp_model::outcome::Counts { stored: 9, ..outcome.counts }, ..outcome };
        assert!(!batch.is_done_by(&invalid, &manifest));
    }

    proptest! {
        #[test]
        fn ranges_cover_the_file_in_whole_chunks_and_the_join_counts_all_records(
            lengths in prop::collection::vec(0..40_000_000u64, 0..5),
            block in prop::option::of(1..20_000_000u64),
        ) {
            let batches: Vec<(u64, u64)> = lengths.into_iter().map(|length| (length, 1)).collect();
            let manifest = manifest(&batches);
            let mut units = WorkUnit::all(&manifest, UnitKind::Range, block);
            let join = units.pop().expect("there is always a join");
            prop_assert_eq!((join.input, join.records), (Input::Join, manifest.records));
            prop_assert_eq!(join.header(&manifest, "utf-8", 1, 0).phase, Phase::Join);
            let mut covered = 0;
            for unit in units {
                let Input::Range { offset, length } = unit.input else { panic!("{unit:?}") };
                prop_assert!(offset == covered && offset % u64::from(CHUNK_BYTES) == 0 && length > 0);
                covered += length;
            }
            prop_assert_eq!(covered, manifest.bytes);
        }
    }
}
