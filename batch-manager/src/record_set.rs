//! A set of a file's records: one bit each, in words that are kept only if they have a bit set.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of record numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordSet {
    /// 64 records each, by the number of the first divided by 64.
    words: BTreeMap<u64, u64>,
}

/// A range of record numbers, and all records of the set in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordPage {
    pub(crate) range: Range<u64>,
    pub(crate) records: Vec<u64>,
}

impl RecordSet {
    /// Returns false if the set has the record already.
    pub(crate) fn insert(&mut self, record: u64) -> bool {
        let (word, bit) = (self.words.entry(record / 64).or_default(), 1 << (record % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Returns the records in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let of_word = |(word, bits): (&u64, &u64)| {
            let (first, bits) = (word * 64, *bits);
            (0..64).filter(move |bit| bits & (1 << bit) != 0).map(move |bit| first + bit)
        };
        self.words.iter().flat_map(of_word)
    }

    /// Returns the records of `within` in pages of at most `records_max`; the ranges of the pages cover `within`.
    pub(crate) fn pages(&self, within: Range<u64>, records_max: usize) -> Vec<RecordPage> {
        let mut pages = vec![RecordPage { range: within.clone(), records: Vec::new() }];
        for record in self.iter().filter(|record| within.contains(record)) {
            let Some(page) = pages.last_mut() else { break };
            if page.records.len() < records_max {
                page.records.push(record);
                continue;
            }
            page.range.end = record;
            pages.push(RecordPage { range: record..within.end, records: vec![record] });
        }
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_each_inserted_record_once_and_in_order() {
        let mut set = RecordSet::default();
        for (record, is_new) in [(64, true), (0, true), (64, false), (1 << 40, true), (63, true)] {
            assert_eq!(set.insert(record), is_new, "{record}");
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 1 << 40]);
    }

    #[test]
    fn pages_cover_the_range_and_hold_each_of_its_records() {
        let mut set = RecordSet::default();
        assert!([5, 7, 11, 13, 900].into_iter().all(|record| set.insert(record)));
        let page = |range, records: &[u64]| RecordPage { range, records: records.to_vec() };
        assert_eq!(set.pages(6..20, 2), [page(6..13, &[7, 11]), page(13..20, &[13])]);
        assert_eq!(set.pages(20..30, 2), [page(20..30, &[])]);
    }
}
