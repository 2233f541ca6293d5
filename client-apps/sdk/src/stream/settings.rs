//! Reads the settings of a stream app from its environment.

use std::time::Duration;

use mysimbdp_model::app::{Ids, env};
use mysimbdp_model::client::ClientId;

use crate::environment::Environment;
use crate::failure::Failure;

/// The shortest report interval. With a shorter one there would be more reports than messages to report.
const REPORT_EVERY_MIN: Duration = Duration::from_millis(100);

/// The settings of one instance of a stream app.
#[derive(Clone, Debug)]
pub struct StreamAppSettings {
    /// The client whose messages these are.
    pub client: ClientId,
    /// Address of the broker: `mqtt://host:port`.
    pub broker: String,
    /// Keep-alive of the MQTT connection: a dead connection is detected after at most twice this time.
    pub keep_alive: Duration,
    /// The complete topic filter, `$share/<client>/…`.
    pub topic_filter: String,
    /// Client id of the MQTT session. It belongs to the slot and outlives the process.
    pub instance: String,
    /// Topic of the retained status and the will; without it no status is published.
    pub instance_topic: Option<String>,
    /// Topic of the reports; without it no reports are published.
    pub report_topic: Option<String>,
    /// Topic on which stored documents are announced; without it they are not.
    pub stored_topic: Option<String>,
    /// Receipts are published to `<this>/<source>`; without it there are none.
    pub receipt_topic: Option<String>,
    /// A number that is missing for this long is requested.
    pub gap_delay: Duration,
    /// The interval between reports.
    pub report_every: Duration,
    /// A batch is written when it has this many messages …
    pub batch_messages_max: usize,
    /// … or when its first message is this old.
    pub batch_wait_max: Duration,
    /// A draining instance ends when no message has arrived for this long.
    pub drain_quiet: Duration,
    /// Address of the store: `mongodb://…` or `sqlite:<directory>`.
    pub coredms: String,
    /// The client's database.
    pub database: String,
    /// The collection for messages that can be stored.
    pub collection: String,
    /// The collection for messages that cannot be stored.
    pub rejected_collection: String,
    /// What the `_id` of a message is made of; never `object`.
    pub ids: Ids,
    /// With `ids: "key"`: the fields that identify a message.
    pub record_key: Vec<String>,
    /// The fields of the message that hold source, epoch and sequence number; without it they are user properties.
    pub number_fields: Option<[String; 3]>,
    /// The client's message structure, a JSON Schema.
    pub message_schema: Option<serde_json::Value>,
}

impl StreamAppSettings {
    /// Reads the settings from an environment, given as a function from name to value.
    ///
    /// # Errors
    ///
    /// [`Failure::Config`] with everything that is missing or wrong.
    pub fn from_environment(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let mut read = Environment::new(get);
        let (ids, record_key) = read.ids(env::IDS, env::RECORD_KEY);
        if ids == Ids::Object {
            read.problem(format!("invalid {} \"object\": expected platform, key or none", env::IDS));
        }
        let client = read.required(env::CLIENT_ID);
        let message_schema = read.optional(env::MESSAGE_SCHEMA).and_then(|text| {
            serde_json::from_str(&text)
                .map_err(|error| read.problem(format!("{}: {error}", env::MESSAGE_SCHEMA)))
                .ok()
        });
        let number_fields = read.optional(env::NUMBER_FIELDS).and_then(|names| {
            let names: Vec<String> = names.split(',').map(str::to_owned).collect();
            let count = names.len();
            names
                .try_into()
                .map_err(|_| read.problem(format!("{} has {count} names: expected 3", env::NUMBER_FIELDS)))
                .ok()
        });
        let report_seconds: f64 = read.parsed(env::REPORT_SECONDS, 60.0);
        let report_every = Duration::try_from_secs_f64(report_seconds).unwrap_or_else(|error| {
            read.problem(format!("{}: {error}", env::REPORT_SECONDS));
            Duration::ZERO
        });
        let settings = client.map(|client| Self {
            client,
            broker: read.text(env::BROKER),
            keep_alive: Duration::from_secs(read.parsed(env::KEEP_ALIVE_SECONDS, 10)),
            topic_filter: read.text(env::TOPIC_FILTER),
            instance: read.text(env::INSTANCE),
            instance_topic: read.optional(env::INSTANCE_TOPIC),
            report_topic: read.optional(env::REPORT_TOPIC),
            stored_topic: read.optional(env::STORED_TOPIC),
            receipt_topic: read.optional(env::RECEIPT_TOPIC),
            gap_delay: Duration::from_millis(read.parsed(env::GAP_DELAY_MILLIS, 2000)),
            // A timer needs a period above zero.
            report_every: report_every.max(REPORT_EVERY_MIN),
            batch_messages_max: read.parsed(env::BATCH_MESSAGES, 1000).clamp(1, 10_000),
            batch_wait_max: Duration::from_millis(read.parsed(env::BATCH_MILLIS, 2)),
            drain_quiet: Duration::from_millis(read.parsed(env::DRAIN_QUIET_MILLIS, 2000)),
            coredms: read.text(env::COREDMS),
            database: read.text(env::DATABASE),
            collection: read.text(env::COLLECTION),
            rejected_collection: read
                .optional(env::REJECTED_COLLECTION)
                .unwrap_or_else(|| "rejected".to_owned()),
            ids,
            record_key,
            number_fields,
            message_schema,
        });
        read.finish(settings)?.ok_or_else(|| Failure::Config(format!("{} is missing", env::CLIENT_ID)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_at_once() {
        let get = |name: &str| match name {
            env::CLIENT_ID => Some("client1".to_owned()),
            env::IDS => Some("object".to_owned()),
            env::MESSAGE_SCHEMA => Some("{".to_owned()),
            env::BATCH_MESSAGES => Some("many".to_owned()),
            _ => None,
        };
        let error = StreamAppSettings::from_environment(&get).expect_err("several problems").to_string();
        for name in
            [env::IDS, env::MESSAGE_SCHEMA, env::BATCH_MESSAGES, env::BROKER, env::COREDMS, env::TOPIC_FILTER]
        {
            assert!(error.contains(name), "{error:?} does not name {name}");
        }
    }
}
