//! Semantics of a client's settings: its rules for files are compiled, and each of them must be able to match something.

use mysimbdp_model::app::Ids;
use mysimbdp_model::topic::Topics;

use super::checks::{not_zero, pattern, unique};
use super::globs::Globs;
use super::location::Path;
use super::problems::Problems;
use super::settings::{self, OnDuplicate, Settings};
use super::{App, Client, Stream, arrival, program, view};

pub(super) fn compile(
    problems: &mut Problems<'_>,
    path: &Path,
    client: &settings::Client,
    platform: &Settings,
    topics: &Topics,
) -> Client {
    let settle = client.files.settle.unwrap_or(platform.fetchdata.settle);
    let extensions = extensions(problems, &path.key("files").key("extensions"), &client.files);
    let globs = Globs::compile(problems, &path.key("files").key("globs"), &client.files.globs);
    for (index, glob) in
        client.files.globs.iter().enumerate().filter(|(_, glob)| !reachable(glob, extensions.as_deref()))
    {
        let path = path.key("files").key("globs").index(index);
        problems.value(&path, format!("{glob:?} matches none of the client's extensions"));
    }
    let pattern = client
        .files
        .pattern
        .as_deref()
        .map(|text| pattern(problems, &path.key("files").key("pattern"), text));
    if client.files.sentinel.is_none() && settle != platform.fetchdata.settle {
        not_zero(problems, &path.key("files").key("settle"), settle);
    }
    if let Some(archive) = client.archive {
        not_zero(problems, &path.key("archive"), archive);
    }
    for (key, period) in client
        .retention
        .iter()
        .flat_map(|retention| [("discarded", retention.discarded), ("held", retention.held)])
    {
        if let Some(period) = period {
            not_zero(problems, &path.key("retention").key(key), period);
        }
    }
    let apps = apps(problems, path, client, extensions.as_deref());
    if client.on_duplicate == OnDuplicate::Replace
        && let Some(app) = apps.iter().find(|app| app.settings.ids == Ids::None)
    {
        let message = format!(
            "\"replace\" needs ids that identify what is to be replaced, but app {:?} has \"none\"",
            app.name
        );
        problems.value(&path.key("on_duplicate"), message);
    }
    let streams = streams(problems, path, client, topics);
    if apps.is_empty() && streams.is_empty() {
        problems.value(path, "has neither apps nor streams, so nothing could be ingested for it");
    }
    collections(problems, &path.key("collections"), client, &apps, &streams);
    let views = view::compile(problems, &path.key("views"), &client.views, &apps, &streams);
    let contracts = arrival::compile(problems, &path.key("apps"), &client.apps);
    reachable_contracts(problems, &path.key("apps"), &client.apps, extensions.as_deref());
    Client {
        id: client.id.clone(),
        database: format!("{}_{}", platform.coredms.database, client.id),
        globs,
        pattern,
        extensions,
        settle: settle.duration(),
        block_bytes_max: block(problems, path, client),
        apps,
        contracts,
        streams,
        views,
        settings: client.clone(),
    }
}

/// The extensions in lower case, in which they are compared.
fn extensions(problems: &mut Problems<'_>, path: &Path, files: &settings::Files) -> Option<Vec<String>> {
    let extensions = files.extensions.as_ref()?;
    for (index, extension) in extensions.iter().enumerate() {
        if extension.is_empty() || extension.contains(['.', '/']) {
            let message = format!(
                "invalid extension {extension:?}: expected what follows the last dot of a name, such as \"csv\""
            );
            problems.value(&path.index(index), message);
        }
    }
    Some(extensions.iter().map(|extension| extension.to_lowercase()).collect())
}

/// Whether a name that matches `glob` can have one of the extensions.
fn reachable(glob: &str, extensions: Option<&[String]>) -> bool {
    let Some(extensions) = extensions else { return true };
    match glob.rsplit_once('.') {
        Some((_, ending)) if !ending.contains(['*', '?', '[', ']', '{', '}', '\\']) => {
            extensions.contains(&ending.to_lowercase())
        }
        _ => true,
    }
}

fn block(problems: &mut Problems<'_>, path: &Path, client: &settings::Client) -> Option<u64> {
    let block = client.micro_batching.as_ref()?.block_size.as_u64();
    if block == 0 {
        problems.value(&path.key("micro_batching").key("block_size"), "must be larger than 0");
    }
    Some(block)
}

fn apps(
    problems: &mut Problems<'_>,
    path: &Path,
    client: &settings::Client,
    extensions: Option<&[String]>,
) -> Vec<App> {
    let paths = paths(path.key("apps"), client.apps.len());
    unique(problems, paths.iter().zip(client.apps.iter().map(|app| app.name.as_str())), "name");
    let mut apps = Vec::new();
    for (index, (path, app)) in paths.iter().zip(&client.apps).enumerate() {
        let files = path.key("files");
        let covered_by = |glob| client.apps[..index].iter().find(|earlier| covers(earlier, glob));
        let covering: Option<Vec<_>> = app.files.iter().map(covered_by).collect();
        if let Some(earlier) = covering.and_then(|covering| covering.first().copied()) {
            let message =
                format!("match only files that earlier apps already take, such as {:?}", earlier.name);
            problems.value(&files, message);
        } else if !app.files.iter().any(|glob| reachable(glob, extensions)) {
            problems.value(&files, "match none of the client's extensions");
        }
        apps.push(program::app(problems, path, app));
    }
    apps
}

/// The files of a contract must be able to be files of its app.
fn reachable_contracts(
    problems: &mut Problems<'_>,
    path: &Path,
    apps: &[settings::App],
    extensions: Option<&[String]>,
) {
    for (index, app) in apps.iter().enumerate() {
        for (number, contract) in app.expect.iter().enumerate() {
            let path = path.index(index).key("expect").index(number).key("files");
            if !reachable(&contract.files, extensions) {
                problems
                    .value(&path, format!("{:?} matches none of the client's extensions", contract.files));
            } else if let Some(earlier) =
                apps[..index].iter().find(|earlier| covers(earlier, &contract.files))
            {
                let message =
                    format!("matches only files that earlier apps already take, such as {:?}", earlier.name);
                problems.value(&path, message);
            }
        }
    }
}

/// Whether `app` gets every file that `glob` matches; a later app then gets none of them.
fn covers(app: &settings::App, glob: &String) -> bool {
    app.files.iter().any(|own| own == "*" || own == "**" || own == glob)
}

fn streams(
    problems: &mut Problems<'_>,
    path: &Path,
    client: &settings::Client,
    topics: &Topics,
) -> Vec<Stream> {
    let paths = paths(path.key("streams"), client.streams.len());
    unique(problems, paths.iter().zip(client.streams.iter().map(|stream| stream.name.as_str())), "name");
    let mut streams = Vec::new();
    for (path, stream) in paths.iter().zip(&client.streams) {
        streams.push(program::stream(problems, path, stream, topics.ingest_filter(&client.id)));
    }
    // Both would be members of one shared subscription, which would split the messages between them at random.
    let filters = streams.iter().map(|stream: &Stream| stream.topic_filter.as_str());
    unique(problems, paths.iter().zip(filters), "topic_filter");
    streams
}

fn paths(list: Path, length: usize) -> Vec<Path> {
    (0..length).map(|index| list.index(index)).collect()
}

/// Collections that are configured must hold documents of the client's apps.
fn collections(
    problems: &mut Problems<'_>,
    path: &Path,
    client: &settings::Client,
    apps: &[App],
    streams: &[Stream],
) {
    let apps = apps.iter().filter(|app| app.settings.ids != Ids::Object).map(|app| app.collection.as_str());
    let mut known: Vec<&str> = apps.chain(streams.iter().map(|stream| stream.collection.as_str())).collect();
    known.sort_unstable();
    known.dedup();
    for name in client.collections.keys().filter(|name| !known.contains(&name.as_str())) {
        let message = match known.as_slice() {
            [] => "is not a collection of documents: no app of the client has one".to_owned(),
            known => format!(
                "is not a collection of documents of the client's apps: expected one of {}",
                known.join(", ")
            ),
        };
        problems.key(&path.key(name), message);
    }
}
