//! Switches to another config: adds and retires streams. A stream that changes is restarted by itself.

use std::sync::Arc;
use std::time::Instant;

use mysimbdp_config::Config;
use mysimbdp_model::error_chain;

use super::Manager;
use super::stream::Stream;
use crate::key::StreamKey;

impl Manager {
    pub(super) fn take_over(&mut self, config: Arc<Config>) {
        self.live.set_running(&config);
        self.config = Arc::clone(&config);
        let configured = |key: &StreamKey| Some(config.client(&key.client)?.stream(&key.stream).is_some());
        for stream in self.streams.values_mut().filter(|stream| configured(&stream.key) != Some(true)) {
            stream.retired = true;
        }
        for client in config.clients.values() {
            for stream in &client.streams {
                let key = StreamKey { client: client.id.clone(), stream: stream.name.clone() };
                let is_prepared = match self.streams.get_mut(&key) {
                    Some(known) => {
                        let is_prepared =
                            known.prepared && !known.retired && known.needs_same_preparation(client, stream);
                        known.take_over(&config, client, stream);
                        is_prepared
                    }
                    None => {
                        let new = Stream::new(&config, client, stream, Instant::now());
                        self.streams.insert(key.clone(), new);
                        false
                    }
                };
                if !is_prepared {
                    self.begin_to_prepare(&key);
                }
            }
        }
    }

    /// Removes the retired streams whose instances have all ended. Their sessions expire at the broker by themselves.
    pub(super) fn remove_retired(&mut self) {
        let is_over =
            |stream: &Stream| stream.retired && stream.slots.iter().all(|slot| slot.instance().is_none());
        let over: Vec<StreamKey> =
            self.streams.values().filter(|stream| is_over(stream)).map(|stream| stream.key.clone()).collect();
        for key in over {
            let Some(stream) = self.streams.remove(&key) else { continue };
            crate::metrics::removed(&key);
            tracing::info!(client = %key.client, stream = key.stream, "stream is no longer configured, ended");
            for (slot, _) in stream.numbered() {
                if let Err(error) = self.registry.remove(&key.slot(slot)) {
                    let error = error_chain(&error);
                    tracing::error!(instance = %key.slot(slot), error, "end of a session not recorded");
                }
            }
            self.answer_waiting();
        }
    }
}
