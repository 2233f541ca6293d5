//! What differs between what was said and what was counted. Pure.

use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_store::Extent;

/// All runs of one content, the oldest first, and what was counted of it.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) runs: Vec<Run>,
    pub(super) counted: Counted,
    /// Documents in `rejected` whose `_id` is one of the content's records.
    pub(super) rejects: u64,
    /// The last run, if it is held and lies neither in `held/` nor in `staging/`.
    pub(super) vanished: Option<String>,
    /// What a run after the latest one may have changed.
    pub(super) later: Later,
}

/// A run that has begun after the latest one of a content that was ingested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Later {
    None,
    /// It may have stored what the latest one had rejected: one that is held, or staged.
    Adds,
    /// It is staged, and replaces: it may have removed something, too.
    Replaces,
}

/// What there is in coredms, by the app's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// Documents under the ids of the content's records, whatever their number.
    Platform(u64),
    /// Likewise, in a collection whose documents expire.
    Unexpired(u64),
    /// Documents that this content was the last to write.
    Key(u64),
    /// Likewise, in a collection whose documents expire: whether those that are missing have done that, or newer ones have their
    /// keys, is not known.
    UnexpiredKey(u64),
    Object {
        length: Option<u64>,
        extent: Extent,
    },
    /// The app has ids of its own.
    Unaudited,
    /// The config no longer names the app, so nobody knows where to count.
    NoApp,
    /// Nothing of it has been ingested.
    NotIngested,
}

impl Content {
    /// The run whose documents must be there.
    pub(super) fn latest(&self) -> Option<&Run> {
        self.runs.iter().rfind(|run| run.state == FinalState::Ingested)
    }

    /// Documents, or objects, that are there; `None` where they cannot be counted.
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

    /// Records that are no longer there because their time had come.
    pub(super) fn expired(&self) -> u64 {
        match (self.counted, self.latest()) {
            (Counted::Unexpired(documents), Some(run)) => {
                whole(run.received - run.rejected).saturating_sub(documents)
            }
            (Counted::UnexpiredKey(documents), Some(run)) => whole(run.stored).saturating_sub(documents),
            _ => 0,
        }
    }

    /// Records that are no longer there because newer ones have the same keys.
    pub(super) fn superseded(&self) -> u64 {
        match (self.counted, self.latest()) {
            (Counted::Key(documents), Some(run)) => whole(run.stored).saturating_sub(documents),
            _ => 0,
        }
    }

    /// All that is not as it must be.
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
            format!("history says that run {run} is held, but it lies neither in held/ nor in staging/")
        }));
        if let Some(run) = self.latest() {
            differences.extend(self.of_store(run));
            differences.extend(self.of_rejects(run));
        }
        differences
    }

    fn of_store(&self, run: &Run) -> Option<String> {
        let there = whole(run.received - run.rejected);
        match self.counted {
            Counted::Platform(_) | Counted::Unexpired(_) | Counted::Key(_) | Counted::UnexpiredKey(_)
                if self.later == Later::Replaces =>
            {
                None
            }
            Counted::Platform(documents) | Counted::Unexpired(documents)
                if self.later == Later::Adds && (there..=whole(run.received)).contains(&documents) =>
            {
                None
            }
            Counted::Unexpired(documents) if documents <= there => None,
            Counted::Platform(documents) | Counted::Unexpired(documents) if documents != there => {
                Some(format!(
                    "coredms has {documents} documents of its records, must be {there}{}",
                    by(documents, there)
                ))
            }
            Counted::Key(documents) | Counted::UnexpiredKey(documents) => {
                // A record is at most one document, whichever run has stored it.
                let stored = match self.later {
                    Later::Adds => u64::MAX,
                    _ => self.in_force().map(|run| whole(run.stored)).sum(),
                };
                let stored = stored.min(whole(run.received));
                (documents > stored).then(|| {
                    format!(
                        "coredms has {documents} documents that it wrote, must be at most {stored}{}",
                        by(documents, stored)
                    )
                })
            }
            Counted::Object { length, extent } => of_object(run, length, extent),
            Counted::NoApp => {
                Some(format!("cannot be counted: the config has no app {:?} of this client", run.app))
            }
            Counted::Platform(_) | Counted::Unexpired(_) | Counted::Unaudited | Counted::NotIngested => None,
        }
    }

    /// The runs whose documents may be there: nothing is left of those before the last one that replaces.
    fn in_force(&self) -> impl Iterator<Item = &Run> {
        let replaces = |run: &Run| run.replace && run.state == FinalState::Ingested;
        let first = self.runs.iter().rposition(replaces).unwrap_or(0);
        self.runs.iter().skip(first)
    }

    /// Of several runs each may have rejected other records, and what was listed once stays listed until a run replaces it.
    fn of_rejects(&self, run: &Run) -> Option<String> {
        let least = whole(run.rejected);
        let most =
            self.in_force().map(|run| whole(run.rejected)).sum::<u64>().min(whole(run.received)).max(least);
        if self.later == Later::Replaces || (least..=most).contains(&self.rejects) {
            return None;
        }
        let must_be = if self.rejects < least { least } else { most };
        Some(format!(
            "{} records are listed as rejected, must be {must_be}{}",
            self.rejects,
            by(self.rejects, must_be)
        ))
    }
}

fn of_object(run: &Run, length: Option<u64>, extent: Extent) -> Option<String> {
    let bytes = whole(run.bytes.try_into().unwrap_or(i64::MAX));
    if run.received > 0 && run.stored + run.duplicates == 0 {
        return length.map(|_| "all of it was rejected, but coredms has the object".to_owned());
    }
    match length {
        None => Some(format!("coredms has no object, must be one of {bytes} bytes")),
        Some(length) if length != bytes => {
            Some(format!("coredms has an object of {length} bytes, must be {bytes}"))
        }
        Some(_) => {
            let must_be = Extent::of(bytes);
            (extent != must_be).then(|| {
                let Extent { chunks, bytes: found } = extent;
                format!(
                    "its object has {chunks} chunks of {found} bytes, must be {} of {bytes}",
                    must_be.chunks
                )
            })
        }
    }
}

/// What was counted of one numbering of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// All numbers from 1 to this one are received.
    pub(super) through: u64,
    /// Numbers after it that are received too.
    pub(super) beyond: u64,
    /// Numbers up to `through` that are stored, rejected or lost; `None` where that cannot be counted.
    pub(super) accounted: Option<u64>,
    /// Likewise, after it.
    pub(super) accounted_beyond: Option<u64>,
    /// Numbers that the source no longer has and that never came.
    pub(super) lost: u64,
}

impl Numbers {
    /// Numbers that are stored or rejected but not marked as received: on their way, where something runs.
    pub(super) fn unmarked(&self) -> u64 {
        self.accounted_beyond.map_or(0, |accounted| accounted.saturating_sub(self.beyond))
    }

    /// All that is not as it must be; what is unmarked was waited for.
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

/// Counts of the history are never negative, unless somebody has written into it.
fn whole(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn by(is: u64, must_be: u64) -> String {
    if is < must_be {
        format!(" ({} missing)", must_be - is)
    } else {
        format!(" ({} too many)", is - must_be)
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
    fn what_is_as_it_must_be_does_not_differ() {
        let bytes = CHUNK + 5;
        for content in [
            content(vec![ingested(10, 7, 1, 2)], Counted::Platform(8), 2),
            // The run before it had rejected two that are stored now.
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
    fn what_a_later_run_is_about_to_change_does_not_differ() {
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
    fn nothing_is_left_of_what_a_run_has_replaced() {
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
                "has 9 documents of its records, must be 10 (1 missing)",
            ),
            (content(vec![ingested(10, 10, 0, 0)], Counted::Platform(11), 0), "must be 10 (1 too many)"),
            (content(vec![ingested(10, 10, 0, 0)], Counted::Unexpired(11), 0), "must be 10 (1 too many)"),
            (
                content(vec![ingested(10, 8, 0, 2)], Counted::Platform(8), 1),
                "1 records are listed as rejected, must be 2 (1 missing)",
            ),
            (content(vec![ingested(10, 8, 0, 2)], Counted::Platform(8), 3), "must be 2 (1 too many)"),
            (content(vec![ingested(10, 8, 0, 1)], Counted::Platform(9), 1), "received 10, but stored 8"),
            (
                content(vec![ingested(10, 6, 4, 0)], Counted::Key(7), 0),
                "has 7 documents that it wrote, must be at most 6",
            ),
            (
                content(vec![ingested(1, 1, 0, 0)], object(None, 2, bytes), 0),
                "no object, must be one of 261125 bytes",
            ),
            (
                content(vec![ingested(1, 1, 0, 0)], object(Some(5), 2, bytes), 0),
                "an object of 5 bytes, must be 261125",
            ),
            (
                content(vec![ingested(1, 1, 0, 0)], object(Some(bytes), 1, 5), 0),
                "1 chunks of 5 bytes, must be 2 of 261125",
            ),
            (content(vec![ingested(1, 0, 0, 1)], object(Some(bytes), 2, bytes), 1), "all of it was rejected"),
            (content(vec![ingested(1, 1, 0, 0)], Counted::NoApp, 0), "no app \"app\""),
            (
                Content {
                    vanished: Some("a-1".to_owned()),
                    ..content(vec![run(FinalState::Held, 1, 0, 0, 0)], Counted::NotIngested, 0)
                },
                "run a-1 is held, but",
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
    fn what_newer_documents_replaced_is_superseded() {
        assert_eq!(content(vec![ingested(10, 9, 1, 0)], Counted::Key(4), 0).superseded(), 5);
        assert_eq!(content(vec![ingested(10, 9, 1, 0)], Counted::Platform(10), 0).superseded(), 0);
    }

    #[test]
    fn what_is_missing_where_documents_expire_has_expired() {
        assert_eq!(content(vec![ingested(10, 7, 1, 2)], Counted::Unexpired(3), 2).expired(), 5);
        assert_eq!(content(vec![ingested(10, 7, 1, 2)], Counted::Platform(3), 2).expired(), 0);
        let keyed = content(vec![ingested(10, 7, 1, 2)], Counted::UnexpiredKey(3), 2);
        assert_eq!((keyed.expired(), keyed.superseded()), (4, 0));
        let too_many = content(vec![ingested(10, 7, 1, 2)], Counted::UnexpiredKey(8), 2);
        assert_eq!(too_many.differences().len(), 1, "nothing comes into being by expiring");
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
            // One on its way does not make up for one that is gone.
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
