//! Semantics of a client's views: their collections exist, and their keys can identify records.

use std::collections::BTreeMap;
use std::time::Duration;

use mysimbdp_model::app::Ids;
use mysimbdp_model::window::WindowSize;

use super::location::Path;
use super::problems::Problems;
use super::settings::{self, SourceType, TimeType};
use super::{App, Stream};

/// The key of documents that are identified by their `_id`.
const ID: &str = "_id";

/// A view, its defaults filled in.
#[derive(Clone, Debug)]
pub struct View {
    pub name: String,
    pub batch: Option<ViewLayer>,
    pub stream: Option<ViewLayer>,
    /// A path such as `a.b`.
    pub time: String,
    pub time_type: TimeType,
    /// A path.
    pub source: Option<String>,
    pub source_type: SourceType,
    /// Names of fields, or `_id` alone. Empty if nothing identifies a record in both layers.
    pub key: Vec<String>,
    pub windows: ViewWindows,
}

/// Windows over the records of a view.
#[derive(Clone, Debug)]
pub struct ViewWindows {
    pub lateness: Duration,
    pub idle: Duration,
    /// The fields of the windows that are published, by their size.
    pub publish: BTreeMap<WindowSize, Vec<String>>,
}

/// The collection of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewLayer {
    pub collection: String,
    /// The ids of all its records; `None` if its apps have different ones.
    pub ids: Option<Ids>,
    /// Whether apps of the other layer write to it too.
    pub is_shared: bool,
    /// Whether a record that is written again has the time that it had before.
    pub keeps_times: bool,
}

/// What a view does with records of both layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewKind {
    /// Records of the batch layer override those of the speed layer with the same key.
    Override,
    /// All records are in the view.
    Union,
}

impl View {
    pub fn kind(&self) -> ViewKind {
        if self.key.is_empty() { ViewKind::Union } else { ViewKind::Override }
    }

    /// Whether records of this collection are in the view.
    pub fn reads(&self, collection: &str) -> bool {
        self.batch.iter().chain(&self.stream).any(|layer| layer.collection == collection)
    }

    /// Whether the `_id` of a document is its key.
    pub fn is_keyed_by_id(&self) -> bool {
        self.key == [ID]
    }
}

/// Who writes to the client's collections of documents.
struct Writers<'a> {
    apps: &'a [App],
    streams: &'a [Stream],
}

pub(super) fn compile(
    problems: &mut Problems<'_>,
    path: &Path,
    views: &BTreeMap<String, settings::View>,
    apps: &[App],
    streams: &[Stream],
) -> BTreeMap<String, View> {
    let writers = Writers { apps, streams };
    let compile = |(name, view): (&String, &settings::View)| {
        let path = path.key(name);
        if !is_name(name) {
            let expected = "expected 1 to 32 characters of a-z, 0-9, - and _, the first a letter or a digit";
            problems.key(&path, format!("invalid name of a view {name:?}: {expected}"));
        }
        (name.clone(), self::view(problems, &path, name, view, &writers))
    };
    views.iter().map(compile).collect()
}

fn view(
    problems: &mut Problems<'_>,
    path: &Path,
    name: &str,
    view: &settings::View,
    writers: &Writers<'_>,
) -> View {
    let batch = view.batch.as_deref();
    let batch =
        batch.map(|name| layer(problems, &path.key("batch"), name, &view.time, writers, Writers::of_batch));
    let stream = view.stream.as_deref();
    let stream = stream
        .map(|name| layer(problems, &path.key("stream"), name, &view.time, writers, Writers::of_stream));
    match (&view.batch, &view.stream) {
        (None, None) => problems.value(path, "has no collection: expected batch, stream or both"),
        (Some(batch), Some(stream)) if batch == stream => {
            let message = format!(
                "{stream:?} is the collection of batch too: expected only one of them, as records of both layers are in one collection"
            );
            problems.value(&path.key("stream"), message);
        }
        _ => {}
    }
    let fields = [("time", Some(&view.time)), ("source", view.source.as_ref())];
    for (key, field) in fields.into_iter().filter_map(|(key, field)| Some((key, field?))) {
        if !is_path(field) {
            let expected = "expected names with dots between them, none empty or beginning with $";
            problems.value(&path.key(key), format!("invalid field {field:?}: {expected}"));
        }
    }
    let key = match (&view.key, &batch, &stream) {
        (Some(key), Some(batch), Some(stream)) => {
            self::key(problems, &path.key("key"), key, [batch, stream]);
            key.clone()
        }
        (Some(_), ..) => {
            let message = "is only allowed with both batch and stream: a key says which records of batch override which of stream";
            problems.value(&path.key("key"), message);
            Vec::new()
        }
        (None, Some(batch), Some(stream)) if writers.have_same_key(&batch.collection, &stream.collection) => {
            vec![ID.to_owned()]
        }
        (None, ..) => Vec::new(),
    };
    View {
        name: name.to_owned(),
        batch,
        stream,
        time: view.time.clone(),
        time_type: view.time_type,
        source: view.source.clone(),
        source_type: view.source_type,
        key,
        windows: windows(problems, &path.key("windows"), &view.windows, view.time_type),
    }
}

fn windows(
    problems: &mut Problems<'_>,
    path: &Path,
    windows: &settings::ViewWindows,
    time_type: TimeType,
) -> ViewWindows {
    let mut publish = BTreeMap::new();
    for (index, published) in windows.publish.iter().enumerate() {
        let path = path.key("publish").index(index);
        let size = WindowSize::try_from(published.size)
            .inspect_err(|error| problems.value(&path.key("size"), error.to_string()));
        for (index, field) in published.fields.iter().enumerate() {
            let path = path.key("fields").index(index);
            if !is_path(field) || field == "*" || field.contains(',') {
                let expected =
                    "expected names with dots between them, none empty, beginning with $ or with a comma";
                problems.value(&path, format!("invalid field {field:?}: {expected}"));
            } else if published.fields[..index].contains(field) {
                problems.value(&path, format!("{field:?} is listed twice"));
            }
        }
        let Ok(size) = size else { continue };
        if time_type == TimeType::Text && !size.is_whole_seconds() {
            let message =
                format!("invalid size {size}: expected whole seconds, as the times of the view are text");
            problems.value(&path.key("size"), message);
        }
        if publish.insert(size, published.fields.clone()).is_some() {
            problems.value(
                &path.key("size"),
                format!("windows of {size} are published already: expected each size once"),
            );
        }
    }
    ViewWindows { lateness: windows.lateness.duration(), idle: windows.idle.duration(), publish }
}

fn layer<'a>(
    problems: &mut Problems<'_>,
    path: &Path,
    collection: &str,
    time: &str,
    writers: &Writers<'a>,
    of_layer: impl Fn(&Writers<'a>) -> Vec<&'a str>,
) -> ViewLayer {
    let mut known = of_layer(writers);
    known.sort_unstable();
    known.dedup();
    if !known.contains(&collection) {
        let expected = match known.as_slice() {
            [] => "the client has none".to_owned(),
            known => format!("expected one of {}", known.join(", ")),
        };
        let layer = path.steps().last().map_or("", String::as_str);
        problems.value(
            path,
            format!("{collection:?} is not a collection of documents of the {layer} layer: {expected}"),
        );
    }
    let mut ids = writers.ids(collection).map(|(ids, _)| ids);
    let first = ids.next();
    ViewLayer {
        collection: collection.to_owned(),
        ids: first.filter(|first| ids.all(|other| other == *first)),
        keeps_times: writers
            .ids(collection)
            .all(|(ids, key)| ids != Ids::Key || key.iter().any(|field| field == time)),
        is_shared: writers.of_batch().contains(&collection) && writers.of_stream().contains(&collection),
    }
}

fn key(problems: &mut Problems<'_>, path: &Path, fields: &[String], layers: [&ViewLayer; 2]) {
    for (index, field) in fields.iter().enumerate() {
        let path = path.index(index);
        if field == ID && fields.len() > 1 {
            problems.value(&path, "identifies a document alone: expected \"_id\" or other fields");
        } else if !is_path(field) || field.contains('.') {
            let message = format!(
                "invalid key field {field:?}: expected a name without dots that does not begin with $"
            );
            problems.value(&path, message);
        } else if fields[..index].contains(field) {
            problems.value(&path, format!("{field:?} is listed twice"));
        }
    }
    if fields == [ID]
        && let Some(layer) = layers.into_iter().find(|layer| layer.ids == Some(Ids::Platform))
    {
        let message = format!(
            "\"_id\" identifies no record in both layers, because ids of collection {:?} is \"platform\": expected other fields",
            layer.collection
        );
        problems.value(&path.index(0), message);
    }
}

impl<'a> Writers<'a> {
    fn documents(&self) -> impl Iterator<Item = &'a App> + use<'a> {
        self.apps.iter().filter(|app| app.settings.ids != Ids::Object)
    }

    fn of_batch(&self) -> Vec<&'a str> {
        self.documents().map(|app| app.collection.as_str()).collect()
    }

    fn of_stream(&self) -> Vec<&'a str> {
        self.streams.iter().map(|stream| stream.collection.as_str()).collect()
    }

    /// Ids and key of each writer of a collection.
    fn ids(&self, collection: &str) -> impl Iterator<Item = (Ids, &'a [String])> {
        let apps = self.documents().filter(move |app| app.collection == collection);
        let streams = self.streams.iter().filter(move |stream| stream.collection == collection);
        let apps = apps.map(|app| (app.settings.ids, app.settings.record_key.as_slice()));
        apps.chain(streams.map(|stream| (stream.settings.ids, stream.settings.record_key.as_slice())))
    }

    fn have_same_key(&self, one: &str, other: &str) -> bool {
        let mut ids = self.ids(one).chain(self.ids(other));
        let first = ids.next();
        first.is_some_and(|first| first.0 == Ids::Key && ids.all(|other| other == first))
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=32).contains(&name.len())
        && name.bytes().next().is_some_and(allowed)
        && name.bytes().all(|byte| allowed(byte) || matches!(byte, b'-' | b'_'))
}

fn is_path(path: &str) -> bool {
    path.split('.').all(|name| !name.is_empty() && !name.starts_with('$') && !name.contains('\0'))
}
