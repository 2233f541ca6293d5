//! What all processes count, in the text format of Prometheus.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use mysimbdp_config::Config;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_platform::{files, space};
use mysimbdp_query::file_counts::file_counts;
use mysimbdp_query::snapshot::{self, Condition};
use mysimbdp_telemetry::metrics::exposition::Exposition;
use mysimbdp_telemetry::metrics::{CONTENT_TYPE, NumberGauge, PlatformMetrics, scrape};
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::api::clients::NoParameters;
use crate::extract::{Allowed, Query, Read};
use crate::problem::{Problem, ProblemCode, Result};
use crate::server::Server;
use crate::tokens::Right;

/// A process answers at once unless it hangs. With the probes of broker and store, which take at most 4 s, everything is
/// answered within the 10 s for which Prometheus waits by default.
const PROCESS_WITHIN: Duration = Duration::from_secs(1);
/// Each is a connection at the same time.
const EDGES_MAX: usize = 100;
const DIRECTORIES_WITHIN: Duration = Duration::from_secs(2);

/// The metrics of all processes
///
/// In the text format of Prometheus, each sample with the process that counts it; `mysimbdp_up` tells which processes
/// answer. Needs the right to read of all clients.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "get_metrics",
    tag = "health",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
        Problem,
    )
)]
pub(crate) async fn get(
    State(server): State<Arc<Server>>,
    allowed: Allowed<Read>,
    Query(NoParameters {}): Query<NoParameters>,
) -> Result<Response> {
    if !allowed.caller.may_for_all(Right::Read) {
        let detail = "the token does not allow to read of all clients";
        return Err(Problem::new(ProblemCode::Forbidden, detail));
    }
    let (config, platform) = (allowed.config, Arc::new(PlatformMetrics::default()));
    let names: Vec<String> = expected(&config).chain(edges(&config)).collect();
    let processes = join_all(names.iter().map(|name| async {
        let socket = config.layout.metrics_socket(name);
        timeout(PROCESS_WITHIN, scrape(&socket)).await.ok().and_then(Result::ok)
    }));
    // A count that still runs is not begun a second time: its directories are large, or hang.
    let directories = async {
        if let Ok(counting) = server.counting().try_lock_owned() {
            let (config, platform) = (Arc::clone(&config), Arc::clone(&platform));
            let counted = spawn_blocking(move || count_directories(&config, &platform, counting));
            let _ = timeout(DIRECTORIES_WITHIN, counted).await;
        }
    };
    let (answers, (), ()) = tokio::join!(processes, directories, probe(&config, &platform));
    let mut all = Exposition::default();
    for (name, answer) in names.iter().zip(answers) {
        // An edge may end with its input, so none is expected to answer.
        if !name.starts_with(Layout::EDGE_PROCESS_PREFIX) {
            platform.up.with([name]).set(answer.is_some().into());
        }
        all.add(name, &answer.unwrap_or_default());
    }
    all.add(ProcessKind::Serve.name(), &platform.encode());
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], all.into_text()).into_response())
}

/// The processes that this config requires, and `up` if it runs or was killed.
fn expected(config: &Config) -> impl Iterator<Item = String> {
    let mut kinds = ProcessKind::FOLLOWERS.to_vec();
    if config.broker_url.is_none() {
        kinds.push(ProcessKind::Broker);
    }
    if files::exists(&config.layout.metrics_socket(ProcessKind::Up.name())) {
        kinds.push(ProcessKind::Up);
    }
    kinds.into_iter().map(|kind| kind.name().to_owned())
}

/// The edges that run on this data root, or were killed.
fn edges(config: &Config) -> impl Iterator<Item = String> {
    let sockets = files::names(&config.layout.metrics()).unwrap_or_default();
    let names = sockets.into_iter().filter_map(|name| Some(name.to_str()?.strip_suffix(".sock")?.to_owned()));
    names.filter(|name| name.starts_with(Layout::EDGE_PROCESS_PREFIX)).take(EDGES_MAX)
}

async fn probe(config: &Config, platform: &PlatformMetrics) {
    let parts = snapshot::connections(config).await;
    for (name, gauge) in [("broker", &platform.broker_up), ("store", &platform.store_up)] {
        let is_up = parts.iter().any(|part| part.name == name && part.condition == Condition::Good);
        gauge.with([]).set(is_up.into());
    }
}

fn count_directories(config: &Config, platform: &PlatformMetrics, _counting: OwnedMutexGuard<()>) {
    if let Ok(space) = space::of(&config.layout.staging()) {
        set(&platform.staging_free_bytes.with([]), space.free_bytes);
    }
    if let Ok(messages) = files::names(&config.layout.outbox()) {
        set(&platform.outbox_messages.with([]), messages.len() as u64);
    }
    for count in file_counts(config) {
        set(&platform.files.with([&count.client, count.state.as_str()]), count.files);
    }
    for client in config.clients.keys() {
        let sources = files::list(&config.layout.edges().join(client.as_str())).unwrap_or_default();
        if !sources.is_empty() {
            let bytes = sources.iter().map(|source| bytes_in(source)).sum();
            set(&platform.edge_outbox_bytes.with([client.as_str()]), bytes);
        }
    }
}

/// The bytes of the files in a directory.
fn bytes_in(directory: &Path) -> u64 {
    let paths = files::list(directory).unwrap_or_default();
    paths
        .iter()
        .filter_map(|path| files::metadata(path).ok())
        .filter(|found| found.is_file())
        .map(|found| found.len())
        .sum()
}

fn set(gauge: &NumberGauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}
