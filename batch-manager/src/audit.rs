//! Counts in coredms what an app reports as stored, before the report is believed.
//!
//! 1. [`count`] counts, depending on the kind of the ids;
//! 2. [`compare`] is pure: the reported and the counted numbers must be the same.
//!
//! Keys are counted while the app lists them, by [`crate::run::KeyCheck`].

use mysimbdp_model::app::Ids;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_model::outcome::Counts;
use mysimbdp_store::{Coredms, CoredmsError, Extent, object_length};

use crate::observe::Work;
use crate::replace;
use crate::run::{AppReport, Keys};
use crate::unit::{Input, WorkUnit};

/// What coredms has of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Documents whose `_id` is that of one of the unit's records.
    Records(u64),
    /// The same, in a collection whose documents expire.
    Unexpired(u64),
    /// The result of looking up the keys that the app has listed.
    Keys(Keys),
    /// The length in the object's own document, if it has one, and the chunks stored under its id.
    Object { bytes: u64, length: Option<u64>, extent: Extent },
    /// The chunks in the unit's range of an object. Their bytes are counted with the whole object, at its join.
    Range { bytes: u64, chunks: u64 },
    /// The app uses ids of its own, which cannot be counted.
    Unknown,
}

/// Counts what coredms has of the unit.
pub(crate) async fn count(
    store: &dyn Coredms,
    work: &Work,
    unit: &WorkUnit,
    AppReport { keys, rejected, .. }: &AppReport,
) -> Result<Counted, CoredmsError> {
    let (manifest, collection) = (&work.manifest, &work.app().collection);
    match (work.app().settings.ids, unit.input) {
        (Ids::Platform, _) => {
            let mut records = records(store, collection, manifest, unit).await?;
            if manifest.replace {
                // Records of earlier runs are removed once it is known that the file is not held.
                records -= records.min(replace::count_stale(store, collection, manifest, rejected).await?);
            }
            Ok(if work.client().expires(collection) {
                Counted::Unexpired(records)
            } else {
                Counted::Records(records)
            })
        }
        (Ids::Key, _) if work.client().expires(collection) => {
            Ok(Counted::Keys(Keys { missing: None, ..keys.clone() }))
        }
        (Ids::Key, _) => Ok(Counted::Keys(keys.clone())),
        (Ids::None, _) => Ok(Counted::Unknown),
        (Ids::Object, Input::Range { offset, length }) => {
            let chunks = store.chunks(collection, manifest.ingestion, offset..offset + length).await?;
            Ok(Counted::Range { bytes: length, chunks })
        }
        (Ids::Object, Input::MicroBatch(_) | Input::File | Input::Join) => {
            let length = object_length(store, collection, manifest.ingestion).await?;
            let extent = store.extent(collection, manifest.ingestion, 0..u64::MAX).await?;
            Ok(Counted::Object { bytes: manifest.bytes, length, extent })
        }
    }
}

/// Returns how many of the unit's records are in coredms.
pub(crate) async fn records(
    store: &dyn Coredms,
    collection: &str,
    manifest: &Manifest,
    unit: &WorkUnit,
) -> Result<u64, CoredmsError> {
    let first = manifest.ingestion.record_id(unit.first_record);
    let end = manifest.ingestion.record_id(unit.first_record + unit.records);
    store.count_ids(collection, first, end).await
}

/// Returns whether the report was confirmed by a count, or how it differs from the count. Keys in a collection whose
/// documents expire count as confirmed even if some of them are missing there.
pub(crate) fn compare(reported: Counts, counted: &Counted) -> Result<bool, String> {
    let in_store = reported.stored + reported.duplicates;
    let says = || format!("says it stored {} and found {} duplicates", reported.stored, reported.duplicates);
    match counted {
        Counted::Unexpired(records) if *records <= in_store => Ok(*records == in_store),
        Counted::Records(records) | Counted::Unexpired(records) if *records != in_store => {
            Err(format!("{}, but coredms has {records} of the unit's records", says()))
        }
        Counted::Keys(Keys { listed, .. }) if *listed != in_store => {
            Err(format!("{}, but lists {listed} keys", says()))
        }
        Counted::Keys(Keys { not_replaced, .. }) if *not_replaced > 0 => Err(format!(
            "{}, but {not_replaced} of the documents under the keys that it lists are still those of an earlier run: \
             it does not write the run (MYSIMBDP_REPLACE) into _ingest",
            says()
        )),
        Counted::Keys(Keys { missing: Some(key), .. }) => {
            Err(format!("{}, but the key {key} that it lists is not in coredms", says()))
        }
        // A file without records is stored too.
        Counted::Object { length: None, extent: Extent { chunks: 0, .. }, .. }
            if in_store == 0 && reported.received > 0 =>
        {
            Ok(true)
        }
        Counted::Object { bytes, length, extent }
            if *length != Some(*bytes) || *extent != Extent::of(*bytes) =>
        {
            let length =
                length.map_or_else(|| "no object".to_owned(), |length| format!("one of {length} bytes"));
            let Extent { chunks, bytes: found } = extent;
            Err(format!(
                "{}, for an object of {bytes} bytes, but coredms has {length}, with {found} bytes in {chunks} chunks",
                says()
            ))
        }
        Counted::Range { bytes, chunks } if *chunks != Extent::of(*bytes).chunks => {
            let expected = Extent::of(*bytes).chunks;
            Err(format!(
                "says it stored a range of {bytes} bytes, but coredms has {chunks} of its {expected} chunks"
            ))
        }
        Counted::Records(_)
        | Counted::Unexpired(_)
        | Counted::Keys(_)
        | Counted::Object { .. }
        | Counted::Range { .. } => Ok(true),
        Counted::Unknown => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use mysimbdp_store::CHUNK_BYTES;

    use super::*;

    const CHUNK: u64 = CHUNK_BYTES as u64;

    fn reported(stored: u64, duplicates: u64, rejected: u64) -> Counts {
        Counts { received: stored + duplicates + rejected, stored, duplicates, rejected }
    }

    fn object(length: Option<u64>, chunks: u64, bytes: u64) -> Counted {
        Counted::Object { bytes: 2 * CHUNK + 1, length, extent: Extent { chunks, bytes } }
    }

    fn keys(listed: u64, missing: Option<&str>) -> Counted {
        Counted::Keys(Keys { listed, missing: missing.map(str::to_owned), not_replaced: 0 })
    }

    #[test]
    fn a_report_that_equals_the_count_is_believed() {
        let whole = 2 * CHUNK + 1;
        for (reported, counted) in [
            (reported(7, 2, 1), Counted::Records(9)),
            (reported(0, 0, 0), Counted::Records(0)),
            (reported(7, 2, 1), keys(9, None)),
            (reported(1, 0, 0), object(Some(whole), 3, whole)),
            (reported(0, 1, 0), object(Some(whole), 3, whole)),
            (reported(0, 0, 0), object(Some(whole), 3, whole)),
            (reported(0, 0, 5), object(None, 0, 0)),
            (reported(0, 0, 0), Counted::Range { bytes: CHUNK, chunks: 1 }),
            (reported(0, 0, 0), Counted::Object { bytes: 0, length: Some(0), extent: Extent::default() }),
        ] {
            assert_eq!(compare(reported, &counted), Ok(true), "{reported:?} {counted:?}");
        }
        assert_eq!(compare(reported(9, 0, 0), &Counted::Unknown), Ok(false));
        // Expired documents can no longer be counted, and there may be any number of them.
        assert_eq!(compare(reported(7, 2, 1), &Counted::Unexpired(9)), Ok(true));
        assert_eq!(compare(reported(7, 2, 1), &Counted::Unexpired(0)), Ok(false));
    }

    #[test]
    fn a_report_that_differs_from_the_count_is_not_believed_and_both_numbers_are_named() {
        let whole = 2 * CHUNK + 1;
        for (reported, counted, fragments) in [
            (reported(7, 2, 1), Counted::Records(8), ["stored 7 and found 2", "coredms has 8"]),
            (reported(7, 2, 1), Counted::Records(10), ["stored 7 and found 2", "coredms has 10"]),
            (reported(7, 2, 1), Counted::Unexpired(10), ["stored 7 and found 2", "coredms has 10"]),
            (reported(7, 2, 1), keys(8, None), ["stored 7 and found 2", "lists 8 keys"]),
            (reported(7, 2, 1), keys(10, None), ["stored 7 and found 2", "lists 10 keys"]),
            (reported(7, 2, 1), keys(9, Some("\"x\"")), ["stored 7", "the key \"x\" that it lists is not"]),
            (reported(1, 0, 0), object(None, 3, whole), ["stored 1", "no object, with 522241 bytes in 3"]),
            (reported(1, 0, 0), object(Some(whole), 2, whole - CHUNK), ["522241 bytes, but", "in 2 chunks"]),
            (reported(1, 0, 0), object(Some(5), 3, whole), ["522241 bytes, but", "one of 5 bytes"]),
            (reported(0, 0, 0), object(None, 0, 0), ["stored 0", "no object"]),
            (reported(0, 0, 5), object(Some(whole), 3, whole - 1), ["stored 0", "522240 bytes in 3 chunks"]),
            (
                reported(0, 0, 0),
                Counted::Range { bytes: 2 * CHUNK, chunks: 1 },
                ["a range of 522240 bytes", "coredms has 1 of its 2 chunks"],
            ),
        ] {
            let error = compare(reported, &counted).expect_err("not the same");
            assert!(fragments.iter().all(|fragment| error.contains(fragment)), "{error}");
        }
    }
}
