//! Runs the program under test on one unit and checks what it stored.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use bson::{Bson, Document};
use mysimbdp_model::app::{Ids, Line, Phase, Protocol, UnitHeader, env};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_model::ingestion::{Hasher, IngestionId};
use mysimbdp_model::manifest::Format;
use mysimbdp_platform::process::{Child, Output, Signal, Spawn, Stdin};
use mysimbdp_platform::{clock, random};
use mysimbdp_store::Order;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::Verdict;
use super::sandbox::Sandbox;
use crate::demo::WEATHER;
use crate::error::CommandError;

/// Longer than any correct program needs for fifty rows.
const TIMEOUT: Duration = Duration::from_secs(30);
const CLIENT: &str = "check";
const COLLECTION: &str = "check";
/// The fields that identify a row of the sample.
const RECORD_KEY: &str = "origin,time_hour";
/// Far more keys than the sample has.
const KEYS_MAX: usize = 10_000;
/// Far longer than any line of a correct program.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// The program under test and its store.
#[derive(Debug)]
pub struct Bench {
    sandbox: Sandbox,
    protocol: Protocol,
    ids: Ids,
}

/// One unit of work.
#[derive(Debug)]
pub struct SampleUnit {
    pub header: UnitHeader,
    ingestion: IngestionId,
    content: Vec<u8>,
    /// The number of records that the content really has.
    records: u64,
}

/// How much of the unit the program gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputPart {
    Whole,
    Half,
}

/// The program's answer.
#[derive(Debug)]
pub struct AppAnswer {
    /// `None` for a worker that keeps running.
    pub exit: Option<i32>,
    pub last: Option<Line>,
    /// The keys that the program listed.
    pub keys: Vec<Value>,
    pub records: u64,
    stderr: String,
}

impl fmt::Display for AppAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exit {
            Some(code) => write!(f, "it exited {code}")?,
            None => write!(f, "it kept running")?,
        }
        match &self.last {
            Some(line) => write!(f, " after {line:?}")?,
            None => write!(f, " without a last line")?,
        }
        match self.stderr.lines().last() {
            Some(line) => write!(f, "; it wrote {line:?}"),
            None => Ok(()),
        }
    }
}

impl SampleUnit {
    /// Returns the header line and `records` rows of the sample, announced as the records from `first_record` on.
    pub fn sample(first_record: u64, records: u64) -> Self {
        let lines: Vec<&str> = WEATHER.lines().take(records as usize + 1).collect();
        Self::new(first_record, records, format!("{}\n", lines.join("\n")).into_bytes())
    }

    /// Returns other rows of the sample with the ids of this unit's records, in a run that replaces them.
    pub fn replacement(&self) -> Self {
        let mut lines = WEATHER.lines();
        let header = lines.next().unwrap_or_default();
        let rows: Vec<&str> = lines.skip(self.records as usize).take(self.records as usize).collect();
        let content = format!("{header}\n{}\n", rows.join("\n")).into_bytes();
        let length = content.len() as u64;
        let header =
            UnitHeader { length, file_bytes: length, replace: Some(clock::now()), ..self.header.clone() };
        Self { header, ingestion: self.ingestion, content, records: self.records }
    }

    /// Returns two records in three lines, after a header line.
    pub fn quoted() -> Self {
        let rows =
            "origin,time_hour,text\nJFK,2013-01-01T05:00:00Z,\"one\ntwo\"\nLGA,2013-01-01T05:00:00Z,three\n";
        Self::new(0, 2, rows.as_bytes().to_vec())
    }

    /// Returns bytes that are not UTF-8, with an open quote.
    pub fn garbage() -> Self {
        Self::new(0, 2, b"a,b\n\"\xff\xfe,1\n\x00\x01".to_vec())
    }

    /// Returns a whole file, which is one record. It has more than one chunk, and every byte value.
    pub fn file() -> Self {
        let content: Vec<u8> =
            (0..=u8::MAX).cycle().take(mysimbdp_store::CHUNK_BYTES as usize * 3 / 2).collect();
        let mut unit = Self::new(0, 1, content);
        unit.header.format = Format::Binary;
        unit.header.file = "sample.bin".to_owned();
        unit
    }

    pub fn content(&self) -> &[u8] {
        &self.content
    }

    fn new(first_record: u64, records: u64, content: Vec<u8>) -> Self {
        let client: ClientId = CLIENT.parse().expect("a client id");
        // A new id each time, as if the content had never been ingested.
        let ingestion =
            IngestionId::new(&client, &Hasher::new().update(&random::number().to_be_bytes()).finalize());
        let header = UnitHeader {
            client_id: CLIENT.to_owned(),
            ingestion: ingestion.to_string(),
            file: "sample.csv".to_owned(),
            format: Format::Csv,
            encoding: "utf-8".to_owned(),
            batch_index: 0,
            batch_count: 1,
            first_record,
            records,
            offset: 0,
            length: content.len() as u64,
            file_bytes: content.len() as u64,
            received_at: clock::now(),
            attempt: 1,
            phase: Phase::Ingest,
            columns: Vec::new(),
            replace: None,
        };
        Self { header, ingestion, content, records }
    }
}

impl Bench {
    pub async fn open(protocol: Protocol, ids: Ids, command: &[String]) -> Result<Self, CommandError> {
        Ok(Self { sandbox: Sandbox::open(command).await?, protocol, ids })
    }

    /// Returns how many documents have the ids of the records that the unit announces.
    pub async fn stored(&self, unit: &SampleUnit) -> Result<u64, CommandError> {
        let (first, end) = (unit.header.first_record, unit.header.first_record + unit.header.records);
        let range = (unit.ingestion.record_id(first), unit.ingestion.record_id(end));
        Ok(self.sandbox.store.count_ids(COLLECTION, range.0, range.1).await?)
    }

    /// Returns the documents that have the ids of the records that the unit announces.
    pub async fn documents(&self, unit: &SampleUnit) -> Result<Vec<Document>, CommandError> {
        let (first, end) = (unit.header.first_record, unit.header.first_record + unit.header.records);
        let (first, end) = (unit.ingestion.record_id(first), unit.ingestion.record_id(end));
        let limit = i64::try_from(unit.records).unwrap_or(i64::MAX);
        Ok(self.sandbox.store.find_ids(COLLECTION, first, end, Order::Ascending, limit).await?)
    }

    pub fn ids(&self) -> Ids {
        self.ids
    }

    /// Returns the first of the keys that no document has.
    pub async fn missing_key(&self, keys: &[Value]) -> Result<Option<String>, CommandError> {
        let ids: Result<Vec<Bson>, _> = keys.iter().map(|key| Bson::try_from(key.clone())).collect();
        let Ok(ids) = ids else { return Ok(Some("that is not a value of Extended JSON".to_owned())) };
        let missing = self.sandbox.store.missing_ids(COLLECTION, ids).await?;
        Ok(missing.first().and_then(|position| keys.get(*position)).map(Value::to_string))
    }

    /// Returns the bytes of the unit's object, if it is published.
    pub async fn object(&self, unit: &SampleUnit) -> Result<Option<Vec<u8>>, CommandError> {
        Ok(self.sandbox.store.object(COLLECTION, unit.ingestion).await?)
    }

    /// Returns the number of documents, or of objects, in the store.
    pub async fn total(&self) -> Result<u64, CommandError> {
        let collection =
            if self.ids == Ids::Object { format!("{COLLECTION}.files") } else { COLLECTION.to_owned() };
        Ok(self.sandbox.store.count(&collection).await?)
    }

    /// Removes everything, including the database in the store.
    pub async fn close(self) -> Result<(), CommandError> {
        self.sandbox.close().await
    }

    /// Gives the program one unit and returns its answer.
    pub async fn run(&self, unit: &SampleUnit, feed: InputPart) -> Result<AppAnswer, CommandError> {
        let mut child = self.start(&unit.header).await?;
        let outcome = tokio::time::timeout(TIMEOUT, self.converse(&mut child, unit, feed)).await;
        match outcome {
            Ok(answer) => answer,
            Err(_) => {
                self.stop(&mut child).await?;
                let stderr = format!("nothing within {} s", TIMEOUT.as_secs());
                Ok(AppAnswer { exit: Some(-1), last: None, keys: Vec::new(), records: unit.records, stderr })
            }
        }
    }

    async fn start(&self, header: &UnitHeader) -> Result<Child, CommandError> {
        let own = [
            (env::COREDMS, self.sandbox.coredms_url.as_str()),
            (env::DATABASE, &self.sandbox.database),
            (env::COLLECTION, COLLECTION),
            (env::IDS, self.ids.as_str()),
            (env::RECORD_KEY, if self.ids == Ids::Key { RECORD_KEY } else { "" }),
            (env::PROTOCOL, if self.protocol == Protocol::Worker { "worker" } else { "stdin" }),
        ];
        let own = own.into_iter().map(|(name, value)| (name.into(), value.into()));
        let unit = header.to_env().into_iter().map(|(name, value)| (name.into(), value.into()));
        Spawn {
            program: self.sandbox.program.clone(),
            args: self.sandbox.args.clone(),
            env: own.chain(unit).collect(),
            directory: self.sandbox.data_root.clone(),
            stdin: Stdin::Feed,
            output: Output::Piped,
            dies_with_parent: Some(Signal::KILL),
            owner: Some(self.sandbox.owner()),
        }
        .start()
        .await
        .map_err(|error| CommandError::of(exit::NO_INPUT, &error))
    }

    async fn converse(
        &self,
        child: &mut Child,
        unit: &SampleUnit,
        feed: InputPart,
    ) -> Result<AppAnswer, CommandError> {
        let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(CommandError::new(exit::SOFTWARE, "the program has no pipes"));
        };
        let mut bytes = Vec::new();
        if self.protocol == Protocol::Worker {
            bytes =
                serde_json::to_vec(&unit.header).map_err(|error| CommandError::of(exit::SOFTWARE, &error))?;
            bytes.push(b'\n');
        }
        let length = if feed == InputPart::Whole { unit.content.len() } else { unit.content.len() / 2 };
        bytes.extend_from_slice(&unit.content[..length]);

        let write = async move {
            // A program may refuse the unit before it has read everything.
            let _ = stdin.write_all(&bytes).await;
            drop(stdin);
        };
        let mut stderr_bytes = Vec::new();
        let read_stderr = async { (&mut stderr).take(LINE_BYTES_MAX).read_to_end(&mut stderr_bytes).await };
        // Waits for the exit at the same time: the exit ends the pipes, even if a process that it left behind holds
        // them open.
        let (_, (last, keys), _, status) =
            tokio::join!(write, lines_of(stdout), read_stderr, self.wait(child));
        let status = status?;
        let stderr = String::from_utf8_lossy(&stderr_bytes).into_owned();
        // If a worker answered and then ended with its input, the answer counts.
        let answered = self.protocol == Protocol::Worker && status.success() && last.is_some();
        Ok(AppAnswer {
            exit: if answered { None } else { status.code() },
            last,
            keys,
            records: unit.records,
            stderr,
        })
    }

    async fn wait(&self, child: &mut Child) -> Result<ExitStatus, CommandError> {
        child.wait().await.map_err(|error| CommandError::of(exit::SOFTWARE, &error))
    }

    async fn stop(&self, child: &mut Child) -> Result<ExitStatus, CommandError> {
        child.stop(Duration::from_secs(1)).await.map_err(|error| CommandError::of(exit::SOFTWARE, &error))
    }

    /// Checks that the program ends on SIGTERM while it waits for its input.
    pub async fn terminates(&self) -> Result<Verdict, CommandError> {
        let unit = SampleUnit::sample(0, 1);
        let mut child = self.start(&unit.header).await?;
        // This fails if the program has ended by itself, which the wait below detects.
        let _ = child.signal(Signal::TERM);
        match tokio::time::timeout(TIMEOUT, self.wait(&mut child)).await {
            Ok(status) => status.map(|_| Ok(())),
            Err(_) => {
                self.stop(&mut child).await?;
                Ok(Err(format!("it still ran {} s later", TIMEOUT.as_secs())))
            }
        }
    }
}

/// Returns the last line of the contract that the program wrote, and the keys that it listed. Other lines are skipped,
/// as the platform does.
async fn lines_of(stdout: impl tokio::io::AsyncRead + Unpin) -> (Option<Line>, Vec<Value>) {
    let mut lines = BufReader::new(stdout).lines();
    let (mut last, mut listed) = (None, Vec::new());
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Line::Progress { .. } | Line::Reject { .. }) | Err(_) => {}
            Ok(Line::Keys { keys }) if listed.len() < KEYS_MAX => listed.extend(keys),
            Ok(Line::Keys { .. }) => {}
            Ok(line) => last = Some(line),
        }
    }
    (last, listed)
}
