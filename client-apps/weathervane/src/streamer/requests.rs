//! Hears which batches are asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_core::chain;
use mysimbdp_core::config::Config;
use mysimbdp_core::io::broker::{BrokerLink, ConnectOptions, LinkEvent};
use mysimbdp_core::io::{address, random};
use tokio::sync::mpsc;

use crate::batch::{BATCHES_MAX, Hour, Request};

/// How often it is looked where the broker is: the embedded one may be another one after a restart.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The connection on which requests come. Without one nothing is asked for, and it is asked again later.
#[derive(Debug)]
pub struct Requests {
    config: Arc<Config>,
    topic: String,
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    url: String,
    /// Keeps the connection.
    _link: BrokerLink,
    events: mpsc::Receiver<LinkEvent>,
}

impl Requests {
    pub fn new(config: Arc<Config>, topic: String) -> Self {
        Self { config, topic, link: None }
    }

    /// The next request. May be dropped and called again.
    pub async fn next(&mut self) -> Request {
        loop {
            self.renew();
            let Some(link) = &mut self.link else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            match tokio::time::timeout(LOOK_EVERY, link.events.recv()).await {
                Ok(Some(LinkEvent::Message(message))) => match parse(&message.payload) {
                    Ok(request) => return request,
                    Err(reason) => tracing::warn!(reason, "refused a request"),
                },
                Ok(Some(LinkEvent::Connected | LinkEvent::Disconnected { .. })) | Err(_) => {}
                Ok(None) => self.link = None,
            }
        }
    }

    /// Connects where there is no connection, or the broker has another address now.
    fn renew(&mut self) {
        // One that cannot be found may still be connected.
        let Ok(url) = address::broker(&self.config) else { return };
        if self.link.as_ref().is_some_and(|link| link.url == url) {
            return;
        }
        let name = self.config.settings.broker.topic_prefix.replace('/', "-");
        let mut options =
            ConnectOptions::new(&url, format!("{name}-weathervane-{:08x}", random::number() as u32));
        options.keep_alive = self.config.broker_keep_alive;
        self.link = match BrokerLink::connect(options, vec![self.topic.clone()]) {
            Ok((link, events)) => Some(Link { url, _link: link, events }),
            Err(error) => {
                tracing::error!(error = chain(&error), "cannot listen for requests");
                None
            }
        };
    }
}

fn parse(payload: &[u8]) -> Result<Request, String> {
    let request: Request = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    match &request.missing {
        Some(missing) if missing.len() > BATCHES_MAX as usize => {
            Err(format!("{} batches, allowed are {BATCHES_MAX}", missing.len()))
        }
        _ => Ok(request),
    }
}

/// What was sent again and is not received yet.
#[derive(Debug, Default)]
pub struct Repeats {
    numbers: BTreeMap<(Hour, u32), u64>,
}

impl Repeats {
    /// Whether a batch is not on its way, where all numbers through `received_through` have arrived.
    pub fn may_send(&mut self, batch: &(Hour, u32), received_through: u64) -> bool {
        self.numbers.retain(|_, number| *number > received_through);
        !self.numbers.contains_key(batch)
    }

    pub fn sent(&mut self, batch: (Hour, u32), number: u64) {
        self.numbers.insert(batch, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::hour;

    #[test]
    fn a_batch_is_not_sent_again_while_it_is_on_its_way() {
        let mut repeats = Repeats::default();
        let batch = (hour(1), 2);
        assert!(repeats.may_send(&batch, 7));
        repeats.sent(batch.clone(), 9);
        assert!(!repeats.may_send(&batch, 8));
        assert!(repeats.may_send(&(hour(1), 1), 8));
        assert!(repeats.may_send(&batch, 9), "it has arrived, and is missed all the same");
    }

    #[test]
    fn forged_requests_are_refused() {
        assert!(parse(br#"{"hour":"2013-01-01T01:00:00Z","missing":[1]}"#).is_ok());
        assert!(parse(br#"{"hour":"2013-01-01T01:00:00Z","missing":null}"#).is_ok());
        let many = format!(r#"{{"hour":"2013-01-01T01:00:00Z","missing":{:?}}}"#, vec![0; 1001]);
        for forged in ["", "[]", "{}", r#"{"hour":"yesterday","missing":[1]}"#, r#"{"hour":1}"#, &many] {
            assert!(parse(forged.as_bytes()).is_err(), "{forged}");
        }
    }
}
