//! Verifies what an app reports about a unit. Pure.
//!
//! The count of fetchdata, which split the file, is authoritative: a report that does not add up to it is not believed,
//! and the attempt fails. Whether a report that adds up is true is checked by the [audit](crate::audit), as far as it
//! can be counted.

use mysimbdp_model::app::Ids;
use mysimbdp_model::outcome::Counts;

use crate::run::AppReport;
use crate::unit::WorkUnit;

/// What the report is compared with, besides the unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) ids: Ids,
    /// The number of the unit's records that were in coredms before this run's first attempt.
    pub(crate) baseline: Option<u64>,
    /// The run replaces records that exist.
    pub(crate) replaces: bool,
}

/// Returns the counts of a unit whose app has ended successfully, or why the report is not believed.
pub(crate) fn verify_report(
    unit: &WorkUnit,
    report: &AppReport,
    evidence: Evidence,
) -> Result<Counts, String> {
    let Some(done) = report.done else {
        return match evidence.ids {
            Ids::None => Ok(Counts { received: unit.records, stored: unit.records, ..Counts::default() }),
            Ids::Platform | Ids::Key | Ids::Object => {
                Err("ended without reporting what it stored (no line of type done)".to_owned())
            }
        };
    };
    let reported = Counts {
        received: unit.records,
        stored: done.stored,
        duplicates: done.duplicates,
        rejected: done.rejected,
    };
    if !reported.balances() {
        return Err(format!(
            "says it stored {}, found {} duplicates and rejected {}, which does not add up to the {} records that it was given",
            done.stored, done.duplicates, done.rejected, unit.records
        ));
    }
    if let Some(record) = report.rejects.foreign {
        return Err(format!("says it rejected record {record}, which it was not given"));
    }
    if report.rejects.listed != done.rejected {
        return Err(format!(
            "says it rejected {} records, but lists {}",
            done.rejected, report.rejects.listed
        ));
    }
    // An app that does not support replacing has left the existing records unchanged.
    if evidence.replaces && evidence.ids == Ids::Platform && done.duplicates > 0 {
        return Err(format!(
            "says it found {} records that existed, but was told to replace them (MYSIMBDP_REPLACE)",
            done.duplicates
        ));
    }
    Ok(without_own_repeats(reported, evidence))
}

/// A record that an earlier attempt of this run stored counts as stored, not as a duplicate, so there are at most
/// `baseline` duplicates. This applies to the first known attempt too, as a power cut may have lost all traces
/// of others.
fn without_own_repeats(reported: Counts, evidence: Evidence) -> Counts {
    let Some(baseline) = evidence.baseline else { return reported };
    let duplicates = reported.duplicates.min(baseline);
    Counts { stored: reported.stored + reported.duplicates - duplicates, duplicates, ..reported }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Done, ListedRejects};
    use crate::unit::Input;

    const FIRST: Evidence = Evidence { ids: Ids::Platform, baseline: Some(2), replaces: false };

    fn unit(records: u64) -> WorkUnit {
        WorkUnit { index: 0, count: 1, first_record: 100, records, input: Input::MicroBatch(0) }
    }

    fn report(stored: u64, duplicates: u64, rejected: u64) -> AppReport {
        AppReport {
            done: Some(Done { stored, duplicates, rejected }),
            rejects: ListedRejects { listed: rejected, foreign: None },
            ..AppReport::default()
        }
    }

    fn counts(stored: u64, duplicates: u64, rejected: u64) -> Counts {
        Counts { received: stored + duplicates + rejected, stored, duplicates, rejected }
    }

    #[test]
    fn a_report_that_adds_up_is_believed() {
        let verified = verify_report(&unit(10), &report(7, 2, 1), FIRST).expect("adds up");
        assert_eq!(verified, counts(7, 2, 1));
        assert!(verify_report(&unit(0), &report(0, 0, 0), FIRST).is_ok());
    }

    #[test]
    fn a_count_of_one_more_or_one_less_is_not_believed() {
        for (report, fragment) in [
            (report(11, 0, 0), "stored 11"),
            (report(9, 0, 0), "the 10 records"),
            (report(10, 1, 0), "found 1 duplicates"),
            (report(u64::MAX, u64::MAX, 12), "add up to the 10 records"),
            (report(0, 0, 0), "stored 0"),
        ] {
            let error = verify_report(&unit(10), &report, FIRST).expect_err("does not add up");
            assert!(error.contains(fragment), "{error}");
        }
    }

    #[test]
    fn each_reject_must_be_listed_and_belong_to_the_unit() {
        let unlisted = AppReport { rejects: ListedRejects { listed: 1, foreign: None }, ..report(8, 0, 2) };
        assert!(
            verify_report(&unit(10), &unlisted, FIRST).expect_err("one is not listed").contains("lists 1")
        );
        let foreign = AppReport { rejects: ListedRejects { listed: 2, foreign: Some(3) }, ..report(8, 0, 2) };
        assert!(verify_report(&unit(10), &foreign, FIRST).expect_err("not its own").contains("record 3"));
    }

    #[test]
    fn a_record_that_an_earlier_attempt_stored_is_not_a_duplicate() {
        for (baseline, believed) in [
            (Some(0), counts(10, 0, 0)),
            (Some(5), counts(5, 5, 0)),
            (Some(8), counts(4, 6, 0)),
            // Without a baseline, the report is the best that is known.
            (None, counts(4, 6, 0)),
        ] {
            let evidence = Evidence { baseline, ..FIRST };
            let verified = verify_report(&unit(10), &report(4, 6, 0), evidence).expect("adds up");
            assert_eq!(verified, believed, "baseline {baseline:?}");
            assert!(verified.balances());
        }
    }

    #[test]
    fn a_run_that_replaces_must_not_report_duplicates() {
        let replaces = Evidence { baseline: None, replaces: true, ..FIRST };
        assert_eq!(verify_report(&unit(10), &report(8, 0, 2), replaces), Ok(counts(8, 0, 2)));
        let error = verify_report(&unit(10), &report(3, 5, 2), replaces).expect_err("it did not replace");
        assert!(error.contains("found 5 records") && error.contains("MYSIMBDP_REPLACE"), "{error}");
        // What another file has written since then is newer, and stays.
        let keyed = Evidence { ids: Ids::Key, ..replaces };
        assert_eq!(verify_report(&unit(10), &report(3, 5, 2), keyed), Ok(counts(3, 5, 2)));
    }

    #[test]
    fn only_a_program_with_ids_of_its_own_may_report_nothing() {
        let silent = AppReport::default();
        for ids in [Ids::Platform, Ids::Key, Ids::Object] {
            assert!(verify_report(&unit(10), &silent, Evidence { ids, ..FIRST }).is_err(), "{ids:?}");
        }
        let own = Evidence { ids: Ids::None, ..FIRST };
        let verified = verify_report(&unit(10), &silent, own).expect("believed by its exit status");
        assert_eq!(verified, counts(10, 0, 0));
        assert!(verify_report(&unit(10), &report(9, 0, 0), own).is_err(), "what it reports must add up");
    }
}
