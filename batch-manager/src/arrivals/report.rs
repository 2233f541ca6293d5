//! Logs and counts what became of due times.

use jiff::Timestamp;
use mysimbdp_config::ArrivalContract;
use mysimbdp_model::arrival::ArrivalOutcome;
use mysimbdp_model::client::ClientId;
use mysimbdp_store::date::time;
use mysimbdp_telemetry::metrics::metrics;

use super::record::Change;

/// More warnings at once, as after an interruption, are one warning.
const WARNINGS_MAX: usize = 10;

/// Stands for many warnings about a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    count: usize,
    first: Timestamp,
    last: Timestamp,
}

/// Returns what stands for the warnings about these changes, if they are many.
pub(super) fn summary(changes: &[Change]) -> Option<Summary> {
    let mut warned = changes.iter().filter(|change| change.warns).map(|change| time(change.record.due));
    let count = warned.clone().count();
    let (first, last) = (warned.clone().next()?, warned.next_back()?);
    (count > WARNINGS_MAX).then_some(Summary { count, first, last })
}

impl Summary {
    pub(super) fn log(&self, client: &ClientId, contract: &ArrivalContract) {
        let Self { count, first, last } = self;
        let (contract, files) = (&contract.name, &contract.settings.files);
        tracing::warn!(%client, contract, files, count, %first, %last, "at several due times no file had arrived, or not the expected one");
    }
}

/// Reports what became of a due time; without a warning if there is a [`Summary`].
pub(super) fn change(contract: &ArrivalContract, change: &Change, is_summarised: bool) {
    let record = &change.record;
    if change.reports && record.state != ArrivalOutcome::Expected {
        let labels = [record.client.as_str(), record.contract.as_str(), record.state.as_str()];
        metrics().arrivals.with(labels).inc();
    }
    if !change.reports || (change.warns && is_summarised) {
        return;
    }
    let (client, contract, files, due) =
        (&record.client, &contract.name, &contract.settings.files, time(record.due));
    let file = record.arrived.as_ref().map(|arrived| arrived.file.as_str());
    let records = record.arrived.as_ref().and_then(|arrived| arrived.records);
    let discarded = record.discarded.as_ref().map(|discarded| discarded.file.as_str());
    let reasons = record.discarded.as_ref().map(|discarded| discarded.reasons.join("; "));
    let outcome = record.state.as_str();
    match record.state {
        ArrivalOutcome::Missing if change.warns => {
            tracing::warn!(client, contract, files, %due, discarded, reasons, "no file has arrived for a due time");
        }
        ArrivalOutcome::TooSmall if change.warns => {
            tracing::warn!(client, contract, files, %due, file, records, "a file has fewer records than expected");
        }
        ArrivalOutcome::Repeated if change.warns => {
            tracing::warn!(client, contract, files, %due, file, "another file has arrived for a due time that had one");
        }
        ArrivalOutcome::Expected => {
            tracing::debug!(client, contract, %due, "a due time is in the future again")
        }
        ArrivalOutcome::OnTime | ArrivalOutcome::Late => {
            tracing::info!(client, contract, %due, outcome, file, "a file has arrived for a due time")
        }
        ArrivalOutcome::Missing | ArrivalOutcome::TooSmall | ArrivalOutcome::Repeated => {
            tracing::info!(client, contract, %due, outcome, file, "a due time was judged again")
        }
    }
}

/// Shows how a contract is.
pub(super) fn show(client: &ClientId, contract: &str, next_due: Timestamp, is_overdue: bool) {
    let labels = [client.as_str(), contract];
    metrics().arrival_due.with(labels).set(next_due.as_duration().as_secs_f64());
    metrics().arrival_overdue.with(labels).set(i64::from(is_overdue));
}

/// Shows what a contract will count as 0, so that the first one is an increase.
pub(super) fn configured(client: &ClientId, contract: &str) {
    for outcome in counted() {
        metrics().arrivals.with([client.as_str(), contract, outcome.as_str()]);
    }
}

/// Shows a contract that was removed no longer.
pub(super) fn forget(client: &ClientId, contract: &str) {
    for outcome in counted() {
        metrics().arrivals.remove([client.as_str(), contract, outcome.as_str()]);
    }
    metrics().arrival_due.remove([client.as_str(), contract]);
    metrics().arrival_overdue.remove([client.as_str(), contract]);
}

fn counted() -> impl Iterator<Item = ArrivalOutcome> {
    ArrivalOutcome::ALL.into_iter().filter(|outcome| *outcome != ArrivalOutcome::Expected)
}
