//! Tells that the intake pauses, and that it goes on: once each in the log, and all the while in `mysimbdp status`.

use std::collections::{BTreeMap, BTreeSet};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::sign::Sign;

use crate::ROLE;
use crate::room::Shortage;

/// For people who wonder why their files stay at the drop point.
#[derive(Debug)]
pub(crate) struct Pause {
    sign: Sign,
    /// For whom it was said; `None` are all clients.
    said: BTreeSet<Option<ClientId>>,
}

impl Pause {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { sign: Sign::new(layout, ROLE, "intake"), said: BTreeSet::new() }
    }

    /// Tells what has changed since the last time.
    pub(crate) fn tell(&mut self, shortages: &BTreeMap<Option<ClientId>, Shortage>) {
        for (client, shortage) in shortages.iter().filter(|(client, _)| !self.said.contains(client)) {
            tracing::warn!(client = of(client), reason = %shortage, "intake pauses, files stay at the drop point");
        }
        for client in self.said.iter().filter(|client| !shortages.contains_key(client)) {
            tracing::info!(client = of(client), "intake goes on");
        }
        self.said = shortages.keys().cloned().collect();
        let reasons: Vec<String> = shortages.values().map(ToString::to_string).collect();
        self.sign.show((!reasons.is_empty()).then(|| format!("intake pauses: {}", reasons.join("; "))));
    }
}

fn of(client: &Option<ClientId>) -> &str {
    client.as_ref().map_or("all", ClientId::as_str)
}
