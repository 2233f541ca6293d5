//! Handles the messages that have arrived over MQTT.

use std::time::{Duration, Instant};

use mysimbdp_broker::Incoming;
use mysimbdp_model::message::Report;
use mysimbdp_telemetry::logging::Unreported;
use mysimbdp_telemetry::timing::{Stage, Timing};
use tokio::sync::oneshot;

use super::Manager;
use crate::control::Call;
use crate::key::StreamKey;
use crate::observe::{InvalidMessage, Observed, observe};

impl Manager {
    pub(super) fn handle_messages(&mut self, messages: Vec<Incoming>) {
        for incoming in messages {
            let topic = incoming.topic.clone();
            match observe(incoming, &self.config, |report| self.identify(report)) {
                Ok(Observed::Report { report, stream, slot }) => self.handle_report(&report, &stream, slot),
                Ok(Observed::Request { request, from }) => {
                    let (reply, answered) = oneshot::channel();
                    if let Some(link) = self.broker.link()
                        && let Err(invalid) = self.replies.publish_when_answered(
                            request.id.clone(),
                            from,
                            link.clone(),
                            answered,
                        )
                    {
                        self.count_invalid(invalid, topic);
                    }
                    self.handle_request(Call { request, reply });
                }
                Err(invalid) => self.count_invalid(invalid, topic),
            }
        }
    }

    fn count_invalid(&mut self, invalid: InvalidMessage, topic: String) {
        if let Some((reason, topic)) = self.invalid.count((), (invalid, topic), Instant::now()) {
            tracing::warn!(count = 1, topic, %reason, "messages ignored");
        }
    }

    pub(super) fn log_invalid(&mut self) {
        for ((), Unreported { count, last: (reason, topic) }) in self.invalid.due(Instant::now()) {
            tracing::warn!(count, topic, %reason, "messages ignored");
        }
    }

    /// Returns the stream that a report is about, and the slot if the report names its instance. A report without a name is
    /// about the client's only stream; a name must be that of a running process.
    fn identify(&self, report: &Report) -> Option<(StreamKey, Option<u32>)> {
        let mut streams = self.streams.values().filter(|stream| stream.key.client == report.client_name);
        let Some(instance) = &report.instance else {
            let only = streams.next()?;
            return streams.next().is_none().then(|| (only.key.clone(), None));
        };
        streams.find_map(|stream| {
            let mut slots = stream.numbered().filter(|(_, state)| state.instance().is_some());
            let named =
                slots.find(|(slot, _)| stream.key.slot(*slot).instance_name(&self.config) == *instance);
            named.map(|(slot, _)| (stream.key.clone(), Some(slot)))
        })
    }

    fn handle_report(&mut self, report: &Report, key: &StreamKey, slot: Option<u32>) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.record_report(report, slot, Instant::now());
        if !report.balances() {
            tracing::warn!(
                client = %key.client,
                instance = report.instance.as_deref().unwrap_or(&key.stream),
                ingested = report.total_number_of_messages_ingested,
                stored = report.stored,
                duplicates = report.duplicates,
                "report does not balance: ingested is not stored plus duplicates"
            );
        }
        let every = self.config.settings.stream_manager.report_every.duration();
        // Logged here and not in the app: a line for each batch of the app would be more to write than what it stores.
        let line = |stage, took| Timing {
            stage,
            client: key.client.as_str(),
            ingestion: report.instance.as_deref().unwrap_or(&key.stream),
            file: &stream.config.topic_filter,
            bytes: report.total_size_of_messages_ingested,
            records: report.total_number_of_messages_ingested,
            took,
        };
        if report.total_number_of_messages_ingested > 0 {
            line(Stage::Batch, Duration::from_secs_f64(report.average_processing_time)).log();
        }
        line(Stage::Report, report.interval.map_or(every, Duration::from_secs_f64)).log();
    }
}
