//! Runs the program under test in a slot, on a broker and a store of its own, and checks what happens to messages.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use bson::doc;
use mysimbdp_broker::consumer::create_session;
use mysimbdp_broker::{BrokerError, BrokerLink, ConnectOptions, LinkEvent, Publish, Reach};
use mysimbdp_config::REJECTED;
use mysimbdp_model::app::{Ids, env};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_model::message::{Receipt, Report};
use mysimbdp_model::source::Source;
use mysimbdp_platform::files;
use mysimbdp_platform::process::{self, Child, Output, Spawn, Stdin};
use tokio::sync::mpsc;

use super::super::sandbox::Sandbox;
use super::Verdict;
use super::broker::CheckBroker;
use crate::error::CommandError;

/// Longer than any correct program needs for some hundred messages.
const TIMEOUT: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(50);
const BROKER_DEADLINE: Duration = Duration::from_secs(10);
/// As the platform sets it.
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 86_400);

const CLIENT: &str = "check";
const COLLECTION: &str = "check";
const TOPIC: &str = "check/messages";
const FILTER: &str = "$share/check/check/messages";
const INSTANCE: &str = "check-stream-0";
const REPORTS: &str = "check/reports";
const RECEIPTS: &str = "check/receipts";
/// The field that identifies a message of the sample.
const RECORD_KEY: &str = "number";
/// The part of the program's log that is searched for its last line.
const LOG_BYTES: usize = 1000;

/// The program under test, and what must be stored of the messages that it was sent.
#[derive(Debug)]
pub struct StreamBench {
    pub(super) ids: Ids,
    pub(super) client: ClientId,
    pub(super) expected: Expected,
    /// The last receipt that arrived for each source.
    pub(super) receipts: BTreeMap<String, Receipt>,
    sandbox: Sandbox,
    link: BrokerLink,
    events: mpsc::Receiver<LinkEvent>,
    /// Why a report was invalid, if one was.
    bad_report: Option<String>,
    reported: u64,
    /// The number of reports that have arrived.
    pub(super) reports: u64,
    next_number: u64,
    broker: CheckBroker,
}

/// The expected result of what was published.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected {
    pub(super) documents: u64,
    pub(super) rejected: u64,
    /// As reports count: newly stored, and already stored.
    pub(super) ingested: u64,
}

impl StreamBench {
    pub async fn open(ids: Ids, command: &[String]) -> Result<Self, CommandError> {
        let sandbox = Sandbox::open(command).await?;
        let broker = CheckBroker::start(sandbox.directory.join("broker")).await?;
        let filters = vec![REPORTS.to_owned(), format!("{RECEIPTS}/+")];
        let (link, events) =
            BrokerLink::connect(ConnectOptions::new(&broker.url, "check"), filters).map_err(of_broker)?;
        let bench = Self {
            ids,
            client: CLIENT.parse().expect("a client id"),
            expected: Expected::default(),
            receipts: BTreeMap::new(),
            sandbox,
            link,
            events,
            bad_report: None,
            reported: 0,
            reports: 0,
            next_number: 0,
            broker,
        };
        bench.link.wait_connected(BROKER_DEADLINE).await.map_err(of_broker)?;
        // Last of all: if a step before fails, nothing is left in the store.
        for collection in [COLLECTION, REJECTED] {
            bench.sandbox.store.ensure_collection(collection, None).await?;
        }
        Ok(bench)
    }

    /// Removes everything. The programs that were started have ended with their [`Child`].
    pub async fn close(self) -> Result<(), CommandError> {
        self.link.close().await;
        let broker = self.broker.close().await;
        self.sandbox.close().await?;
        broker
    }

    /// Starts the program in the slot. The session is created first, as the platform does.
    pub(super) async fn start(&self) -> Result<Child, CommandError> {
        let options = ConnectOptions {
            session_expiry: Some(SESSION_EXPIRY),
            receive_maximum: 1,
            ..ConnectOptions::new(&self.broker.url, INSTANCE)
        };
        create_session(options, vec![FILTER.to_owned()], BROKER_DEADLINE).await.map_err(of_broker)?;
        self.spawn().await
    }

    /// Starts the program beside another process with the same client id.
    pub(super) async fn spawn(&self) -> Result<Child, CommandError> {
        let sandbox = &self.sandbox;
        let env = [
            (env::CLIENT_ID, CLIENT),
            (env::COREDMS, &sandbox.coredms_url),
            (env::DATABASE, &sandbox.database),
            (env::COLLECTION, COLLECTION),
            (env::REJECTED_COLLECTION, REJECTED),
            (env::IDS, self.ids.as_str()),
            (env::RECORD_KEY, if self.ids == Ids::Key { RECORD_KEY } else { "" }),
            (env::BROKER, &self.broker.url),
            (env::KEEP_ALIVE_SECONDS, "10"),
            (env::TOPIC_FILTER, FILTER),
            (env::INSTANCE, INSTANCE),
            (env::SLOT, "0"),
            (env::INSTANCE_TOPIC, "check/instance"),
            (env::REPORT_TOPIC, REPORTS),
            (env::REPORT_SECONDS, "1"),
            (env::RECEIPT_TOPIC, RECEIPTS),
            (env::GAP_DELAY_MILLIS, "300"),
            (env::BATCH_MESSAGES, "100"),
            (env::BATCH_MILLIS, "10"),
            (env::DRAIN_QUIET_MILLIS, "500"),
        ];
        Spawn {
            program: sandbox.program.clone(),
            args: sandbox.args.clone(),
            env: env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect(),
            directory: sandbox.data_root.clone(),
            stdin: Stdin::Null,
            output: Output::AppendTo(sandbox.directory.join("stream.log")),
            dies_with_parent: Some(process::Signal::KILL),
            owner: Some(sandbox.owner()),
        }
        .start()
        .await
        .map_err(|error| CommandError::of(exit::NO_INPUT, &error))
    }

    /// A JSON object that differs from every other message.
    pub(super) fn sample(&mut self) -> String {
        self.next_number += 1;
        format!(r#"{{"{RECORD_KEY}":{},"text":"wind"}}"#, self.next_number)
    }

    /// Publishes a message, with a number of a source if one is given. Returns whether anybody has subscribed.
    pub(super) async fn publish(
        &self,
        payload: &[u8],
        number: Option<(&Source, u64)>,
    ) -> Result<Reach, CommandError> {
        let user_properties = number.map_or_else(Vec::new, |(source, number)| {
            let texts = [source.name.to_string(), source.epoch.to_string(), number.to_string()];
            ["source", "epoch", "seq"].map(str::to_owned).into_iter().zip(texts).collect()
        });
        let publish = Publish { user_properties, ..Publish::new(TOPIC, payload.to_vec()) };
        self.link.publish_with_reach(publish).await.map_err(of_broker)
    }

    /// Waits until what is expected is in the store and, with `reports`, until the reports confirm it. Nothing more may
    /// be stored, unless the app stores at least once. What is missing in one case is not expected in the next one.
    pub(super) async fn settle(&mut self, child: &mut Child, reports: bool) -> Result<Verdict, CommandError> {
        let verdict = self.compare(child, reports).await?;
        if verdict.is_err() {
            let (documents, rejected) = self.counts().await?;
            self.expected = Expected { documents, rejected, ingested: self.reported };
        }
        Ok(verdict)
    }

    async fn compare(&mut self, child: &mut Child, reports: bool) -> Result<Verdict, CommandError> {
        let deadline = Instant::now() + TIMEOUT;
        let Expected { documents, rejected, ingested } = self.expected;
        loop {
            let (stored, refused) = self.counts().await?;
            let mut found = format!(
                "the store has {stored} documents and {refused} rejected messages, expected {documents} and {rejected}"
            );
            if stored >= documents && refused >= rejected && (!reports || self.reported >= ingested) {
                let is_exact = self.ids == Ids::None || (stored == documents && refused == rejected);
                // What was stored more than once is reported more than once.
                let most = if self.ids == Ids::None { stored } else { ingested };
                if reports && self.reported > most {
                    found.push_str(&format!(
                        ", and its reports count {} ingested ones, expected {most}",
                        self.reported
                    ));
                    return Ok(Err(found));
                }
                return Ok(if is_exact { Ok(()) } else { Err(found) });
            }
            if let Some(status) = self.poll(child).await? {
                return Ok(Err(format!("it ended by itself ({status}) while {found}{}", self.log_tail())));
            }
            if Instant::now() >= deadline {
                if reports && self.reports == 0 {
                    found.push_str(", and no report has come on MYSIMBDP_REPORT_TOPIC");
                } else if reports {
                    let reported = self.reported;
                    found.push_str(&format!(
                        ", and its reports count {reported} ingested ones, expected {ingested}"
                    ));
                }
                if let Some(fault) = &self.bad_report {
                    found.push_str(&format!("; one of its reports is invalid: {fault}"));
                }
                return Ok(Err(format!("after {} s {found}{}", TIMEOUT.as_secs(), self.log_tail())));
            }
        }
    }

    /// Returns the numbers of documents and of rejected messages.
    async fn counts(&self) -> Result<(u64, u64), CommandError> {
        let store = &self.sandbox.store;
        Ok((store.count(COLLECTION).await?, store.count(REJECTED).await?))
    }

    /// Waits until `holds` returns true, the program ends, or the timeout is over.
    pub(super) async fn until(
        &mut self,
        child: &mut Child,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), CommandError> {
        let deadline = Instant::now() + TIMEOUT;
        while !holds(self) && Instant::now() < deadline {
            if self.poll(child).await?.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the program's end; returns `None` if it keeps running.
    pub(super) async fn end_of(&mut self, child: &mut Child) -> Result<Option<ExitStatus>, CommandError> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.poll(child).await? {
                None if Instant::now() < deadline => {}
                ended => return Ok(ended),
            }
        }
    }

    /// Returns how many documents have the ids of these numbers.
    pub(super) async fn numbered(&self, source: &Source, first: u64, last: u64) -> Result<u64, CommandError> {
        let (first, end) = (source.id(&self.client, first), source.id(&self.client, last + 1));
        Ok(self.sandbox.store.count_ids(COLLECTION, first, end).await?)
    }

    pub(super) async fn rejected(&self) -> Result<Vec<bson::Document>, CommandError> {
        Ok(self.sandbox.store.find(REJECTED, doc! {}, 100).await?)
    }

    /// Returns the last line that the program wrote, as part of a reason.
    pub(super) fn log_tail(&self) -> String {
        let log = files::read(&self.sandbox.directory.join("stream.log")).unwrap_or_default();
        let end = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_BYTES)..]).into_owned();
        end.lines().last().map_or_else(String::new, |line| format!("; it wrote {line:?}"))
    }

    /// Waits a moment and processes what has arrived; returns the status if the program has ended.
    pub(super) async fn poll(&mut self, child: &mut Child) -> Result<Option<ExitStatus>, CommandError> {
        let ended = tokio::time::timeout(POLL_EVERY, child.wait()).await.ok();
        while let Ok(event) = self.events.try_recv() {
            if let LinkEvent::Message(message) = event {
                self.process_message(&message.topic, &message.payload);
            }
        }
        ended.transpose().map_err(|error| CommandError::of(exit::SOFTWARE, &error))
    }

    fn process_message(&mut self, topic: &str, payload: &[u8]) {
        if let Some(source) = topic.strip_prefix(RECEIPTS) {
            if let Ok(receipt) = Receipt::parse(payload) {
                self.receipts.insert(source.trim_start_matches('/').to_owned(), receipt);
            }
            return;
        }
        self.reports += 1;
        match Report::parse(payload) {
            Ok(report) if report.balances() => self.reported += report.total_number_of_messages_ingested,
            Ok(_) => {
                self.bad_report = Some("the counts of stored and existing records do not add up".to_owned())
            }
            Err(error) => self.bad_report = Some(error.to_string()),
        }
    }
}

fn of_broker(error: BrokerError) -> CommandError {
    CommandError::of(exit::UNAVAILABLE, &error)
}
