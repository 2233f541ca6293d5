//! What became of due times, and runs by when their files were received.

use bson::DateTime;
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use mysimbdp_model::app::Ids;
use mysimbdp_model::arrival::ArrivalOutcome;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::manifest::Lane;
use mysimbdp_model::outcome::{FinalState, Run};
use mysimbdp_store::arrivals::{ArrivalRecord, ArrivedFile, ContractRecord};
use mysimbdp_store::history::History;

use crate::fixture::TestDatabase;

fn client(id: &str) -> ClientId {
    id.parse().expect("client id")
}

fn day(number: i64) -> Timestamp {
    "2026-03-01T06:00:00Z".parse::<Timestamp>().expect("a time") + SignedDuration::from_hours(24 * number)
}

fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.as_millisecond())
}

pub(crate) async fn what_became_of_due_times_is_read_in_their_order_and_removed_when_it_is_old(
    database: &TestDatabase,
) {
    let arrivals = History::new(database.open().await).arrivals();
    assert_eq!(arrivals.contracts().await.expect("contracts"), []);
    assert_eq!(arrivals.latest(&client("a"), "daily", 9).await.expect("latest"), []);
    arrivals.ensure_index().await.expect("index");
    for (of, contract) in [("a", "daily"), ("a", "other"), ("b", "daily")] {
        for number in [3, 1, 2, 0] {
            let mut record = ArrivalRecord::new(&client(of), contract, "app", day(number));
            record.changed_at = date(day(100 - number));
            arrivals.put(&record).await.expect("put");
        }
    }
    let mut changed = ArrivalRecord::new(&client("a"), "daily", "app", day(2));
    changed.state = ArrivalOutcome::Late;
    changed.changed_at = date(day(200));
    changed.arrived = Some(ArrivedFile {
        file: "a\u{202e}$b.\"csv".to_owned(),
        ingestion: Some("i".to_owned()),
        received_at: date(day(2)),
        state: "ingested".to_owned(),
        records: Some(7),
    });
    arrivals.put(&changed).await.expect("put again");

    let dues = |records: Vec<ArrivalRecord>| records.iter().map(|record| record.due).collect::<Vec<_>>();
    let since = arrivals.since(&client("a"), "daily", day(1)).await.expect("since");
    assert_eq!(since[1], changed);
    assert_eq!(dues(since), [1, 2, 3].map(|number| date(day(number))));
    let latest = arrivals.latest(&client("a"), "daily", 2).await.expect("latest");
    assert_eq!(dues(latest), [3, 2].map(|number| date(day(number))));
    assert_eq!(arrivals.changed(1).await.expect("changed"), [changed]);
    assert_eq!(arrivals.remove_before(day(2)).await.expect("remove"), 6);
    assert_eq!(arrivals.remove_before(day(2)).await.expect("remove again"), 0);
    assert_eq!(dues(arrivals.since(&client("b"), "daily", day(0)).await.expect("since")).len(), 2);

    let record = ContractRecord::new(&client("a"), "daily", "terms".to_owned(), day(5), day(4));
    let other = ContractRecord::new(&client("b"), "daily", "terms".to_owned(), day(5), day(4));
    for record in [&record, &other, &record] {
        arrivals.put_contract(record).await.expect("put");
    }
    assert_eq!(arrivals.contracts().await.expect("contracts"), [record.clone(), other.clone()]);
    arrivals.forget_contract(&record).await.expect("forget");
    assert_eq!(arrivals.contracts().await.expect("contracts"), [other]);
}

pub(crate) async fn runs_are_selected_by_when_their_files_were_received(database: &TestDatabase) {
    let history = History::new(database.open().await);
    history.ensure_index().await.expect("index");
    for (client, number, state) in [
        ("a", 3, FinalState::Ingested),
        ("a", 1, FinalState::Held),
        ("b", 2, FinalState::Ingested),
        ("a", 0, FinalState::Ingested),
    ] {
        history.put(&run(client, number, state)).await.expect("put");
    }
    for _ in 0..2 {
        let received = history.received(&client("a"), date(day(1))).await.expect("select");
        let received: Vec<_> = received.try_collect().await.expect("read");
        let found: Vec<_> =
            received.iter().map(|file| (file.received_at, file.state, file.received)).collect();
        let expected = [(date(day(1)), FinalState::Held, 1), (date(day(3)), FinalState::Ingested, 3)];
        assert_eq!(found, expected);
        assert_eq!(received[0].file, "file-1");
        history.ensure_arrival_index().await.expect("index");
    }
}

fn run(client: &str, number: i64, state: FinalState) -> Run {
    let at = date(day(number));
    Run {
        id: format!("{client}-{number}"),
        ingestion: format!("{number:032x}"),
        client: client.to_owned(),
        app: "app".to_owned(),
        lane: Lane::Live,
        file: format!("file-{number}"),
        bytes: 1,
        blake3: String::new(),
        micro_batches: 1,
        received: number,
        stored: number,
        duplicates: 0,
        rejected: 0,
        audited: true,
        state,
        received_at: at,
        staged_at: at,
        finished_at: at,
        seconds: 0.0,
        columns: Vec::new(),
        replace: false,
        collection: None,
        ids: Some(Ids::Platform),
        reasons: Vec::new(),
        codes: Vec::new(),
    }
}
