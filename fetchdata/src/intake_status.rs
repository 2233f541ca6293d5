//! Reports that the intake pauses and that it resumes: once each in the log, and continuously in `mysimbdp status`.

use std::collections::{BTreeMap, BTreeSet};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::notice::NoticeFile;

use crate::PROCESS_NAME;
use crate::admission::Shortage;

/// For people who wonder why their files stay in the drop directory.
#[derive(Debug)]
pub(crate) struct IntakeStatus {
    notice_file: NoticeFile,
    /// The clients for which a pause is logged; `None` stands for all clients.
    announced: BTreeSet<Option<ClientId>>,
}

impl IntakeStatus {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { notice_file: NoticeFile::new(layout, PROCESS_NAME, "intake"), announced: BTreeSet::new() }
    }

    /// Reports what has changed since the last call.
    pub(crate) fn update(&mut self, shortages: &BTreeMap<Option<ClientId>, Shortage>) {
        for (client, shortage) in shortages.iter().filter(|(client, _)| !self.announced.contains(client)) {
            tracing::warn!(client = client_name(client), reason = %shortage, "intake pauses, files stay in the drop directory");
        }
        for client in self.announced.iter().filter(|client| !shortages.contains_key(client)) {
            tracing::info!(client = client_name(client), "intake resumes");
        }
        self.announced = shortages.keys().cloned().collect();
        let reasons: Vec<String> = shortages.values().map(ToString::to_string).collect();
        self.notice_file
            .show((!reasons.is_empty()).then(|| format!("intake pauses: {}", reasons.join("; "))));
    }
}

fn client_name(client: &Option<ClientId>) -> &str {
    client.as_ref().map_or("all", ClientId::as_str)
}
