//! The semantics of settings that satisfy the schema: they are compiled, resolved against each other, and refused if they
//! cannot work.

use std::path::{Path as FilePath, PathBuf};

use mongodb::options::ConnectionString;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::topic::{Topics, is_filter, overlap};
use mysimbdp_model::units::{ByteSize, Period};
use mysimbdp_platform::files;

use super::checks::{not_zero, pattern, unique};
use super::location::Path;
use super::problems::Problems;
use super::settings::{Broker, Settings};
use super::structure::Readable;
use super::{
    BROKER_PASSWORD_VARIABLE, BROKER_VARIABLE, COREDMS_VARIABLE, Client, Config, Rules, serving, tenant,
};

/// A rotation keeps an eighth of a log. An eighth of this is enough to see what went wrong.
const LOG_BYTES_MIN: ByteSize = ByteSize::bytes(1 << 20);

const BROKER_WITHOUT_USER: &str = "needs a user in the broker's address: expected mqtt://user@host:port";

/// Where the data root of a config is.
#[derive(Clone, Copy)]
pub(super) enum DataRoot<'a> {
    /// As the config says, relative to this folder.
    Beside(&'a FilePath),
    /// Here: the config is that of processes that have this data root.
    Known(&'a FilePath),
}

/// Compiles the config. If a problem is found, parts of the config are empty, and it must not be used.
pub(super) fn compile(
    problems: &mut Problems<'_>,
    readable: Readable,
    root: DataRoot<'_>,
    variable: impl Fn(&str) -> Option<String>,
) -> Config {
    let Readable { settings, client_paths } = readable;
    let root = data_root(problems, &settings, root);
    durations(problems, &settings);
    instances(problems, &settings);
    let topics = Topics::new(settings.broker.topic_prefix.as_str());
    let clients = settings.clients.iter().zip(&client_paths).map(|(client, path)| {
        let client = tenant::compile(problems, path, client, &settings, &topics);
        (path, client)
    });
    let clients: Vec<(&Path, Client)> = clients.collect();
    unique(problems, clients.iter().map(|(path, client)| (*path, client.id.as_str())), "id");
    topic_filters(problems, &topics, &clients);
    let linked = settings.clients.iter().filter(|client| client.folder_may_be_symlink);
    let linked: Vec<ClientId> = linked.map(|client| client.id.clone()).collect();
    Config {
        broker_url: broker_url(problems, &settings, &variable),
        broker_keep_alive: settings.broker.keep_alive.duration(),
        coredms_url: coredms_url(problems, &settings, &root, &variable),
        rules: Rules {
            file_bytes_max: settings.rules.file_bytes_max.as_u64(),
            file_name_bytes_max: settings.rules.file_name_bytes_max as usize,
            file_name_pattern: pattern(
                problems,
                &Path::default().key("rules").key("file_name_pattern"),
                &settings.rules.file_name_pattern,
            ),
        },
        serving: serving::compile(problems, &settings.serving, &root),
        layout: Layout::new(root).with_linked(linked),
        hash: super::hash_of(problems.text()),
        text: problems.text().into(),
        clients: clients.into_iter().map(|(_, client)| (client.id.clone(), client)).collect(),
        topics,
        settings,
    }
}

/// The directory that holds all others: absolute, so that it is the same for every process.
fn data_root(problems: &mut Problems<'_>, settings: &Settings, root: DataRoot<'_>) -> PathBuf {
    let folder = match root {
        DataRoot::Known(root) => return root.to_owned(),
        DataRoot::Beside(folder) => folder,
    };
    let path = Path::default().key("data_root");
    let written = settings.data_root.as_deref().unwrap_or_default();
    let root = match files::canonical(&folder.join(written)) {
        Ok(root) => root,
        Err(error) => {
            problems.value(&path, mysimbdp_model::error_chain(&error));
            return PathBuf::new();
        }
    };
    if root.to_str().is_none() {
        problems.value(
            &path,
            format!("{} is not UTF-8, so it cannot be part of the store's address", root.display()),
        );
    }
    if files::metadata(&root).is_ok_and(|metadata| !metadata.is_dir()) {
        problems.value(&path, format!("{} is not a directory", root.display()));
    }
    root
}

/// Refuses waits of zero length, which would turn a loop into a busy one, maxima below their initial value, a
/// `silence_max` or log limit that is too small, and a `keep_alive` that is too long for MQTT.
fn durations(problems: &mut Problems<'_>, settings: &Settings) {
    let (batch, stream) = (&settings.batch_manager, &settings.stream_manager);
    for (section, key, period) in [
        ("broker", "keep_alive", settings.broker.keep_alive),
        ("fetchdata", "settle", settings.fetchdata.settle),
        ("fetchdata", "scan_every", settings.fetchdata.scan_every),
        ("batch_manager", "scan_every", batch.scan_every),
        ("batch_manager", "backoff_first", batch.backoff_first),
        ("stream_manager", "report_every", stream.report_every),
        ("stream_manager", "backoff_first", stream.backoff_first),
        ("stream_manager", "drain_quiet", stream.drain_quiet),
        ("serving", "idle_timeout", settings.serving.idle_timeout),
        ("serving", "query_timeout", settings.serving.query_timeout),
        ("logs", "retention", settings.logs.retention),
    ] {
        not_zero(problems, &Path::default().key(section).key(key), period);
    }
    for (section, first, max) in [
        ("batch_manager", batch.backoff_first, batch.backoff_max),
        ("stream_manager", stream.backoff_first, stream.backoff_max),
    ] {
        if max < first {
            let path = Path::default().key(section).key("backoff_max");
            problems.value(&path, format!("{max} is shorter than backoff_first: expected {first} or more"));
        }
    }
    let (silence, least) = (settings.silence_max(), settings.silence_max_min());
    if !silence.is_zero() && silence < least {
        let path = Path::default().key("stream_manager").key("silence_max");
        let allowed =
            format!("expected {least:?} (twice report_every and keep_alive) or more, or \"0s\" for never");
        problems.value(&path, format!("{silence:?} is too short to detect a hanging app: {allowed}"));
    }
    let bytes_max = settings.logs.bytes_max;
    if bytes_max < LOG_BYTES_MIN {
        let path = Path::default().key("logs").key("bytes_max");
        problems
            .value(&path, format!("{bytes_max} is too small for a log: expected {LOG_BYTES_MIN} or more"));
    }
    let Broker { keep_alive, .. } = settings.broker;
    if keep_alive > Period::seconds(u16::MAX.into()) {
        let path = Path::default().key("broker").key("keep_alive");
        problems
            .value(&path, format!("{keep_alive} is longer than MQTT can express: expected at most 65535s"));
    }
}

/// A message belongs to one client, and the platform's own topics belong to none: a filter must not match topics of
/// another client or of the platform. Only filters in the file are reported, as the default ones cannot be wrong.
fn topic_filters(problems: &mut Problems<'_>, topics: &Topics, clients: &[(&Path, Client)]) {
    for (position, (path, client)) in clients.iter().enumerate() {
        for (index, stream) in client.streams.iter().enumerate() {
            let Some(filter) = stream.settings.topic_filter.as_deref().filter(|filter| is_filter(filter))
            else {
                continue;
            };
            let path = path.key("streams").index(index).key("topic_filter");
            if let Some(reserved) = topics.foreign(&client.id, filter) {
                let (ingest, own) = (topics.ingest_filter(&client.id), &client.id);
                problems.value(&path, format!("{filter:?} overlaps {reserved}, which does not belong to this client: expected {ingest} or topics within it, or topics that belong neither to the platform nor to a client other than {own}"));
                continue;
            }
            // If both filters are in the file, the later one is reported.
            let others = clients.iter().enumerate().filter(|(other, _)| *other != position);
            let overlapping = others
                .flat_map(|(other, (_, client))| {
                    client.streams.iter().map(move |stream| (other, client, stream))
                })
                .find(|(other, _, stream)| {
                    (*other < position || stream.settings.topic_filter.is_none())
                        && overlap(filter, &stream.topic_filter)
                });
            if let Some((_, other, stream)) = overlapping {
                problems.value(
                    &path,
                    format!(
                        "{filter:?} matches messages of client {}, whose stream {} subscribes to {:?}",
                        other.id, stream.name, stream.topic_filter
                    ),
                );
            }
        }
    }
}

/// Every stream is guaranteed its `min` instances: their sum must not exceed `instances_max`.
fn instances(problems: &mut Problems<'_>, settings: &Settings) {
    let streams = settings.clients.iter().flat_map(|client| &client.streams);
    let promised: u32 = streams.map(|stream| stream.instances.min).sum();
    let max = settings.stream_manager.instances_max;
    if promised > max {
        problems.value(
            &Path::default().key("stream_manager").key("instances_max"),
            format!("{max} is less than {promised}, the sum of the streams' min"),
        );
    }
}

fn broker_url(
    problems: &mut Problems<'_>,
    settings: &Settings,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let check = |url: &str| url.parse::<mysimbdp_broker::Address>().err().map(|error| error.to_string());
    let given = variable(BROKER_VARIABLE).filter(|url| !url.is_empty());
    if let Some(fault) = given.as_deref().and_then(check) {
        problems.variable(BROKER_VARIABLE, fault);
    }
    if let Some(fault) = settings.broker.url.as_deref().and_then(check) {
        problems.value(&Path::default().key("broker").key("url"), fault);
    }
    let url = given.or_else(|| settings.broker.url.clone())?;
    let Some(password) = variable(BROKER_PASSWORD_VARIABLE).filter(|password| !password.is_empty()) else {
        return Some(url);
    };
    let complete = mysimbdp_broker::with_password(&url, &password);
    if complete.is_none() && check(&url).is_none() {
        problems.variable(BROKER_PASSWORD_VARIABLE, BROKER_WITHOUT_USER);
    }
    complete.or(Some(url))
}

fn coredms_url(
    problems: &mut Problems<'_>,
    settings: &Settings,
    root: &FilePath,
    variable: impl Fn(&str) -> Option<String>,
) -> String {
    let given = variable(COREDMS_VARIABLE).filter(|url| !url.is_empty()).map(|url| store(&url, root));
    let written = settings.coredms.url.as_deref().map(|url| store(url, root));
    if let Some(Err(fault)) = &given {
        problems.variable(COREDMS_VARIABLE, fault);
    }
    if let Some(Err(fault)) = &written {
        problems.value(&Path::default().key("coredms").key("url"), fault);
    }
    let chosen = given.or(written).and_then(Result::ok);
    chosen.unwrap_or_else(|| format!("sqlite:{}", Layout::new(root).embedded_store().display()))
}

/// The complete address of a store. Errors do not quote the address, as it may contain a password.
fn store(url: &str, root: &FilePath) -> Result<String, String> {
    const ALLOWED: &str = "expected mongodb://…, mongodb+srv://… or sqlite:<directory>";
    if let Some(directory) = url.strip_prefix("sqlite:") {
        if directory.is_empty() {
            return Err(format!("names no directory: {ALLOWED}"));
        }
        let directory =
            files::canonical(&root.join(directory)).map_err(|error| mysimbdp_model::error_chain(&error))?;
        return Ok(format!("sqlite:{}", directory.display()));
    }
    if !url.starts_with("mongodb://") && !url.starts_with("mongodb+srv://") {
        return Err(format!("is not a store address: {ALLOWED}"));
    }
    match ConnectionString::parse(url) {
        Ok(_) => Ok(url.to_owned()),
        Err(error) => Err(format!("is not a MongoDB address: {}", error.kind)),
    }
}
