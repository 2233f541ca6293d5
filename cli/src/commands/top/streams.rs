//! A row for each stream. Pure.

use super::api::{Decision, Stream};
use super::model::Sort;
use crate::local_time;

/// The streams in this order; by name they are in the order of clients.
pub fn sorted(streams: &[Stream], sort: Sort) -> Vec<&Stream> {
    let mut sorted: Vec<&Stream> = streams.iter().collect();
    sorted.sort_by(|a, b| (&a.client, &a.stream).cmp(&(&b.client, &b.stream)));
    match sort {
        Sort::Name => {}
        Sort::Rate => sorted.sort_by(|a, b| throughput(b).total_cmp(&throughput(a))),
        Sort::Queue => sorted.sort_by_key(|stream| std::cmp::Reverse(backlog(stream))),
        Sort::Trouble => sorted.sort_by_key(|stream| std::cmp::Reverse(missing(stream))),
    }
    sorted
}

pub fn name(stream: &Stream) -> String {
    format!("{}/{}", stream.client, stream.stream)
}

/// How many instances run.
pub fn running(stream: &Stream) -> u64 {
    stream.instances.iter().filter(|instance| &*instance.state == "running").count() as u64
}

fn missing(stream: &Stream) -> u64 {
    let silent = stream.instances.iter().filter(|instance| instance.silent_seconds.is_some()).count();
    stream.desired.saturating_sub(running(stream)) + silent as u64
}

/// The share of time in which the running instances were storing, on average; `None` if their reports do not tell.
pub fn load(stream: &Stream) -> Option<f64> {
    let running = stream.instances.iter().filter(|instance| &*instance.state == "running");
    let known: Vec<f64> = running.filter_map(|instance| instance.utilization).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// Messages per second of all instances.
pub fn throughput(stream: &Stream) -> f64 {
    stream.instances.iter().map(|instance| instance.messages_per_second).sum()
}

/// Messages received and not acknowledged.
pub fn backlog(stream: &Stream) -> u64 {
    stream.instances.iter().map(|instance| instance.backlog).sum()
}

/// Why there are as many instances as there are: the last decision, and the last one that changed the number.
pub fn decision(stream: &Stream) -> String {
    if let Some(reason) = &stream.waits_for {
        return format!("waits: {reason}");
    }
    let change = stream.decisions.iter().find(|decision| decision.before != decision.desired);
    let change = change.map(|Decision { at, before, desired, reason }| {
        format!("{} {before} → {desired}: {reason}", local_time::of(*at))
    });
    match (stream.decisions.first(), change) {
        (Some(last), Some(change)) if last.before == last.desired => format!("{}; {change}", last.reason),
        (_, Some(change)) => change,
        (Some(last), None) => last.reason.to_string(),
        (None, None) => "none yet".to_owned(),
    }
}
