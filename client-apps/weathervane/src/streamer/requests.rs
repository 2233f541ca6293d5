//! Receives requests for batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use mysimbdp_broker::{FollowingLink, LinkEvent};
use mysimbdp_config::{Config, address};

use crate::batch::{BATCHES_MAX, Hour, ResendRequest};

/// The connection on which requests arrive. Requests that are missed without a connection are repeated later.
#[derive(Debug)]
pub struct Requests {
    session: FollowingLink,
}

impl Requests {
    pub fn new(config: &Arc<Config>, topic: String) -> Self {
        Self { session: address::session(config, "weathervane", vec![topic]) }
    }

    /// Waits for the next request. The future may be dropped and the function called again.
    pub async fn next(&mut self) -> ResendRequest {
        loop {
            let LinkEvent::Message(message) = self.session.next().await else { continue };
            match parse(&message.payload) {
                Ok(request) => return request,
                Err(reason) => tracing::warn!(reason, "invalid request ignored"),
            }
        }
    }
}

fn parse(payload: &[u8]) -> Result<ResendRequest, String> {
    let request: ResendRequest = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    match &request.missing {
        Some(missing) if missing.len() > BATCHES_MAX as usize => {
            Err(format!("{} batches: the limit is {BATCHES_MAX}", missing.len()))
        }
        _ => Ok(request),
    }
}

/// Batches that were sent again and are not received yet.
#[derive(Debug, Default)]
pub struct Repeats {
    numbers: BTreeMap<(Hour, u32), u64>,
}

impl Repeats {
    /// Whether a batch is not being sent at the moment. All numbers through `received_through` have arrived.
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
    fn a_batch_is_not_sent_again_while_it_is_being_sent() {
        let mut repeats = Repeats::default();
        let batch = (hour(1), 2);
        assert!(repeats.may_send(&batch, 7));
        repeats.sent(batch.clone(), 9);
        assert!(!repeats.may_send(&batch, 8));
        assert!(repeats.may_send(&(hour(1), 1), 8));
        assert!(repeats.may_send(&batch, 9), "it has been received, but is requested again");
    }

    #[test]
    fn invalid_requests_are_refused() {
        assert!(parse(br#"{"hour":"2013-01-01T01:00:00Z","missing":[1]}"#).is_ok());
        assert!(parse(br#"{"hour":"2013-01-01T01:00:00Z","missing":null}"#).is_ok());
        let many = format!(r#"{{"hour":"2013-01-01T01:00:00Z","missing":{:?}}}"#, vec![0; 1001]);
        for invalid in ["", "[]", "{}", r#"{"hour":"yesterday","missing":[1]}"#, r#"{"hour":1}"#, &many] {
            assert!(parse(invalid.as_bytes()).is_err(), "{invalid}");
        }
    }
}
