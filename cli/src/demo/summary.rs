//! Counts what has arrived, in the store itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use mysimbdp_config::Client;
use mysimbdp_model::outcome::Counts;
use mysimbdp_platform::files;
use mysimbdp_store::Coredms;
use mysimbdp_store::history::History;

use super::data_root::{DOCUMENTS, DemoRoot, OBJECTS, STREAM, WEATHER};
use crate::error::CommandError;
use crate::table;

/// One client's row of the table.
#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    files: u64,
    micro_batches: u64,
    counts: Counts,
    discarded: u64,
    /// Documents in the client's collection; for objects, the files that read back byte for byte.
    in_coredms: u64,
    seconds: f64,
}

/// What has arrived so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    rows: BTreeMap<&'static str, Row>,
}

impl Summary {
    fn row(&self, client: &str) -> Row {
        self.rows.get(client).cloned().unwrap_or_default()
    }

    pub fn documents_stored(&self) -> u64 {
        self.row(DOCUMENTS).in_coredms
    }

    pub fn messages_stored(&self) -> u64 {
        self.row(STREAM).in_coredms
    }

    /// Whether everything has ended, successfully or not.
    pub fn is_complete(&self, demo_root: &DemoRoot) -> bool {
        let stream = self.row(STREAM);
        self.row(OBJECTS).files == 1
            && self.row(DOCUMENTS).files == 1
            && self.row(DOCUMENTS).discarded == 1
            && stream.in_coredms + stream.counts.rejected >= demo_root.rows()
    }

    pub fn table(&self) -> String {
        let header = [
            "client",
            "files",
            "micro-batches",
            "received",
            "stored",
            "duplicates",
            "rejected",
            "discarded files",
            "in coredms",
            "seconds",
        ];
        let rows = self.rows.iter().map(|(client, row)| {
            let what = match *client {
                OBJECTS => "objects",
                DOCUMENTS => "documents",
                _ => "stream",
            };
            vec![
                format!("{client} ({what})"),
                row.files.to_string(),
                row.micro_batches.to_string(),
                row.counts.received.to_string(),
                row.counts.stored.to_string(),
                row.counts.duplicates.to_string(),
                row.counts.rejected.to_string(),
                row.discarded.to_string(),
                row.in_coredms.to_string(),
                format!("{:.2}", row.seconds),
            ]
        });
        table::render(&header, rows)
    }

    /// Compares what has arrived with what the demo sent; `reconcile` compares what was received with what is stored.
    pub fn faults(&self, demo_root: &DemoRoot) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expect = |client: &str, what: &str, is: u64, must_be: u64| {
            if is != must_be {
                faults.push(format!("{client}: {what}: {is}, expected {must_be}"));
            }
        };
        for (client, row) in &self.rows {
            expect(client, "received", row.counts.received, demo_root.rows());
            expect(client, "discarded files", row.discarded, u64::from(*client == DOCUMENTS));
            // Only the demo knows which bytes were sent.
            if *client == OBJECTS {
                expect(client, "objects that read back as they were", row.in_coredms, 1);
            }
        }
        faults
    }
}

/// The open databases, and what else is needed to count repeatedly.
#[derive(Debug)]
pub struct Counter<'a> {
    demo_root: &'a DemoRoot,
    started: Instant,
    history: History,
    clients: BTreeMap<&'static str, (Arc<dyn Coredms>, &'a Client)>,
    stream_seconds: Option<f64>,
}

impl<'a> Counter<'a> {
    pub async fn open(demo_root: &'a DemoRoot, started: Instant) -> Result<Self, CommandError> {
        let url = &demo_root.config.coredms_url;
        let history = mysimbdp_query::open_history(&demo_root.config).await?;
        let mut clients = BTreeMap::new();
        for id in [OBJECTS, DOCUMENTS, STREAM] {
            let client = demo_root.client(id)?;
            clients.insert(id, (mysimbdp_store::open(url, &client.database).await?, client));
        }
        Ok(Self { demo_root, started, history, clients, stream_seconds: None })
    }

    pub async fn count(&mut self) -> Result<Summary, CommandError> {
        let mut summary = Summary::default();
        for id in [OBJECTS, DOCUMENTS] {
            summary.rows.insert(id, self.batch(id).await?);
        }
        summary.rows.insert(STREAM, self.stream().await?);
        Ok(summary)
    }

    async fn batch(&self, id: &str) -> Result<Row, CommandError> {
        let (store, client) = &self.clients[id];
        let mut row = Row::default();
        for run in self.history.page(Some(&client.id), None).await?.runs.into_iter().flatten() {
            row.files += 1;
            row.micro_batches += u64::from(run.micro_batches);
            row.counts += Counts {
                received: run.received as u64,
                stored: run.stored as u64,
                duplicates: run.duplicates as u64,
                rejected: run.rejected as u64,
            };
            row.seconds += run.seconds;
            if id == OBJECTS
                && let Some(app) = client.apps.first()
                && let Ok(ingestion) = run.ingestion.parse()
            {
                let content = store.object(&app.collection, ingestion).await?;
                row.in_coredms += u64::from(content.as_deref() == Some(WEATHER.as_bytes()));
            }
        }
        if id == DOCUMENTS
            && let Some(app) = client.apps.first()
        {
            row.in_coredms = store.count(&app.collection).await?;
        }
        row.discarded = files::list(&self.demo_root.config.layout.discarded_root().join(id))?.len() as u64;
        Ok(row)
    }

    async fn stream(&mut self) -> Result<Row, CommandError> {
        let (store, client) = &self.clients[STREAM];
        let mut row = Row::default();
        if let Some(stream) = client.streams.first() {
            row.in_coredms = store.count(&stream.collection).await?;
        }
        let rejected = store.count("rejected").await?;
        // What is not in the store does not count as received: nobody may rely on it.
        row.counts =
            Counts { received: row.in_coredms + rejected, stored: row.in_coredms, duplicates: 0, rejected };
        if row.counts.received >= self.demo_root.rows() {
            row.seconds = *self.stream_seconds.get_or_insert(self.started.elapsed().as_secs_f64());
        }
        Ok(row)
    }
}
