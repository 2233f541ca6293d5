//! Compares reports with counts. Pure.

use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_store::Extent;

/// All runs of one ingestion, the oldest first, and what was counted of it.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) runs: Vec<Run>,
    pub(super) counted: Counted,
    /// Documents in `rejected` whose `_id` belongs to one of the ingestion's records.
    pub(super) rejects: u64,
    /// The last run, if it is held but is neither in `held/` nor in `staging/`.
    pub(super) vanished: Option<String>,
    /// What a run after the latest ingested one may have changed.
    pub(super) later: Later,
}

/// Whether a run began after the latest ingested one, and what it may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Later {
    None,
    /// A held or staged run: it may have stored records that the latest one rejected.
    Adds,
    /// A staged run that replaces: it may also have removed documents.
    Replaces,
}

/// What was counted in coredms, depending on the app's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// Documents under the ids of the ingestion's records, whatever their numbers.
    Platform(u64),
    /// Likewise, in a collection whose documents expire.
    Unexpired(u64),
    /// Documents that this ingestion was the last to write.
    Key(u64),
    /// Likewise, in a collection whose documents expire: a missing document may have expired or been replaced under its
    /// key.
    UnexpiredKey(u64),
    Object {
        length: Option<u64>,
        extent: Extent,
    },
    /// The app chooses its own ids, so its documents cannot be counted.
    Unaudited,
    /// The config no longer has the app, so it is unknown where to count.
    NoApp,
    /// No run was ingested.
    NotIngested,
}

impl Content {
    /// The latest ingested run, whose documents must exist.
    pub(super) fn latest(&self) -> Option<&Run> {
        self.runs.iter().rfind(|run| run.state == FinalState::Ingested)
    }

    /// The number of documents or objects that were found; `None` if they cannot be counted.
    pub(super) fn in_coredms(&self) -> Option<u64> {
        match self.counted {
            Counted::Platform(documents)
            | Counted::Unexpired(documents)
            | Counted::Key(documents)
            | Counted::UnexpiredKey(documents) => Some(documents),
            Counted::Object { length, .. } => Some(u64::from(length.is_some())),
            Counted::Unaudited | Counted::NoApp | Counted::NotIngested => None,
        }
    }

    /// The number of records that are missing and count as expired, because documents of their collection expire.
    pub(super) fn expired(&self) -> u64 {
        match (self.counted, self.latest()) {
            (Counted::Unexpired(documents), Some(run)) => {
                whole(run.received - run.rejected).saturating_sub(documents)
            }
            (Counted::UnexpiredKey(documents), Some(run)) => whole(run.stored).saturating_sub(documents),
            _ => 0,
        }
    }

    /// The number of records that are no longer stored because newer ones have the same keys.
    pub(super) fn superseded(&self) -> u64 {
        match (self.counted, self.latest()) {
            (Counted::Key(documents), Some(run)) => whole(run.stored).saturating_sub(documents),
            _ => 0,
        }
    }

    /// All differences.
    pub(super) fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        for run in &self.runs {
            let sum = run.stored + run.duplicates + run.rejected;
            if run.state == FinalState::Ingested && sum != run.received {
                let (received, Run { stored, duplicates, rejected, .. }) = (run.received, run);
                differences.push(format!(
                    "history: received {received}, but stored {stored} + duplicates {duplicates} + rejected {rejected} = {sum}"
                ));
            }
        }
        differences.extend(self.vanished.iter().map(|run| {
            format!("the history lists run {run} as held, but it is in neither held/ nor staging/")
        }));
        if let Some(run) = self.latest() {
            differences.extend(self.of_store(run));
            differences.extend(self.of_rejects(run));
        }
        differences
    }

    fn of_store(&self, run: &Run) -> Option<String> {
        let expected = whole(run.received - run.rejected);
        match self.counted {
            Counted::Platform(_) | Counted::Unexpired(_) | Counted::Key(_) | Counted::UnexpiredKey(_)
                if self.later == Later::Replaces =>
            {
                None
            }
            Counted::Platform(documents) | Counted::Unexpired(documents)
                if self.later == Later::Adds && (expected..=whole(run.received)).contains(&documents) =>
            {
                None
            }
            Counted::Unexpired(documents) if documents <= expected => None,
            Counted::Platform(documents) | Counted::Unexpired(documents) if documents != expected => {
                Some(format!(
                    "coredms has {documents} documents of its records, expected {expected}{}",
                    deviation(documents, expected)
                ))
            }
            Counted::Key(documents) | Counted::UnexpiredKey(documents) => {
                // Each record is at most one document, whichever run stored it.
                let stored = match self.later {
                    Later::Adds => u64::MAX,
                    _ => self.runs_since_replacement().map(|run| whole(run.stored)).sum(),
                };
                let stored = stored.min(whole(run.received));
                (documents > stored).then(|| {
                    format!(
                        "coredms has {documents} documents that it wrote, expected at most {stored}{}",
                        deviation(documents, stored)
                    )
                })
            }
            Counted::Object { length, extent } => of_object(run, length, extent),
            Counted::NoApp => {
                Some(format!("cannot be counted: this client has no app {:?} in the config", run.app))
            }
            Counted::Platform(_) | Counted::Unexpired(_) | Counted::Unaudited | Counted::NotIngested => None,
        }
    }

    /// The runs whose documents may exist: an ingested run that replaces removes the documents of all earlier runs.
    fn runs_since_replacement(&self) -> impl Iterator<Item = &Run> {
        let replaces = |run: &Run| run.replace && run.state == FinalState::Ingested;
        let first = self.runs.iter().rposition(replaces).unwrap_or(0);
        self.runs.iter().skip(first)
    }

    /// Each run may have rejected other records, and a record that is listed stays listed until a run replaces it.
    fn of_rejects(&self, run: &Run) -> Option<String> {
        let least = whole(run.rejected);
        let most = self
            .runs_since_replacement()
            .map(|run| whole(run.rejected))
            .sum::<u64>()
            .min(whole(run.received))
            .max(least);
        if self.later == Later::Replaces || (least..=most).contains(&self.rejects) {
            return None;
        }
        let expected = if self.rejects < least { least } else { most };
        Some(format!(
            "{} records are listed as rejected, expected {expected}{}",
            self.rejects,
            deviation(self.rejects, expected)
        ))
    }
}

fn of_object(run: &Run, length: Option<u64>, extent: Extent) -> Option<String> {
    let bytes = whole(run.bytes.try_into().unwrap_or(i64::MAX));
    if run.received > 0 && run.stored + run.duplicates == 0 {
        return length.map(|_| "all of it was rejected, but coredms has the object".to_owned());
    }
    match length {
        None => Some(format!("coredms has no object, expected one of {bytes} bytes")),
        Some(length) if length != bytes => {
            Some(format!("coredms has an object of {length} bytes, expected {bytes}"))
        }
        Some(_) => {
            let expected = Extent::of(bytes);
            (extent != expected).then(|| {
                let Extent { chunks, bytes: found } = extent;
                format!(
                    "its object has {chunks} chunks of {found} bytes, expected {} of {bytes}",
                    expected.chunks
                )
            })
        }
    }
}

/// What was counted of one epoch of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// All numbers from 1 to this one are received.
    pub(super) through: u64,
    /// How many numbers after that are received too.
    pub(super) beyond: u64,
    /// How many numbers up to `through` are stored, rejected or lost; `None` if that cannot be counted.
    pub(super) accounted: Option<u64>,
    /// How many numbers after `through` are stored, rejected or lost; `None` if that cannot be counted.
    pub(super) accounted_beyond: Option<u64>,
    /// How many numbers never arrived and are no longer at the source.
    pub(super) lost: u64,
}

impl Numbers {
    /// How many numbers are stored or rejected but not marked as received: they may still be in flight while instances
    /// run.
    pub(super) fn unmarked(&self) -> u64 {
        self.accounted_beyond.map_or(0, |accounted| accounted.saturating_sub(self.beyond))
    }

    /// All differences. The caller has already waited for unmarked numbers to be marked.
    pub(super) fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.lost > 0 {
            differences.push(format!("{} numbers are lost: the source no longer has them", self.lost));
        }
        let missing =
            |received: u64, accounted: Option<u64>| received.saturating_sub(accounted.unwrap_or(received));
        let missing = missing(self.through, self.accounted) + missing(self.beyond, self.accounted_beyond);
        if missing > 0 {
            differences.push(format!(
                "{missing} numbers were received but are neither stored nor rejected nor lost"
            ));
        }
        if self.unmarked() > 0 {
            differences.push(format!(
                "{} numbers are stored or rejected but not marked as received",
                self.unmarked()
            ));
        }
        differences
    }
}

/// Counts in the history are never negative, unless somebody has edited it.
fn whole(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn deviation(is: u64, expected: u64) -> String {
    if is < expected {
        format!(" ({} missing)", expected - is)
    } else {
        format!(" ({} too many)", is - expected)
    }
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::manifest::Lane;
    use mysimbdp_store::CHUNK_BYTES;

    use super::*;

    const CHUNK: u64 = CHUNK_BYTES as u64;

    fn run(state: FinalState, received: i64, stored: i64, duplicates: i64, rejected: i64) -> Run {
        let date = bson::DateTime::from_millis(0);
        Run {
            id: "a-1".to_owned(),
            ingestion: "a".to_owned(),
            client: "client1".to_owned(),
            app: "app".to_owned(),
            lane: Lane::Live,
            file: "a.csv".to_owned(),
            bytes: CHUNK + 5,
            blake3: String::new(),
            micro_batches: 1,
            received,
            stored,
            duplicates,
            rejected,
            audited: true,
            state,
            received_at: date,
            staged_at: date,
            finished_at: date,
            seconds: 0.0,
            columns: Vec::new(),
            replace: false,
            collection: None,
            ids: None,
            reasons: Vec::new(),
            codes: Vec::new(),
        }
    }

    fn ingested(received: i64, stored: i64, duplicates: i64, rejected: i64) -> Run {
        run(FinalState::Ingested, received, stored, duplicates, rejected)
    }

    fn content(runs: Vec<Run>, counted: Counted, rejects: u64) -> Content {
        Content { runs, counted, rejects, vanished: None, later: Later::None }
    }

    fn object(length: Option<u64>, chunks: u64, bytes: u64) -> Counted {
        Counted::Object { length, extent: Extent { chunks, bytes } }
    }

    #[test]
    fn correct_contents_have_no_differences() {
        let bytes = CHUNK + 5;
        for content in [
            content(vec![ingested(10, 7, 1, 2)], Counted::Platform(8), 2),
            // The first run rejected two records that the second one stored.
            content(vec![ingested(10, 8, 0, 2), ingested(10, 2, 8, 0)], Counted::Platform(10), 2),
            content(
                vec![run(FinalState::Held, 10, 3, 0, 1), ingested(10, 10, 0, 0)],
                Counted::Platform(10),
                0,
            ),
            content(vec![ingested(10, 10, 0, 0)], Counted::Key(4), 0),
            content(vec![ingested(10, 7, 1, 2)], Counted::Unexpired(3), 2),
            content(vec![ingested(10, 7, 1, 2)], Counted::UnexpiredKey(3), 2),
            content(vec![ingested(10, 6, 0, 4), ingested(10, 4, 6, 0)], Counted::Key(10), 4),
            content(vec![ingested(1, 1, 0, 0)], object(Some(bytes), 2, bytes), 0),
            content(vec![ingested(0, 0, 0, 0)], object(Some(bytes), 2, bytes), 0),
            content(vec![ingested(1, 0, 0, 1)], object(None, 0, 0), 1),
            content(vec![ingested(10, 10, 0, 0)], Counted::Unaudited, 0),
            content(vec![run(FinalState::Held, 0, 0, 0, 0)], Counted::NotIngested, 0),
        ] {
            assert_eq!(content.differences(), Vec::<String>::new(), "{content:?}");
        }
    }

    #[test]
    fn contents_that_a_later_run_may_change_have_no_differences() {
        let runs = || vec![ingested(10, 6, 0, 4)];
        let later = |later, counted, rejects| Content { later, ..content(runs(), counted, rejects) };
        assert_eq!(later(Later::Adds, Counted::Platform(9), 4).differences(), [""; 0]);
        assert_eq!(later(Later::Replaces, Counted::Platform(3), 1).differences(), [""; 0]);
        assert_eq!(later(Later::Replaces, Counted::Key(8), 4).differences(), [""; 0]);
        assert_eq!(later(Later::Adds, Counted::Key(10), 4).differences(), [""; 0]);
        for counted in [Counted::Platform(5), Counted::Platform(11), Counted::Key(11)] {
            assert_eq!(later(Later::Adds, counted, 4).differences().len(), 1, "{counted:?}");
        }
    }

    #[test]
    fn no_document_is_left_of_a_run_that_was_replaced() {
        let replaced = || vec![ingested(10, 8, 0, 2), Run { replace: true, ..ingested(10, 7, 0, 3) }];
        assert_eq!(content(replaced(), Counted::Platform(7), 3).differences(), [""; 0]);
        assert_eq!(content(replaced(), Counted::Key(7), 3).differences(), [""; 0]);
        for (counted, rejects) in [
            (Counted::Platform(8), 3),
            (Counted::Platform(7), 5),
            (Counted::Platform(7), 2),
            (Counted::Key(8), 3),
        ] {
            assert_eq!(content(replaced(), counted, rejects).differences().len(), 1, "{counted:?} {rejects}");
        }
    }

    #[test]
    fn each_difference_is_named_with_both_numbers() {
        let bytes = CHUNK + 5;
        for (content, fragment) in [
            (
                content(vec![ingested(10, 10, 0, 0)], Counted::Platform(9), 0),
                "has 9 documents of its records, expected 10 (1 missing)",
            ),
            (content(vec![ingested(10, 10, 0, 0)], Counted::Platform(11), 0), "expected 10 (1 too many)"),
            (content(vec![ingested(10, 10, 0, 0)], Counted::Unexpired(11), 0), "expected 10 (1 too many)"),
            (
                content(vec![ingested(10, 8, 0, 2)], Counted::Platform(8), 1),
                "1 records are listed as rejected, expected 2 (1 missing)",
            ),
            (content(vec![ingested(10, 8, 0, 2)], Counted::Platform(8), 3), "expected 2 (1 too many)"),
            (content(vec![ingested(10, 8, 0, 1)], Counted::Platform(9), 1), "received 10, but stored 8"),
            (
                content(vec![ingested(10, 6, 4, 0)], Counted::Key(7), 0),
                "has 7 documents that it wrote, expected at most 6",
            ),
            (
                content(vec![ingested(1, 1, 0, 0)], object(None, 2, bytes), 0),
                "no object, expected one of 261125 bytes",
            ),
            (
                content(vec![ingested(1, 1, 0, 0)], object(Some(5), 2, bytes), 0),
                "an object of 5 bytes, expected 261125",
            ),
            (
                content(vec![ingested(1, 1, 0, 0)], object(Some(bytes), 1, 5), 0),
                "1 chunks of 5 bytes, expected 2 of 261125",
            ),
            (content(vec![ingested(1, 0, 0, 1)], object(Some(bytes), 2, bytes), 1), "all of it was rejected"),
            (content(vec![ingested(1, 1, 0, 0)], Counted::NoApp, 0), "no app \"app\""),
            (
                Content {
                    vanished: Some("a-1".to_owned()),
                    ..content(vec![run(FinalState::Held, 1, 0, 0, 0)], Counted::NotIngested, 0)
                },
                "run a-1 as held, but",
            ),
        ] {
            let differences = content.differences();
            assert!(
                differences.len() == 1 && differences[0].contains(fragment),
                "{differences:?}: {fragment}"
            );
        }
    }

    #[test]
    fn documents_that_newer_ones_replaced_are_superseded() {
        assert_eq!(content(vec![ingested(10, 9, 1, 0)], Counted::Key(4), 0).superseded(), 5);
        assert_eq!(content(vec![ingested(10, 9, 1, 0)], Counted::Platform(10), 0).superseded(), 0);
    }

    #[test]
    fn missing_documents_of_a_collection_that_expires_count_as_expired() {
        assert_eq!(content(vec![ingested(10, 7, 1, 2)], Counted::Unexpired(3), 2).expired(), 5);
        assert_eq!(content(vec![ingested(10, 7, 1, 2)], Counted::Platform(3), 2).expired(), 0);
        let keyed = content(vec![ingested(10, 7, 1, 2)], Counted::UnexpiredKey(3), 2);
        assert_eq!((keyed.expired(), keyed.superseded()), (4, 0));
        let too_many = content(vec![ingested(10, 7, 1, 2)], Counted::UnexpiredKey(8), 2);
        assert_eq!(too_many.differences().len(), 1, "expiry never adds documents");
    }

    #[test]
    fn every_number_of_a_source_is_accounted_for() {
        let numbers = |through, beyond, accounted, accounted_beyond, lost| Numbers {
            through,
            beyond,
            accounted: Some(accounted),
            accounted_beyond: Some(accounted_beyond),
            lost,
        };
        for (numbers, fragments) in [
            (numbers(100, 0, 100, 0, 0), &[][..]),
            (numbers(100, 7, 100, 7, 0), &[]),
            (Numbers { through: 100, beyond: 3, ..Numbers::default() }, &[]),
            (numbers(100, 0, 100, 0, 2), &["2 numbers are lost"]),
            (numbers(100, 7, 99, 6, 0), &["2 numbers were received but"]),
            (numbers(100, 0, 100, 3, 0), &["3 numbers are stored or rejected but not marked"]),
            // A number in flight does not make up for a missing one.
            (numbers(100, 0, 99, 1, 0), &["1 numbers were received but", "1 numbers are stored"]),
        ] {
            let differences = numbers.differences();
            assert_eq!(differences.len(), fragments.len(), "{numbers:?}: {differences:?}");
            assert!(
                differences.iter().zip(fragments).all(|(text, fragment)| text.starts_with(fragment)),
                "{differences:?}"
            );
        }
    }
}
