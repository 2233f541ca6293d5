//! The due times of one contract that are not judged for good.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use mysimbdp_config::{ArrivalContract, Client};
use mysimbdp_model::arrival::display::DueTimes;
use mysimbdp_model::arrival::judge::{Closed, JUDGED_MAX, Judgement, Terms, judge};
use mysimbdp_model::arrival::{Arrival, ArrivalOutcome};
use mysimbdp_platform::failpoint;
use mysimbdp_store::arrivals::{ArrivalRecord, Arrivals, ContractRecord};
use mysimbdp_store::date::{date, time};
use mysimbdp_store::history::History;

use super::files::{merge, on_disk, read_history};
use super::gather::Found;
use super::judge::{JudgeError, KEPT_FOR};
use super::record::{self, Change};
use super::report;

/// The due times of a contract that are not judged for good.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) record: ContractRecord,
    /// What is recorded about them, by due time in milliseconds.
    records: BTreeMap<i64, ArrivalRecord>,
    /// The expected files in the history; `None` if they have to be read again.
    pub(super) ended: Option<Vec<Arrival>>,
    /// The ingestions that were on disk.
    on_disk: BTreeSet<String>,
    judged_at: Timestamp,
}

impl Open {
    pub(super) fn new(record: ContractRecord, known: Vec<ArrivalRecord>) -> Self {
        let records = known.into_iter().map(|record| (record.due.timestamp_millis(), record)).collect();
        let judged_at = time(record.closed_due);
        Self { record, records, ended: None, on_disk: BTreeSet::new(), judged_at }
    }

    pub(super) fn closed(&self) -> Closed {
        Closed { due: time(self.record.closed_due), until: time(self.record.closed_until) }
    }

    /// Judges the contract as of `now`, which is before the disk was looked at: a file that has arrived since then cannot be missed.
    /// Returns the contract's next due time.
    pub(super) async fn judge(
        &mut self,
        history: &History,
        arrivals: &Arrivals,
        client: &Client,
        contract: &ArrivalContract,
        found: &[Found],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, JudgeError> {
        loop {
            self.follow_clock(arrivals, client, contract, now).await?;
            if self.must_read(contract, found, now) {
                self.ended = Some(read_history(history, client, contract, self.closed().until).await?);
            }
            let files = merge(found, self.ended.as_deref().unwrap_or_default());
            let terms = Terms { schedule: &contract.schedule, records_min: contract.records_min };
            let judgements = judge(&terms, self.closed(), &files, now);
            self.record(arrivals, client, contract, &judgements, now).await?;
            self.judged_at = now;
            let is_open = judgements.last().is_some_and(|last| last.due > now);
            if is_open || judgements.len() < JUDGED_MAX {
                self.on_disk = on_disk(found);
                return Ok(self.show(client, contract, now));
            }
        }
    }

    /// Due times that are in the future again, because the clock was set back, are judged again; those of long ago never.
    async fn follow_clock(
        &mut self,
        arrivals: &Arrivals,
        client: &Client,
        contract: &ArrivalContract,
        now: Timestamp,
    ) -> Result<(), JudgeError> {
        let closed = self.closed();
        let earliest = now - KEPT_FOR;
        let begin = match closed.due {
            due if due > now => contract.schedule.last(now),
            due if due < earliest => contract.schedule.last(earliest).filter(|last| *last > due),
            _ => None,
        };
        if let Some(begin) = begin {
            let known = arrivals.since(&client.id, &contract.name, begin).await?;
            let mut record = self.record.clone();
            (record.closed_due, record.closed_until) = (date(begin), date(begin));
            *self = Self::new(record, known);
        }
        Ok(())
    }

    /// Whether the history may have expected files that are not known.
    fn must_read(&self, contract: &ArrivalContract, found: &[Found], now: Timestamp) -> bool {
        let has_passed = contract.schedule.last(now).is_some_and(|last| last > self.judged_at);
        self.ended.is_none() || has_passed || now < self.judged_at || !self.on_disk.is_subset(&on_disk(found))
    }

    /// Records what has changed, and then reports it.
    async fn record(
        &mut self,
        arrivals: &Arrivals,
        client: &Client,
        contract: &ArrivalContract,
        judgements: &[Judgement],
        now: Timestamp,
    ) -> Result<(), JudgeError> {
        let changes: Vec<Change> = judgements
            .iter()
            .filter_map(|judgement| {
                let before = self.records.get(&judgement.due.as_millisecond());
                record::change(&client.id, contract, judgement, before, now)
            })
            .collect();
        let summary = report::summary(&changes);
        for change in changes {
            arrivals.put(&change.record).await?;
            failpoint::hit("arrivals.recorded");
            report::change(contract, &change, summary.is_some());
            self.records.insert(change.record.due.timestamp_millis(), change.record);
        }
        if let Some(summary) = summary {
            summary.log(&client.id, contract);
        }
        let finals = judgements.iter().take_while(|judgement| judgement.is_final);
        if let Some(last) = finals.last() {
            let mut record = self.record.clone();
            (record.closed_due, record.closed_until) = (date(last.due), date(last.until));
            arrivals.put_contract(&record).await?;
            self.record = record;
            // The last one is still shown.
            self.records = self.records.split_off(&last.due.as_millisecond());
            let until = last.until;
            self.ended.iter_mut().for_each(|ended| ended.retain(|arrival| arrival.received_at > until));
        }
        Ok(())
    }

    /// Shows in the metrics how the contract is. Returns its next due time.
    fn show(&self, client: &Client, contract: &ArrivalContract, now: Timestamp) -> Option<Timestamp> {
        let due_times = DueTimes::around(&contract.schedule, Some(time(self.record.since)), now)?;
        let outcome = |due: Timestamp| self.records.get(&due.as_millisecond()).map(|record| record.state);
        let (_, shown) = due_times.shown(outcome, now);
        report::show(&client.id, &contract.name, due_times.next, shown == ArrivalOutcome::Missing);
        Some(due_times.next)
    }
}
