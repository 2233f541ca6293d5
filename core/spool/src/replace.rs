//! Runs that replace what earlier runs of the same ingestion have stored, for example after an app was repaired.
//!
//! Pure: takes the history of the ingestion, and returns the times of such a run, or the reason why it is not possible.

use jiff::{SignedDuration, Timestamp};
use mysimbdp_config::App;
use mysimbdp_model::app::Ids;
use mysimbdp_model::outcome::{FinalState, Run};

/// The times of a run that replaces earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplacementTimes {
    /// The time of the last drop: documents that other files wrote later are newer, and stay.
    pub received_at: Timestamp,
    /// Later than any earlier run, whatever the clock says: it distinguishes documents of this run from those of earlier ones.
    pub staged_at: Timestamp,
}

impl ReplacementTimes {
    /// The times if the file was dropped again at `received_at`: its sender has confirmed its content, so it is newer than what
    /// other files have written before that time.
    pub fn dropped_again_at(self, received_at: Timestamp) -> Self {
        Self { received_at: self.received_at.max(received_at), ..self }
    }
}

/// The last run that ended as ingested, if any.
pub fn last_ingested(runs: &[Run]) -> Option<&Run> {
    runs.iter().filter(|run| run.state == FinalState::Ingested).max_by_key(|run| run.staged_at)
}

/// The times of a run that replaces all of `runs`; `None` if there are none.
pub fn replacement_times(runs: &[Run], now: Timestamp) -> Option<ReplacementTimes> {
    let latest = |time: fn(&Run) -> bson::DateTime| {
        let millis = runs.iter().map(|run| time(run).timestamp_millis()).max()?;
        Timestamp::from_millisecond(millis).ok()
    };
    // A run that was held may have stored documents, too.
    let received_at = latest(|run| run.received_at)?;
    let next = latest(|run| run.staged_at)?.checked_add(SignedDuration::from_millis(1)).ok()?;
    Some(ReplacementTimes { received_at, staged_at: now.max(next) })
}

/// The reason why an app cannot replace what the ingestion's last run has stored; `None` if it can.
pub fn refusal(app: &App, last: Option<&Run>) -> Option<String> {
    let name = &app.name;
    if app.settings.ids == Ids::None {
        return Some(format!("app {name} has ids \"none\", so it is unknown which documents to replace"));
    }
    let last = last?;
    if *name != last.app {
        return Some(format!("app {} ingested it before, and now it would go to {name}", last.app));
    }
    // Earlier builds did not record ids and collection.
    let ids = last.ids.filter(|ids| *ids != app.settings.ids);
    let collection = last.collection.as_ref().filter(|collection| **collection != app.collection);
    if ids.is_none() && collection.is_none() {
        return None;
    }
    let (before, previous) =
        (last.ids.unwrap_or(app.settings.ids), last.collection.as_ref().unwrap_or(&app.collection));
    Some(format!(
        "app {name} stored it with ids {:?} in the collection {previous}, and now has ids {:?} and the collection {}: the earlier documents would remain",
        before.as_str(),
        app.settings.ids.as_str(),
        app.collection,
    ))
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::manifest::Lane;

    use super::*;

    fn run(state: FinalState, received: i64, staged: i64) -> Run {
        let date = bson::DateTime::from_millis;
        Run {
            id: format!("a-{staged}"),
            ingestion: "a".to_owned(),
            client: "client1".to_owned(),
            app: "app".to_owned(),
            lane: Lane::Live,
            file: "a.csv".to_owned(),
            bytes: 1,
            blake3: String::new(),
            micro_batches: 1,
            received: 1,
            stored: 1,
            duplicates: 0,
            rejected: 0,
            audited: true,
            state,
            received_at: date(received),
            staged_at: date(staged),
            finished_at: date(staged),
            seconds: 0.0,
            columns: Vec::new(),
            replace: false,
            collection: Some("readings".to_owned()),
            ids: Some(Ids::Platform),
            reasons: Vec::new(),
            codes: Vec::new(),
        }
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).expect("in range")
    }

    #[test]
    fn a_replacing_run_is_later_than_all_others_and_received_at_the_last_drop() {
        let runs = [run(FinalState::Ingested, 10, 20), run(FinalState::Held, 30, 40)];
        assert_eq!(
            replacement_times(&runs, at(99)),
            Some(ReplacementTimes { received_at: at(30), staged_at: at(99) })
        );
        assert_eq!(
            replacement_times(&runs, at(5)).map(|times| times.staged_at),
            Some(at(41)),
            "the clock was set back"
        );
        let received = |dropped| {
            replacement_times(&runs, at(99)).map(|times| times.dropped_again_at(at(dropped)).received_at)
        };
        assert_eq!((received(98), received(5)), (Some(at(98)), Some(at(30))), "the clock was set back");
        assert_eq!(replacement_times(&[], at(5)), None);
        assert_eq!(last_ingested(&runs).map(|run| run.id.as_str()), Some("a-20"));
        assert_eq!(last_ingested(&runs[1..]), None);
    }

    #[test]
    fn documents_in_another_collection_or_under_other_ids_cannot_be_replaced() {
        let app = |name: &str, ids: &str, collection: &str| App {
            name: name.to_owned(),
            files: mysimbdp_config::Globs::default(),
            collection: collection.to_owned(),
            settings: serde_json::from_value(
                serde_json::json!({"name": name, "command": ["x"], "ids": ids, "record_key": []}),
            )
            .expect("an app"),
        };
        let last = run(FinalState::Ingested, 1, 1);
        assert_eq!(refusal(&app("app", "platform", "readings"), Some(&last)), None);
        let unknown = Run { ids: None, collection: None, ..last.clone() };
        assert_eq!(refusal(&app("app", "key", "others"), Some(&unknown)), None);
        for (app, fragment) in [
            (app("app", "none", "readings"), "ids \"none\""),
            (app("app", "key", "readings"), "now has ids \"key\""),
            (app("app", "platform", "others"), "the collection others"),
            (app("other", "platform", "readings"), "now it would go to other"),
        ] {
            let reason = refusal(&app, Some(&last)).expect("refused");
            assert!(reason.contains(fragment), "{reason}");
        }
    }
}
