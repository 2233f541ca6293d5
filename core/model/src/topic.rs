//! The MQTT topics, below one configurable prefix.

use crate::client::ClientId;
use crate::source::SourceName;

/// Builds the topics of one platform and recognises them when they arrive.
#[derive(Clone, Debug)]
pub struct Topics {
    prefix: String,
}

impl Topics {
    /// `prefix` has no slash at its end; config validation has made sure that it has no wildcard.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    pub fn staged(&self, client: &ClientId) -> String {
        format!("{}/batch/staged/{client}", self.prefix)
    }

    pub fn all_staged(&self) -> String {
        format!("{}/batch/staged/+", self.prefix)
    }

    pub fn finished(&self, client: &ClientId) -> String {
        format!("{}/batch/finished/{client}", self.prefix)
    }

    pub fn all_finished(&self) -> String {
        format!("{}/batch/finished/+", self.prefix)
    }

    pub fn reports(&self, client: &ClientId) -> String {
        format!("{}/stream/reports/{client}", self.prefix)
    }

    pub fn all_reports(&self) -> String {
        format!("{}/stream/reports/+", self.prefix)
    }

    pub fn control(&self) -> String {
        format!("{}/stream/control", self.prefix)
    }

    pub fn instance(&self, client: &ClientId, stream: &str, slot: u32) -> String {
        format!("{}/stream/instances/{client}/{stream}-{slot}", self.prefix)
    }

    /// Where the instances of a stream announce what they have stored.
    pub fn stored(&self, client: &ClientId, stream: &str) -> String {
        format!("{}/stream/stored/{client}/{stream}", self.prefix)
    }

    pub fn all_stored(&self) -> String {
        format!("{}/stream/stored/+/+", self.prefix)
    }

    /// The client and the stream that `topic` is about, if it is one of [`Topics::stored`].
    pub fn stored_by<'t>(&self, topic: &'t str) -> Option<(ClientId, &'t str)> {
        let levels = topic.strip_prefix(&self.prefix)?.strip_prefix("/stream/stored/")?;
        let (client, stream) = levels.split_once('/')?;
        Some((client.parse().ok()?, stream))
    }

    /// Where a numbered source receives its receipts: how far its messages are stored.
    pub fn receipts(&self, client: &ClientId, source: &SourceName) -> String {
        format!("{}/{source}", self.receipts_of(client))
    }

    /// Where a numbered source publishes, unless it is configured otherwise; matches [`Topics::ingest_filter`].
    pub fn ingest(&self, client: &ClientId, source: &SourceName) -> String {
        format!("{}/ingest/{client}/{source}", self.prefix)
    }

    /// The common beginning of [`Topics::receipts`] for all sources of a client, up to the slash before the source.
    pub fn receipts_of(&self, client: &ClientId) -> String {
        format!("{}/receipts/{client}", self.prefix)
    }

    /// What a client's stream apps subscribe to if the config names no filter.
    pub fn ingest_filter(&self, client: &ClientId) -> String {
        format!("{}/ingest/{client}/#", self.prefix)
    }

    /// Returns a reserved filter that `filter` overlaps and that `client` may not read: the platform's own topics, or
    /// another client's. Receipts are for the sources of their client, and so for its streams too.
    pub fn foreign(&self, client: &ClientId, filter: &str) -> Option<String> {
        let own = |kind: &str| {
            let remainder = filter.strip_prefix(&format!("{}/{kind}/{client}", self.prefix));
            remainder.is_some_and(|remainder| remainder.is_empty() || remainder.starts_with('/'))
        };
        let reserved = [("ingest", "+/#"), ("receipts", "+/#"), ("batch", "#"), ("stream", "#")];
        let mut reserved = reserved
            .iter()
            .filter(|(kind, _)| !own(kind))
            .map(|(kind, levels)| format!("{}/{kind}/{levels}", self.prefix));
        reserved.find(|reserved| overlap(filter, reserved))
    }

    /// The client that `topic` ends in, if it is `filter` with that client in place of the `+`.
    pub fn client_of(&self, filter: &str, topic: &str) -> Option<ClientId> {
        let level = topic.strip_prefix(filter.strip_suffix('+')?)?;
        level.parse().ok()
    }
}

/// Whether `filter` is a topic filter that MQTT allows: `+` alone in its level, `#` alone in the last.
pub fn is_filter(filter: &str) -> bool {
    let levels: Vec<&str> = filter.split('/').collect();
    let last = levels.len() - 1;
    !filter.is_empty()
        && filter.len() <= 65_535
        && !filter.contains('\0')
        && levels.iter().enumerate().all(|(position, level)| match *level {
            "+" => true,
            "#" => position == last,
            other => !other.contains(['+', '#']),
        })
}

/// Whether any topic matches both filters.
pub fn overlap(one: &str, other: &str) -> bool {
    // A wildcard at the beginning matches no topic that begins with $.
    let is_hidden = |filter: &str| filter.starts_with('$');
    let is_open = |filter: &str| filter.starts_with(['+', '#']);
    if is_hidden(one) && is_open(other) || is_open(one) && is_hidden(other) {
        return false;
    }
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            // `#` matches the level above it too.
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(left), Some(right)) if left == right || left == "+" || right == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_topic_yields_its_client_and_an_invalid_one_yields_none() {
        let topics = Topics::new("mysimbdp");
        let of = |topic| topics.client_of(&topics.all_reports(), topic).map(String::from);
        assert_eq!(of("mysimbdp/stream/reports/client1").as_deref(), Some("client1"));
        for invalid in [
            "mysimbdp/stream/reports/",
            "mysimbdp/stream/reports/a/b",
            "x/stream/reports/a",
            "mysimbdp/stream/reports/..",
        ] {
            assert_eq!(of(invalid), None, "{invalid}");
        }
        let client = "client1".parse().expect("client id");
        let stored = topics.stored(&client, "readings");
        assert_eq!(topics.stored_by(&stored), Some((client, "readings")));
        assert_eq!(topics.stored_by("mysimbdp/stream/stored/.."), None);
    }

    #[test]
    fn filters_overlap_if_a_topic_matches_both() {
        for (one, other, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/+/c", "a/b/#", true),
            ("a/+", "a/b/c", false),
            ("+/b", "a/+", true),
            ("+/b", "a/c", false),
            ("a//b", "a/+/b", true),
            ("#", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
        ] {
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn topics_of_another_client_or_of_the_platform_are_foreign() {
        let (topics, client) = (Topics::new("p/q"), "a".parse().expect("client id"));
        let foreign = |filter: &str| topics.foreign(&client, filter);
        for own in [
            "p/q/ingest/a",
            "p/q/ingest/a/#",
            "p/q/ingest/a/+/x",
            "p/q/receipts/a/#",
            "p/q/else",
            "p/+",
            "x/#",
            "$SYS/#",
        ] {
            assert_eq!(foreign(own), None, "{own}");
        }
        for (filter, reserved) in [
            ("#", "p/q/ingest/+/#"),
            ("+/#", "p/q/ingest/+/#"),
            ("p/q/#", "p/q/ingest/+/#"),
            ("p/q/ingest/#", "p/q/ingest/+/#"),
            ("p/q/ingest/+/x", "p/q/ingest/+/#"),
            ("p/q/ingest/b/x", "p/q/ingest/+/#"),
            ("p/q/ingest/ab/x", "p/q/ingest/+/#"),
            ("p/q/receipts/b/x", "p/q/receipts/+/#"),
            ("+/+/batch/#", "p/q/batch/#"),
            ("p/q/stream/control", "p/q/stream/#"),
        ] {
            assert_eq!(foreign(filter).as_deref(), Some(reserved), "{filter}");
        }
    }

    #[test]
    fn filters_follow_the_rules_of_mqtt() {
        for good in ["a", "a/+/b", "#", "a/#", "+", "/", "a//b"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "a#", "a/#/b", "a+", "+a/b", "a\0"] {
            assert!(!is_filter(bad), "{bad:?}");
        }
    }
}
