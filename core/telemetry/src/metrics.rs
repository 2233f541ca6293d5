//! What a process counts, in the terms of Prometheus: all names, labels and help texts are here.
//!
//! [`metrics`] is what this process counts; it answers a scrape ([`Endpoint`]). [`PlatformMetrics`] is what the
//! HTTP server finds out when it is scraped. [`exposition`] puts the answers of all processes together.
//!
//! The number of series is bounded: labels are names of the config (clients, apps, streams) or of an enum, and never those of
//! files. Nothing here fails or waits: what is counted is never more important than what is done.

mod edge;
mod endpoint;
pub mod exposition;
mod family;
mod reference;

use std::sync::{Once, OnceLock};
use std::time::Duration;

use mysimbdp_model::outcome::{Counts, FinalState};
use mysimbdp_model::reason::ReasonCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use crate::timing::Stage;
pub use edge::EdgeMetrics;
pub use endpoint::{CONTENT_TYPE, Endpoint, EndpointError, ScrapeError, scrape};
use family::Registrar;
pub use family::{Definition, Family, FloatGauge, Kind, NumberGauge};
pub use reference::{all, reference};

/// The label `code` of a file that was not refused.
const NO_CODE: &str = "none";

/// From a step that only renames a file to one that waits for hours, each bound about four times the one before it.
const STAGE_SECONDS: [f64; 11] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 300.0, 1_800.0, 7_200.0];

/// What this process counts.
pub fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(Metrics::new)
}

/// What a process counts. A family that it never touches is not shown.
#[derive(Debug)]
pub struct Metrics {
    registrar: Registrar,
    start: Once,
    build: Family<NumberGauge, 1>,
    started: Family<FloatGauge, 0>,
    /// By the process that was restarted.
    pub process_restarts: Family<Counter, 1>,
    /// By stage and client.
    stage_seconds: Family<Histogram, 2>,
    files_ended: Family<Counter, 3>,
    files_ended_bytes: Family<Counter, 2>,
    /// By client and lane.
    pub files_staged: Family<Counter, 2>,
    /// By client and lane, as are the next two.
    pub staged_files: Family<NumberGauge, 2>,
    pub staged_bytes: Family<NumberGauge, 2>,
    pub staged_oldest_seconds: Family<FloatGauge, 2>,
    records_received: Family<Counter, 2>,
    records_stored: Family<Counter, 2>,
    records_duplicate: Family<Counter, 2>,
    records_rejected: Family<Counter, 2>,
    /// By client, app and result.
    pub attempts: Family<Counter, 3>,
    /// By client, app and result.
    pub app_exits: Family<Counter, 3>,
    /// By client and app.
    pub last_success: Family<FloatGauge, 2>,
    /// By client, stream and outcome.
    pub stream_messages: Family<Counter, 3>,
    /// By client and stream, as are the next five.
    pub stream_bytes: Family<Counter, 2>,
    pub stream_acknowledgement_seconds: Family<Counter<f64, std::sync::atomic::AtomicU64>, 2>,
    pub stream_backlog: Family<NumberGauge, 2>,
    pub stream_desired: Family<NumberGauge, 2>,
    pub stream_running: Family<NumberGauge, 2>,
    pub stream_restarts: Family<Counter, 2>,
    /// By client, stream and direction.
    pub stream_scalings: Family<Counter, 3>,
    /// By client, stream and result.
    pub stream_exits: Family<Counter, 3>,
    /// By client and result.
    pub latest_answers: Family<Counter, 2>,
    pub edge: EdgeMetrics,
    pub windows: Family<Counter, 2>,
    /// By client, contract and outcome.
    pub arrivals: Family<Counter, 3>,
    /// By client and contract, as is the next one.
    pub arrival_due: Family<FloatGauge, 2>,
    pub arrival_overdue: Family<NumberGauge, 2>,
}

impl Metrics {
    fn new() -> Self {
        let mut all = Registrar::default();
        Self {
            build: all.number("mysimbdp_build_info", ["version"], "The version of the process; always 1"),
            started: all.float("mysimbdp_process_start_time_seconds", [], "When the process started, in Unix seconds"),
            process_restarts: all.counter(
                "mysimbdp_process_restarts_total",
                ["process"],
                "Restarts by `mysimbdp up` of processes that had ended",
            ),
            stage_seconds: all.histogram(
                "mysimbdp_stage_duration_seconds",
                ["stage", "client"],
                "How long a step with a file or unit took, as in its TIMING line",
                || Histogram::new(STAGE_SECONDS),
            ),
            files_ended: all.counter(
                "mysimbdp_files_ended_total",
                ["client", "state", "code"],
                "Files that were ingested, held or discarded, by the code of the first reason",
            ),
            files_ended_bytes: all.counter(
                "mysimbdp_files_ended_bytes_total",
                ["client", "state"],
                "Bytes of the files that were ingested, held or discarded",
            ),
            files_staged: all.counter("mysimbdp_files_staged_total", ["client", "lane"], "Files that passed validation and were staged"),
            staged_files: all.number("mysimbdp_staged_files", ["client", "lane"], "Staged files that have not ended yet"),
            staged_bytes: all.number("mysimbdp_staged_bytes", ["client", "lane"], "Bytes of the staged files"),
            staged_oldest_seconds: all.float(
                "mysimbdp_staged_oldest_age_seconds",
                ["client", "lane"],
                "How long ago the oldest staged file was staged; 0 if there is none",
            ),
            records_received: all.counter(
                "mysimbdp_records_received_total",
                ["client", "app"],
                "Records of ingested files: stored, duplicate and rejected ones",
            ),
            records_stored: all.counter("mysimbdp_records_stored_total", ["client", "app"], "Records of ingested files that were stored"),
            records_duplicate: all.counter(
                "mysimbdp_records_duplicate_total",
                ["client", "app"],
                "Records of ingested files that were stored already",
            ),
            records_rejected: all.counter("mysimbdp_records_rejected_total", ["client", "app"], "Records of ingested files that were rejected"),
            attempts: all.counter(
                "mysimbdp_attempts_total",
                ["client", "app", "result"],
                "Attempts at a unit: done, failed, hopeless (the file is held), later (something was unavailable), stopped",
            ),
            app_exits: all.counter(
                "mysimbdp_app_exits_total",
                ["client", "app", "result"],
                "Runs of a batch app on a unit: done, bad_data, try_later, crashed, stopped",
            ),
            last_success: all.float(
                "mysimbdp_last_success_timestamp_seconds",
                ["client", "app"],
                "When a file was last ingested, in Unix seconds; absent until the first one since the process started",
            ),
            stream_messages: all.counter(
                "mysimbdp_stream_messages_total",
                ["client", "stream", "outcome"],
                "Messages that reports of stream apps name: stored, duplicate, rejected",
            ),
            stream_bytes: all.counter("mysimbdp_stream_bytes_total", ["client", "stream"], "Bytes of the messages that stream apps have ingested"),
            stream_acknowledgement_seconds: all.float_counter(
                "mysimbdp_stream_acknowledgement_seconds_total",
                ["client", "stream"],
                "Seconds from arrival to acknowledgement, over all ingested messages",
            ),
            stream_backlog: all.number(
                "mysimbdp_stream_backlog_messages",
                ["client", "stream"],
                "Messages received and not acknowledged, as last reported",
            ),
            stream_desired: all.number("mysimbdp_stream_instances_desired", ["client", "stream"], "Instances that the stream should have"),
            stream_running: all.number("mysimbdp_stream_instances_running", ["client", "stream"], "Instances that run and are not on their way out"),
            stream_restarts: all.counter(
                "mysimbdp_stream_restarts_total",
                ["client", "stream"],
                "Instances that crashed or hung, and are started again",
            ),
            stream_scalings: all.counter(
                "mysimbdp_stream_scalings_total",
                ["client", "stream", "direction"],
                "Changes of the desired instances, by policy or person: up, down",
            ),
            stream_exits: all.counter(
                "mysimbdp_stream_exits_total",
                ["client", "stream", "result"],
                "Processes of stream apps that have ended: ended, crashed",
            ),
            latest_answers: all.counter(
                "mysimbdp_latest_answers_total",
                ["client", "result"],
                "Latest records that were answered, by where they were found: memory, store",
            ),
            edge: EdgeMetrics::new(&mut all),
            windows: all.counter(
                "mysimbdp_windows_total",
                ["client", "result"],
                "Windows in answers and events of the HTTP server, by where they were from: kept, computed",
            ),
            arrivals: all.counter(
                "mysimbdp_arrivals_total",
                ["client", "contract", "outcome"],
                "Due times of arrival contracts by what became of them, and again if that changes: on_time, late, missing, too_small, repeated",
            ),
            arrival_due: all.float(
                "mysimbdp_arrival_due_timestamp_seconds",
                ["client", "contract"],
                "The next due time of an arrival contract, in Unix seconds",
            ),
            arrival_overdue: all.number(
                "mysimbdp_arrival_overdue",
                ["client", "contract"],
                "Whether no file has come for the last due time of an arrival contract, nor for the next one",
            ),
            registrar: all,
            start: Once::new(),
        }
    }

    /// The process starts now, unless it has already, and counts from 0.
    fn start(&self) {
        self.start.call_once(|| {
            self.build.with([env!("CARGO_PKG_VERSION")]).set(1);
            let now = mysimbdp_platform::clock::now().as_duration();
            self.started.with([]).set(now.as_secs_f64());
        });
    }

    /// All families that have been touched, as text.
    pub fn encode(&self) -> String {
        self.registrar.encode()
    }

    /// A file has ended durably; `code` is the kind of the first reason if it was refused.
    pub fn file_ended(&self, client: &str, state: FinalState, code: Option<ReasonCode>, bytes: u64) {
        let code = code.map_or_else(|| NO_CODE.to_owned(), ReasonCode::name);
        self.files_ended.with([client, state.as_str(), &code]).inc();
        self.files_ended_bytes.with([client, state.as_str()]).inc_by(bytes);
    }

    /// A file was ingested with these records.
    pub fn file_ingested(&self, client: &str, app: &str, counts: Counts, bytes: u64) {
        self.file_ended(client, FinalState::Ingested, None, bytes);
        self.count_records(client, app, counts);
        let now = mysimbdp_platform::clock::now().as_duration();
        self.last_success.with([client, app]).set(now.as_secs_f64());
    }

    /// Shows what a client's app will count as 0, so that the first file is an increase.
    pub fn app_configured(&self, client: &str, app: &str) {
        self.files_ended.with([client, FinalState::Ingested.as_str(), NO_CODE]);
        self.files_ended_bytes.with([client, FinalState::Ingested.as_str()]);
        self.count_records(client, app, Counts::default());
    }

    fn count_records(&self, client: &str, app: &str, counts: Counts) {
        let Counts { received, stored, duplicates, rejected } = counts;
        self.records_received.with([client, app]).inc_by(received);
        self.records_stored.with([client, app]).inc_by(stored);
        self.records_duplicate.with([client, app]).inc_by(duplicates);
        self.records_rejected.with([client, app]).inc_by(rejected);
    }

    /// A step has ended. Those of streams are means of intervals and not steps, so they have metrics of their own.
    pub(crate) fn stage_took(&self, stage: Stage, client: &str, took: Duration) {
        if !matches!(stage, Stage::Batch | Stage::Report) {
            self.stage_seconds.with([&stage.to_string(), client]).observe(took.as_secs_f64());
        }
    }
}

/// What the HTTP server finds out when it is scraped.
#[derive(Debug)]
pub struct PlatformMetrics {
    registrar: Registrar,
    /// By process.
    pub up: Family<NumberGauge, 1>,
    /// By client and state.
    pub files: Family<NumberGauge, 2>,
    pub staging_free_bytes: Family<NumberGauge, 0>,
    pub broker_up: Family<NumberGauge, 0>,
    pub store_up: Family<NumberGauge, 0>,
    pub outbox_messages: Family<NumberGauge, 0>,
    /// By client.
    pub edge_outbox_bytes: Family<NumberGauge, 1>,
}

impl Default for PlatformMetrics {
    fn default() -> Self {
        let mut all = Registrar::default();
        Self {
            up: all.number("mysimbdp_up", ["process"], "Whether the process has answered this scrape"),
            files: all.number(
                "mysimbdp_files",
                ["client", "state"],
                "Files that are now waiting, staged, held or discarded",
            ),
            staging_free_bytes: all.number(
                "mysimbdp_staging_free_bytes",
                [],
                "Free bytes on the file system of staging",
            ),
            broker_up: all.number("mysimbdp_broker_up", [], "Whether the broker accepts a connection"),
            store_up: all.number("mysimbdp_store_up", [], "Whether the store answers"),
            outbox_messages: all.number(
                "mysimbdp_outbox_messages",
                [],
                "Messages of batch-manager that wait for the broker",
            ),
            edge_outbox_bytes: all.number(
                "mysimbdp_edge_outbox_bytes",
                ["client"],
                "Bytes in the outboxes of the numbered sources on this host",
            ),
            registrar: all,
        }
    }
}

impl PlatformMetrics {
    /// All families that have been touched, as text.
    pub fn encode(&self) -> String {
        self.registrar.encode()
    }
}
