//! The streams, as the running stream-manager reports them.

use mysimbdp_config::Config;
use mysimbdp_stream_manager::control::client;
use mysimbdp_stream_manager::control::{InstanceStatus, StreamStatus};
use tokio::time::timeout;

use super::{Condition, Part, PartKind, WITHIN};

/// Returns a part for each stream, and the streams themselves if the stream-manager answers.
pub(super) async fn ask(config: &Config) -> (Vec<Part>, Option<Vec<StreamStatus>>) {
    match timeout(WITHIN, client::list(&config.layout)).await {
        Ok(Ok(streams)) => (streams.iter().map(part).collect(), Some(streams)),
        // The part of the stream-manager reports that it is not running.
        Ok(Err(_)) => (Vec::new(), None),
        Err(_) => {
            let text = format!("the stream-manager does not answer within {WITHIN:?}");
            (vec![Part::new(PartKind::Process, "stream-manager", Condition::Waits, text)], None)
        }
    }
}

fn part(stream: &StreamStatus) -> Part {
    let (condition, text) = condition(stream);
    let text = if stream.is_manual { format!("{text}, {MANUAL}") } else { text };
    Part::new(PartKind::Stream, format!("{}/{}", stream.client, stream.stream), condition, text)
}

const MANUAL: &str = "by manual override";

fn condition(stream: &StreamStatus) -> (Condition, String) {
    let count = |accept: &dyn Fn(&InstanceStatus) -> bool| {
        stream.instances.iter().filter(|instance| accept(instance)).count() as u32
    };
    let running = count(&|instance| instance.state == "running");
    let runs = format!("{running} of {} instances run", stream.desired);
    let given_up = count(&|instance| instance.state == "given-up");
    if given_up > 0 {
        return (
            Condition::Missing,
            format!("{runs}, {given_up} crashed too often and wait for `mysimbdp start`"),
        );
    }
    if let Some(silent) = stream.instances.iter().find_map(|instance| instance.silent_seconds) {
        return (
            Condition::Waits,
            format!("{runs}, one is unhealthy: it has reported nothing for {silent} s"),
        );
    }
    match &stream.waits_for {
        Some(waits_for) if running < stream.desired => {
            (Condition::Waits, format!("{runs}, because {waits_for}"))
        }
        _ if running < stream.desired => (Condition::Waits, runs),
        _ => (Condition::Good, runs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(desired: u32, instances: &[(&str, Option<u64>)]) -> StreamStatus {
        let instance = |(slot, (state, silent_seconds)): (u32, &(&str, Option<u64>))| InstanceStatus {
            slot,
            state: (*state).to_owned(),
            pid: Some(7),
            started_at: None,
            uptime_seconds: None,
            adopted: false,
            messages: 0,
            messages_per_second: 0.0,
            average_processing_seconds: 0.0,
            utilization: None,
            restarts: 0,
            backlog: 0,
            rejected: 0,
            reported_seconds_ago: None,
            silent_seconds: *silent_seconds,
        };
        StreamStatus {
            client: "a".parse().expect("a client id"),
            stream: "stream".to_owned(),
            desired,
            is_manual: false,
            min: 0,
            max: 3,
            ready: true,
            waits_for: None,
            decisions: Vec::new(),
            instances: (0..).zip(instances).map(instance).collect(),
        }
    }

    #[test]
    fn a_stream_is_as_good_as_its_worst_instance() {
        for (stream, expected) in [
            (stream(1, &[("running", None)]), Condition::Good),
            (stream(0, &[("parked", None)]), Condition::Good),
            (stream(2, &[("running", None), ("backing-off", None)]), Condition::Waits),
            (stream(1, &[("running", Some(90))]), Condition::Waits),
            (stream(2, &[("running", None), ("given-up", None)]), Condition::Missing),
        ] {
            assert_eq!(condition(&stream).0, expected, "{stream:?}");
        }
        let waits_for = Some("the store is unavailable".to_owned());
        let (condition, text) = condition(&StreamStatus { waits_for, ..stream(1, &[]) });
        assert_eq!(
            (condition, text.as_str()),
            (Condition::Waits, "0 of 1 instances run, because the store is unavailable")
        );
    }
}
