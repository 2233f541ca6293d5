//! Arrival contracts on both stores: what is recorded about due times, and what a restart makes of it.

use std::time::Instant;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use mysimbdp_config::ArrivalContract;
use mysimbdp_model::arrival::ArrivalOutcome;
use mysimbdp_model::reason::{ReasonCode, ReasonFile};
use mysimbdp_platform::clock;
use mysimbdp_store::arrivals::{ArrivalRecord, Arrivals, ContractRecord};
use mysimbdp_store::history::History;
use mysimbdp_testbed::{mongodb, unique, until_async};
use serde_json::{Value, json};

use crate::fixture::{DEADLINE, Fixture, command, settings};

/// Runs a case on each store.
macro_rules! on_both {
    ($($case:ident,)*) => {
        mod on_mongodb {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let url = mysimbdp_testbed::mongodb().url().to_owned();
                super::$case(serde_json::json!({"url": url, "database": mysimbdp_testbed::unique("arrivals")})).await;
            })*
        }

        mod on_embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(serde_json::json!({})).await;
            })*
        }
    };
}

on_both! {
    what_arrives_for_a_due_time_is_recorded_once_and_a_restart_changes_nothing,
    due_times_that_passed_while_nothing_ran_are_judged_by_the_history,
    a_held_file_has_arrived_and_a_discarded_one_is_named,
    due_times_that_are_in_the_future_again_are_judged_again,
    a_contract_that_is_changed_or_removed_begins_anew,
}

/// The local time in UTC so many hours from now, as a contract has it.
fn by(hours: i64) -> String {
    let due = (clock::now() + SignedDuration::from_hours(hours)).to_zoned(TimeZone::UTC);
    due.strftime("%H:%M").to_string()
}

/// Settings of an app with these contracts. It stores nothing: it is the same on each store.
fn expecting(coredms: Value, contracts: Value) -> Value {
    let script = r#"cat > /dev/null; echo "{\"type\":\"done\",\"stored\":$MYSIMBDP_RECORDS}""#;
    let app = json!({ "command": ["sh", "-c", script], "ids": "none", "expect": contracts });
    let mut settings = settings(app);
    settings["coredms"] = coredms;
    settings
}

impl Fixture {
    async fn arrivals(&self) -> Arrivals {
        History::new(self.database(&self.config.settings.coredms.database).await).arrivals()
    }

    fn contract(&self) -> &ArrivalContract {
        &self.config.clients[&self.client()].contracts[0]
    }

    /// Makes the contract one that was judged up to a due time long ago.
    async fn judged_until(&self, arrivals: &Arrivals, due: Timestamp) {
        let (client, contract) = (self.client(), self.contract());
        let since = due - SignedDuration::from_hours(1);
        let record = ContractRecord::new(&client, &contract.name, contract.terms(), since, due);
        arrivals.put_contract(&record).await.expect("put");
    }

    /// Waits until the latest due times have these states, the latest first, and returns their records.
    async fn until_states(&self, arrivals: &Arrivals, expected: &[ArrivalOutcome]) -> Vec<ArrivalRecord> {
        let mut found = Vec::new();
        let (client, contract) = (self.client(), self.contract().name.clone());
        until_async(DEADLINE, &format!("the latest due times are {expected:?}"), async || {
            found = arrivals.latest(&client, &contract, 20).await.expect("read");
            found.iter().map(|record| record.state).eq(expected.iter().copied())
        })
        .await;
        found
    }
}

async fn what_arrives_for_a_due_time_is_recorded_once_and_a_restart_changes_nothing(coredms: Value) {
    use ArrivalOutcome::{OnTime, Repeated, TooSmall};
    let contract = json!([{"files": "sales-*", "by": by(6), "records_min": 10}]);
    let mut fixture = Fixture::new(expecting(coredms, contract));
    fixture.start();
    let arrivals = fixture.arrivals().await;
    fixture.stage("other.ndjson", &[20]);
    let small = fixture.stage("sales-1.ndjson", &[5]);
    let record = fixture.until_states(&arrivals, &[TooSmall]).await.remove(0);
    let file = record.arrived.expect("a file");
    assert_eq!((file.file.as_str(), file.records, record.warned), ("sales-1.ndjson", Some(5), true));
    assert_eq!(file.ingestion, Some(small.to_string()));
    fixture.stage("sales-2.ndjson", &[5, 6]);
    let record = fixture.until_states(&arrivals, &[OnTime]).await.remove(0);
    assert_eq!(record.arrived.expect("a file").file, "sales-2.ndjson");
    assert!(record.warned, "it was a problem, and is not warned of again");
    fixture.stage("sales-3.ndjson", &[1]);
    fixture.until_states(&arrivals, &[Repeated]).await;
    fixture.until("it is ingested", || fixture.root.list("staging/client1").is_empty()).await;
    let last = |records: &[ArrivalRecord]| records[0].arrived.clone().and_then(|file| file.records);
    let mut recorded = Vec::new();
    until_async(DEADLINE, "the last state is recorded", async || {
        recorded = fixture.until_states(&arrivals, &[Repeated]).await;
        last(&recorded) == Some(1)
    })
    .await;
    fixture.stop().await;

    fixture.start();
    // Something else, after which everything has been judged at least once.
    let after = fixture.stage("sales-4.ndjson", &[2]);
    fixture.until_ingested(after).await;
    until_async(DEADLINE, "the new file is the last one", async || {
        last(&fixture.until_states(&arrivals, &[Repeated]).await) == Some(2)
    })
    .await;
    let again = fixture.until_states(&arrivals, &[Repeated]).await;
    assert_eq!(again[0].changed_at, recorded[0].changed_at);
    fixture.stop().await;
}

async fn due_times_that_passed_while_nothing_ran_are_judged_by_the_history(coredms: Value) {
    use ArrivalOutcome::{Late, Missing, OnTime};
    let contract = json!([{"files": "*", "by": by(6), "records_min": 3}]);
    let mut fixture = Fixture::new(expecting(coredms.clone(), json!([])));
    fixture.start();
    let ingestion = fixture.stage("a.ndjson", &[4]);
    fixture.until_ingested(ingestion).await;
    fixture.stop().await;
    fixture.configure(&expecting(coredms, contract));
    let arrivals = fixture.arrivals().await;
    let schedule = fixture.contract().schedule.clone();
    let dues: Vec<Timestamp> = std::iter::successors(schedule.last(clock::now()), |due| {
        schedule.last(*due - SignedDuration::from_secs(1))
    })
    .take(5)
    .collect();
    fixture.judged_until(&arrivals, dues[4]).await;
    // Two more files in the history: one on time for the third-last due time, one late for the second-last.
    let history = History::new(fixture.database(&fixture.config.settings.coredms.database).await);
    let run = history.runs_of(ingestion).await.expect("read").remove(0);
    for (number, received_at) in
        [(1, dues[2] - SignedDuration::from_mins(1)), (2, dues[1] + SignedDuration::from_mins(1))]
    {
        let mut run = run.clone();
        (run.id, run.ingestion) = (format!("{}{number}", run.id), format!("{number:032x}"));
        run.received_at = bson::DateTime::from_millis(received_at.as_millisecond());
        history.put(&run).await.expect("put");
    }
    fixture.start();
    // The file of the beginning is for the next due time.
    let found = fixture.until_states(&arrivals, &[OnTime, Missing, Late, OnTime, Missing]).await;
    let warned: Vec<bool> = found.iter().map(|record| record.warned).collect();
    assert_eq!(warned, [false, true, false, false, true]);
    fixture.stop().await;
    fixture.start();
    fixture.until_ingested(fixture.stage("b.txt", &[1])).await;
    fixture.stop().await;
    let after = arrivals.latest(&fixture.client(), &fixture.contract().name, 20).await.expect("read");
    assert_eq!(after[1..], found[1..], "what was judged stays");
}

async fn a_held_file_has_arrived_and_a_discarded_one_is_named(coredms: Value) {
    use ArrivalOutcome::{Expected, OnTime};
    let contract = json!([{"files": "*.ndjson", "by": by(6)}]);
    let mut settings = expecting(coredms, contract);
    settings["clients"][0]["apps"][0]["command"] = json!(command(&["exit", "65"]));
    let mut fixture = Fixture::new(settings);
    let name = "evil\u{202e}\"}\n$x.ndjson";
    let directory =
        fixture.path("discarded/client1").join(format!("{}-1", clock::now().strftime("%Y%m%dT%H%M%SZ")));
    std::fs::create_dir_all(&directory).expect("directory");
    let reason = ReasonFile {
        file: name.to_owned(),
        client: Some("client1".to_owned()),
        ingestion: None,
        dropped_at: format!("client-input-directory/client1/{name}"),
        bytes: 1,
        received_at: clock::now(),
        decided_at: clock::now(),
        reasons: vec!["x".repeat(100_000); 100],
        codes: vec![ReasonCode::NameNotAllowed; 100],
    };
    std::fs::write(directory.join(ReasonFile::FILE), serde_json::to_vec(&reason).expect("JSON"))
        .expect("write");
    fixture.start();
    let arrivals = fixture.arrivals().await;
    let record = fixture.until_states(&arrivals, &[Expected]).await.remove(0);
    let discarded = record.discarded.expect("a discarded file");
    assert_eq!((discarded.file.as_str(), discarded.reasons.len(), discarded.codes.len()), (name, 10, 10));
    assert!(discarded.reasons.iter().all(|reason| reason.len() == 500));
    let held = fixture.stage("held.ndjson", &[3]);
    fixture.until_held(held).await;
    until_async(DEADLINE, "it is held", async || {
        let record = fixture.until_states(&arrivals, &[OnTime]).await.remove(0);
        record.discarded.is_none() && record.arrived.is_some_and(|file| file.state == "held")
    })
    .await;
    fixture.stop().await;
}

async fn due_times_that_are_in_the_future_again_are_judged_again(coredms: Value) {
    use ArrivalOutcome::{Missing, OnTime};
    let mut fixture = Fixture::new(expecting(coredms, json!([{"files": "*", "by": by(6)}])));
    let arrivals = fixture.arrivals().await;
    let schedule = fixture.contract().schedule.clone();
    let next = schedule.next(clock::now()).expect("a due time");
    let after = schedule.next(next).expect("a due time");
    // As if the clock had been two days ahead.
    for due in [next, after] {
        let mut record = ArrivalRecord::new(&fixture.client(), &fixture.contract().name, "app", due);
        (record.state, record.warned) = (Missing, true);
        arrivals.put(&record).await.expect("put");
    }
    fixture.judged_until(&arrivals, after).await;
    fixture.start();
    fixture.until_states(&arrivals, &[Missing, ArrivalOutcome::Expected]).await;
    fixture.stage("a.ndjson", &[1]);
    let found = fixture.until_states(&arrivals, &[Missing, OnTime]).await;
    assert!(found[1].warned, "there is no second warning");
    fixture.stop().await;
}

async fn a_contract_that_is_changed_or_removed_begins_anew(coredms: Value) {
    let mut fixture = Fixture::new(expecting(coredms.clone(), json!([{"files": "*", "by": by(6)}])));
    let arrivals = fixture.arrivals().await;
    let contracts = async || arrivals.contracts().await.expect("read");
    fixture.start();
    until_async(DEADLINE, "it is known", async || contracts().await.len() == 1).await;
    let first = contracts().await;
    fixture.stop().await;
    // Two hours ago, so that the last due time is one that nobody has seen.
    fixture.configure(&expecting(coredms.clone(), json!([{"files": "*", "by": by(-2), "name": "app"}])));
    fixture.start();
    until_async(DEADLINE, "it is another one", async || contracts().await[..] != first[..]).await;
    fixture.until_ingested(fixture.stage("b.ndjson", &[1])).await;
    fixture.until_states(&arrivals, &[ArrivalOutcome::OnTime]).await;
    fixture.stop().await;
    // A new name is a new contract. The records of the old one stay.
    fixture.configure(&expecting(coredms, json!([{"files": "*", "by": by(-2), "name": "renamed"}])));
    fixture.start();
    until_async(DEADLINE, "only the new one is known", async || {
        contracts().await.iter().map(|record| record.contract.clone()).eq(["renamed".to_owned()])
    })
    .await;
    fixture.stop().await;
    assert_eq!(arrivals.latest(&fixture.client(), "app", 9).await.expect("read").len(), 1);
}

/// They share one look at the disk, and each has its own part of the history.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_contracts_are_judged_while_files_are_ingested() {
    let contracts: Vec<Value> = (0..100)
        .map(|number| json!({"name": format!("c{number}"), "files": format!("*-{number}.ndjson"), "by": by(6)}))
        .collect();
    let coredms = json!({"url": mongodb().url(), "database": unique("arrivals")});
    let mut fixture = Fixture::new(expecting(coredms, json!(contracts)));
    fixture.start();
    let arrivals = fixture.arrivals().await;
    for number in 0..100 {
        fixture.stage(&format!("a-{number}.ndjson"), &[1]);
    }
    let begin = Instant::now();
    until_async(DEADLINE * 3, "all of them have arrived", async || {
        let changed = arrivals.changed(1000).await.expect("read");
        let has_ended =
            |record: &&ArrivalRecord| record.arrived.as_ref().is_some_and(|file| file.records == Some(1));
        changed.iter().filter(has_ended).count() == 100
    })
    .await;
    println!("judged within {:?}", begin.elapsed());
    fixture.stop().await;
}
