//! Invalid configs, and the location and message of each fault.

use std::path::PathBuf;

use mysimbdp_model::layout::Layout;

use super::*;

fn no_variable(_: &str) -> Option<String> {
    None
}

/// Creates a folder with a `config.json` that contains this text.
fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("temporary directory");
    let file = folder.path().join("config.json");
    mysimbdp_platform::files::write_atomic(&file, text.as_bytes()).expect("config can be written");
    (folder, file)
}

fn faults(text: &str) -> Vec<String> {
    let (_folder, file) = written(text);
    let faults = Config::load(&file, no_variable).expect_err("the config has faults");
    faults.to_string().lines().map(|line| line.replace(file.to_str().expect("UTF-8"), "")).collect()
}

/// A config with a valid client, and these sections of the platform.
fn platform(fields: &str) -> String {
    format!(r#"{{{fields}, "clients": [{{"id": "a", "apps": [{{"name": "x", "command": ["x"]}}]}}]}}"#)
}

/// A config with one client that has an app, and these fields.
fn client(fields: &str) -> String {
    format!(
        "{{\"clients\": [\n  {{\"id\": \"a\", \"apps\": [{{\"name\": \"x\", \"command\": [\"x\"]}}], {fields}}}]}}"
    )
}

/// A config with one client that has these apps.
fn apps(apps: &str) -> String {
    format!("{{\"clients\": [{{\"id\": \"a\", \"apps\": [\n{apps}]}}]}}")
}

/// A config with one client that has one app with these fields.
fn app(fields: &str) -> String {
    apps(&format!(r#"¶{{"name": "x", "command": ["x"], {fields}}}"#))
}

/// A config with one client that has these streams.
fn streams(streams: &str) -> String {
    format!("{{\"clients\": [{{\"id\": \"a\", \"streams\": [\n{streams}]}}]}}")
}

/// A config with one client that has one stream with these fields.
fn stream(fields: &str) -> String {
    streams(&format!(r#"¶{{"command": ["x"], {fields}}}"#))
}

/// Asserts that `text` has exactly one fault, which is at the last `¶` and contains `message`.
fn refused(text: &str, path: &str, message: &str) {
    let before = text.rsplit_once('¶').map_or("", |(before, _)| before).replace('¶', "");
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let location = format!(":{}:{column}: ", before.matches('\n').count() + 1);
    let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
    let text = text.replace('¶', "");
    let found = faults(&text);
    assert_eq!(found.len(), 1, "one fault in {text}\nfound {found:#?}");
    assert!(
        found[0].starts_with(&format!("{location}{path}")),
        "{text}\nis not at {location}{path}\nbut {found:#?}"
    );
    assert!(found[0].contains(message), "{text}\ndoes not say {message}\nbut {found:#?}");
    assert!(!found[0].contains("secret"), "a password is shown: {found:#?}");
}

#[test]
fn a_text_that_is_not_a_json_object_is_refused() {
    refused("", "", "is empty");
    refused("¶[]", "", "[] is a list: expected an object");
    refused("{\n\"clients\": [¶,]}", "", "is not valid JSON: unexpected comma");
    refused("¶{}", "", "required key \"clients\" is missing");
}

#[test]
fn violations_of_the_schema_say_what_is_allowed() {
    for (text, path, message) in [
        (r#"{"clients": ¶[]}"#, "clients", "expected at least 1"),
        (r#"{"clients": ¶{}}"#, "clients", "{} is an object: expected a list"),
        (r#"{"clients": [{"id": ¶"A/b"}]}"#, "clients[0].id", "1 to 32 characters of a-z"),
        (r#"{"clients": [¶{"apps": []}]}"#, "clients[0]", "required key \"id\" is missing"),
    ] {
        refused(text, path, message);
    }
    for (fields, path, message) in [
        (r#"¶"rule": {}"#, "rule", "did you mean rules? expected one of $schema, data_root, broker, coredms"),
        (r#"¶"zzz": {}"#, "zzz", "unknown key: expected one of $schema"),
        (
            r#""rules": {"file_bytes_max": ¶"10mb"}"#,
            "rules.file_bytes_max",
            "invalid value \"10mb\": expected a whole number and B, kB",
        ),
        (
            r#""rules": {"file_bytes_max": ¶10}"#,
            "rules.file_bytes_max",
            "10 is a number: expected text, a whole number and B",
        ),
        (
            r#""fetchdata": {"settle": ¶"2 s"}"#,
            "fetchdata.settle",
            "expected a whole number and ms, s, m, h or d, such as \"2s\"",
        ),
        (
            r#""fetchdata": {"files_in_parallel": ¶0}"#,
            "fetchdata.files_in_parallel",
            "0 is out of range: expected 1 to 64",
        ),
        (
            r#""fetchdata": {"staging_parts": ¶"file"}"#,
            "fetchdata.staging_parts",
            "unknown value \"file\", did you mean \"files\"? expected one of \"ranges\", \"files\"",
        ),
        (
            r#""logs": {"level": ¶"loud"}"#,
            "logs.level",
            "expected one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        ),
        (r#""broker": {"url": ¶null}"#, "broker.url", "null is not allowed: expected text"),
        (r#""broker": {"topic_prefix": ¶"a/#"}"#, "broker.topic_prefix", "expected levels of A-Z"),
        (r#""coredms": {"database": ¶"a.b"}"#, "coredms.database", "1 to 30 characters"),
    ] {
        refused(&platform(fields), path, message);
    }
    refused(&client(r#"¶"id": "b""#), "clients[0].id", "is given twice, first in line 2");
    refused(
        &client(r#""collections": {"x": {"validator": ¶[]}}"#),
        "clients[0].collections.x.validator",
        "expected an object",
    );
    refused(
        &app(r#""unit": ¶"batch""#),
        "clients[0].apps[0].unit",
        "expected one of \"micro-batch\", \"file\", \"range\"",
    );
    refused(&apps(r#"{"name": "x", "command": ¶[]}"#), "clients[0].apps[0].command", "expected at least 1");
    refused(
        &stream(r#""message_schema": ¶true"#),
        "clients[0].streams[0].message_schema",
        "true is a boolean: expected an object",
    );
}

#[test]
fn invalid_settings_of_the_platform_are_refused() {
    for (fields, path, message) in [
        (r#""broker": {"url": ¶"http://x"}"#, "broker.url", "mqtt://host:port"),
        (r#""coredms": {"url": ¶"postgres://user:secret@x"}"#, "coredms.url", "expected mongodb://…"),
        (r#""coredms": {"url": ¶"mongodb://"}"#, "coredms.url", "is not a MongoDB address"),
        (r#""coredms": {"url": ¶"mongodb://user:secret@/x"}"#, "coredms.url", "is not a MongoDB address"),
        (r#""coredms": {"url": ¶"sqlite:"}"#, "coredms.url", "names no directory"),
        (r#""rules": {"file_name_pattern": ¶"a)(b"}"#, "rules.file_name_pattern", "unopened group"),
        (r#""batch_manager": {"scan_every": ¶"0s"}"#, "batch_manager.scan_every", "must be longer than 0"),
        (r#""batch_manager": ¶{"backoff_first": "2m"}"#, "batch_manager.backoff_max", "expected 2m or more"),
        (r#""broker": {"keep_alive": ¶"1d"}"#, "broker.keep_alive", "at most 65535s"),
        (r#""data_root": ¶"config.json""#, "data_root", "is not a directory"),
    ] {
        refused(&platform(fields), path, message);
    }
}

#[test]
fn invalid_settings_of_a_client_are_refused() {
    refused(r#"{"clients": [¶{"id": "a"}]}"#, "clients[0]", "neither apps nor streams");
    for (fields, path, message) in [
        (r#""files": {"globs": [¶"a["]}"#, "files.globs[0]", "invalid glob"),
        (r#""files": {"globs": [¶"in/*.csv"]}"#, "files.globs[0]", "without /"),
        (r#""files": {"pattern": ¶"("}"#, "files.pattern", "unclosed group"),
        (
            r#""files": {"extensions": [¶".csv"]}"#,
            "files.extensions[0]",
            "what follows the last dot of a name",
        ),
        (
            r#""files": {"globs": [¶"*.json"], "extensions": ["csv"]}"#,
            "files.globs[0]",
            "matches none of the client's extensions",
        ),
        (r#""files": {"settle": ¶"0s"}"#, "files.settle", "longer than 0"),
        (r#""micro_batching": {"block_size": ¶"0MB"}"#, "micro_batching.block_size", "larger than 0"),
        (r#""archive": ¶"0d""#, "archive", "longer than 0"),
        (r#""collections": {¶"y": {"validator": {}}}"#, "collections.y", "expected one of x"),
    ] {
        refused(&client(fields), &format!("clients[0].{path}"), message);
    }
}

#[test]
fn an_app_whose_documents_are_unknown_cannot_replace_them() {
    let client = r#"{"clients": [{"id": "a", "on_duplicate": ¶"replace", "apps": [
        {"name": "x", "command": ["x"], "files": ["*.csv"]}, {"name": "y", "command": ["y"], "ids": "none"}]}]}"#;
    refused(client, "clients[0].on_duplicate", "app \"y\" has \"none\"");
}

#[test]
fn invalid_settings_of_an_app_are_refused() {
    for (fields, path, message) in [
        (r#""ids": "key""#, "record_key", "must name the fields"),
        (r#""record_key": ¶["k"]"#, "record_key", "ids is \"platform\""),
        (r#""ids": "key", "record_key": ["k", ¶"k"]"#, "record_key[1]", "listed twice"),
        (r#""ids": "key", "record_key": [¶"a,b"]"#, "record_key[0]", "invalid key field"),
        (r#""ids": ¶"object""#, "ids", "the unit \"file\" or \"range\""),
        (r#""unit": ¶"range""#, "unit", "expected the ids \"object\""),
        (r#""collection": ¶"rejected""#, "collection", "reserved for rejected records"),
        (r#""collection": ¶"sequences""#, "collection", "reserved for the numbers of received messages"),
        (r#""collection": ¶"losses""#, "collection", "reserved for lost messages"),
        (r#""timeout": ¶"0s""#, "timeout", "longer than 0"),
        (r#""env": {¶"MYSIMBDP_X": "1"}"#, "env.MYSIMBDP_X", "is reserved for the platform"),
        (r#""env": {¶"A=B": "1"}"#, "env.A=B", "invalid name of an environment variable"),
        (r#""files": [¶"["]"#, "files[0]", "invalid glob"),
    ] {
        refused(&app(fields), &format!("clients[0].apps[0].{path}"), message);
    }
    refused(
        &apps(r#"{"name": "x", "command": [¶" "]}"#),
        "clients[0].apps[0].command[0]",
        "names no program",
    );
    refused(
        &apps(r#"{"name": "x", "files": ["*.csv"], "command": ["x"]}, {"name": ¶"x", "command": ["y"]}"#),
        "clients[0].apps[1].name",
        "\"x\" is already the name of clients[0].apps[0]",
    );
    refused(
        &apps(r#"{"name": "x", "command": ["x"]}, {"name": "y", "files": ¶["*.csv"], "command": ["y"]}"#),
        "clients[0].apps[1].files",
        "match only files that earlier apps already take, such as \"x\"",
    );
    refused(
        &client(r#""files": {"extensions": ["CSV"]}"#).replace(r#""x", "#, r#""x", "files": ¶["*.json"], "#),
        "clients[0].apps[0].files",
        "match none of the client's extensions",
    );
}

#[test]
fn invalid_settings_of_a_stream_are_refused() {
    for (fields, path, message) in [
        (r#""topic_filter": ¶"a/#/b""#, "topic_filter", "invalid MQTT topic filter"),
        (r#""topic_filter": ¶"$share/a/b""#, "topic_filter", "omit $share/…"),
        (
            r##""topic_filter": ¶"#""##,
            "topic_filter",
            "overlaps mysimbdp/ingest/+/#, which does not belong to this client",
        ),
        (
            r#""topic_filter": ¶"mysimbdp/#""#,
            "topic_filter",
            "expected mysimbdp/ingest/a/# or topics within it",
        ),
        (r#""topic_filter": ¶"mysimbdp/stream/reports/a""#, "topic_filter", "overlaps mysimbdp/stream/#"),
        (r#""instances": {"min": ¶5}"#, "instances.min", "expected 0 to 4"),
        (r#""message_schema": ¶{"type": "strin"}"#, "message_schema", "invalid JSON Schema"),
        (r#""message_schema": ¶{"$ref": "https://example.com/x"}"#, "message_schema", "invalid JSON Schema"),
        (r#""ids": ¶"object""#, "ids", "\"object\" is for files"),
        (r#""name": ¶"rejected""#, "name", "reserved for rejected records"),
        (
            r#""scaling": {"thresholds": ¶{"up_messages": 7000000}}"#,
            "scaling.thresholds.down_messages",
            "more than 7000000",
        ),
        (
            r#""scaling": {"thresholds": {"down_processing_time": ¶"1s"}}"#,
            "scaling.thresholds.down_processing_time",
            "less than 50ms",
        ),
    ] {
        refused(&stream(fields), &format!("clients[0].streams[0].{path}"), message);
    }
    refused(
        &streams(r#"{"command": ["x"]}, ¶{"name": "two", "command": ["x"]}"#),
        "clients[0].streams[1].topic_filter",
        "\"mysimbdp/ingest/a/#\" is already the topic filter of clients[0].streams[0]",
    );
    let many = streams(r#"{"command": ["x"], "instances": {"min": 64, "max": 64}}"#);
    refused(&format!("¶{many}"), "stream_manager.instances_max", "16 is less than 64");
}

/// A client with two batch collections, one of which a stream writes to as well, a collection of objects, and these views.
fn views(views: &str) -> String {
    format!(
        r#"{{"clients": [{{"id": "a", "apps": [
            {{"name": "x", "command": ["x"], "files": ["*.csv"]}},
            {{"name": "k", "command": ["x"], "files": ["*.json"], "ids": "key", "record_key": ["n"]}},
            {{"name": "o", "command": ["x"], "unit": "file", "ids": "object"}}],
          "streams": [
            {{"name": "s", "command": ["x"], "ids": "key", "record_key": ["n"]}},
            {{"name": "m", "command": ["x"], "ids": "key", "record_key": ["m"], "topic_filter": "mysimbdp/ingest/a/m"}},
            {{"name": "both", "command": ["x"], "collection": "x", "topic_filter": "mysimbdp/ingest/a/x"}}],
          "views": {{{views}}}}}]}}"#
    )
}

#[test]
fn invalid_views_are_refused() {
    for (view, path, message) in [
        (r#"¶{"time": "t"}"#, "", "has no collection: expected batch, stream or both"),
        (r#"¶{"batch": "x"}"#, "", "required key \"time\" is missing"),
        (r#"{"batch": ¶"o", "time": "t"}"#, "batch", "of the batch layer: expected one of k, x"),
        (r#"{"batch": ¶"s", "time": "t"}"#, "batch", "of the batch layer: expected one of k, x"),
        (r#"{"stream": ¶"k", "time": "t"}"#, "stream", "of the stream layer: expected one of m, s, x"),
        (r#"{"batch": "x", "stream": ¶"x", "time": "t"}"#, "stream", "is the collection of batch too"),
        (r#"{"batch": "x", "time": ¶"a..b"}"#, "time", "names with dots between them"),
        (r#"{"batch": "x", "time": "t", "source": ¶"$s"}"#, "source", "names with dots between them"),
        (r#"{"batch": "x", "time": "t", "time_type": ¶"day"}"#, "time_type", "\"milliseconds\""),
        (r#"{"batch": "k", "time": "t", "key": ¶["n"]}"#, "key", "with both batch and stream"),
        (r#"{"batch": "k", "stream": "s", "time": "t", "key": ¶[]}"#, "key", "expected at least 1"),
        (r#"{"batch": "k", "stream": "s", "time": "t", "key": [¶"a.b"]}"#, "key[0]", "without dots"),
        (r#"{"batch": "k", "stream": "s", "time": "t", "key": ["n", ¶"n"]}"#, "key[1]", "listed twice"),
        (r#"{"batch": "k", "stream": "s", "time": "t", "key": ["n", ¶"_id"]}"#, "key[1]", "alone"),
        (r#"{"batch": "x", "stream": "s", "time": "t", "key": [¶"_id"]}"#, "key[0]", "expected other fields"),
        (
            r#"{"batch": "x", "time": "t", "windows": {"publish": [{"size": ¶"1ms", "fields": ["v"]}]}}"#,
            "windows.publish[0].size",
            "invalid size 1ms: expected 1s to 366d",
        ),
        (
            r#"{"batch": "x", "time": "t", "time_type": "text", "windows": {"publish": [{"size": ¶"1500ms", "fields": ["v"]}]}}"#,
            "windows.publish[0].size",
            "expected whole seconds",
        ),
        (
            r#"{"batch": "x", "time": "t", "windows": {"publish": [{"size": "1m", "fields": ["v"]}, {"size": ¶"60s", "fields": ["w"]}]}}"#,
            "windows.publish[1].size",
            "windows of 1m are published already",
        ),
        (
            r#"{"batch": "x", "time": "t", "windows": {"publish": [{"size": "1m", "fields": ["v", ¶"a..b"]}]}}"#,
            "windows.publish[0].fields[1]",
            "names with dots between them",
        ),
        (
            r#"{"batch": "x", "time": "t", "windows": {"publish": [{"size": "1m", "fields": ["v", ¶"v"]}]}}"#,
            "windows.publish[0].fields[1]",
            "listed twice",
        ),
    ] {
        let path = if path.is_empty() { String::new() } else { format!(".{path}") };
        refused(&views(&format!(r#""v": {view}"#)), &format!("clients[0].views.v{path}"), message);
    }
    refused(
        &views(r#"¶"V 1": {"batch": "x", "time": "t"}"#),
        "clients[0].views.V 1",
        "invalid name of a view \"V 1\": expected 1 to 32 characters",
    );
    refused(
        &client(r#""views": {"v": {"stream": ¶"x", "time": "t"}}"#),
        "clients[0].views.v.stream",
        "has none",
    );
}

#[test]
fn the_key_of_a_view_is_by_default_the_id_that_both_layers_share() {
    let text = views(
        r#""keyed": {"batch": "k", "stream": "s", "time": "t"},
           "other": {"batch": "k", "stream": "m", "time": "t"},
           "named": {"batch": "k", "stream": "m", "time": "t", "key": ["n"]},
           "union": {"batch": "x", "stream": "s", "time": "t"},
           "timed": {"stream": "s", "time": "n"},
           "single": {"stream": "s", "time": "a.t", "time_type": "text", "source": "a.station"}"#,
    );
    let (_folder, file) = written(&text);
    let config = Config::load(&file, no_variable).expect("a valid config");
    let views = &config.clients.values().next().expect("a client").views;
    let key = |name: &str| views[name].key.join(",");
    assert_eq!(["keyed", "other", "named", "union", "single"].map(key), ["_id", "", "n", "", ""]);
    assert_eq!(views["keyed"].kind(), ViewKind::Override);
    assert_eq!(views["union"].kind(), ViewKind::Union);
    // A stream writes to it too.
    let shared = views["union"].batch.as_ref().expect("a layer");
    assert_eq!((shared.ids, shared.is_shared), (Some(mysimbdp_model::app::Ids::Platform), true));
    assert_eq!(views["single"].time_type, settings::TimeType::Text);
    let keeps_times = |name: &str| views[name].stream.as_ref().expect("a layer").keeps_times;
    assert_eq!(["keyed", "timed"].map(keeps_times), [false, true]);
}

/// A message belongs to one client, whichever client has the filter.
#[test]
fn a_filter_that_overlaps_that_of_another_stream_is_refused() {
    let two = |one: &str, other: &str| {
        let stream = |filter: &str| match filter {
            "" => r#"{"command": ["x"]}"#.to_owned(),
            filter => format!(r#"{{"command": ["x"], "topic_filter": {filter}}}"#),
        };
        let (one, other) = (stream(one), stream(other));
        format!(r#"{{"clients": [{{"id": "a", "streams": [{one}]}}, {{"id": "b", "streams": [{other}]}}]}}"#)
    };
    for (one, other, index, message) in [
        ("", "¶\"mysimbdp/ingest/+/x\"", 1, "overlaps mysimbdp/ingest/+/#"),
        ("¶\"mysimbdp/ingest/b/x\"", "", 0, "overlaps mysimbdp/ingest/+/#"),
        ("\"x/+\"", "¶\"x/#\"", 1, "matches messages of client a, whose stream stream subscribes to \"x/+\""),
        ("\"x/y\"", "¶\"x/y\"", 1, "matches messages of client a"),
    ] {
        refused(&two(one, other), &format!("clients[{index}].streams[0].topic_filter"), message);
    }
    for (one, other) in
        [("\"x/a/#\"", "\"x/b/#\""), ("\"mysimbdp/ingest/a/+\"", ""), ("\"mysimbdp/receipts/a/#\"", "")]
    {
        let (_folder, file) = written(&two(one, other));
        Config::load(&file, no_variable).unwrap_or_else(|faults| panic!("{faults}"));
    }
}

#[test]
fn faults_of_all_kinds_are_listed_together_in_the_order_of_the_file() {
    let found = faults(
        r#"{
  "rules": {"file_name_pattern": "("},
  "logs": {"level": "loud", "colour": true},
  "clients": [
    {"id": "a", "apps": [{"name": "x", "command": []}]},
    {"id": "b", "unknown": 1, "apps": [{"name": "x", "command": ["x"], "unit": "range"}]},
    {"id": "b", "streams": [{"command": ["x"], "topic_filter": "a#"}]}
  ]
}"#,
    );
    let expected = [
        ":2:34: rules.file_name_pattern: ",
        ":3:21: logs.level: ",
        ":3:29: logs.colour: ",
        ":5:51: clients[0].apps[0].command: ",
        ":6:17: clients[1].unknown: ",
        ":6:80: clients[1].apps[0].unit: ",
        ":7:12: clients[2].id: ",
        ":7:64: clients[2].streams[0].topic_filter: ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} is not at {expected}");
    }
}

#[test]
fn the_shipped_config_is_complete_and_valid() {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config.json"));
    let config = Config::load(file, no_variable).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((config.clients.len(), config.broker_url.as_deref()), (3, None));
    // It contains every section, with the values that apply if the section is left out.
    let text = mysimbdp_platform::files::read_to_string(file).expect("config.json");
    let written: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let defaults: settings::Settings = serde_json::from_str(r#"{"clients": []}"#).expect("defaults");
    let defaults = serde_json::to_value(defaults).expect("JSON");
    for section in ["broker", "coredms", "rules", "fetchdata", "batch_manager", "stream_manager", "logs"] {
        assert_eq!(written[section], defaults[section], "{section}");
    }
}

#[test]
fn a_replacement_process_does_not_start_on_a_file_that_the_others_refuse() {
    let in_use = platform(r#""rules": {"file_name_bytes_max": 9}"#);
    let started_on = |kept: Option<&str>, file_text: Option<&str>| {
        let (folder, file) = written(file_text.unwrap_or_default());
        if file_text.is_none() {
            mysimbdp_platform::files::remove_file(&file).expect("removable");
        }
        let root = mysimbdp_platform::files::canonical(folder.path()).expect("the folder is there");
        if let Some(kept) = kept {
            let in_use = Layout::new(root.clone()).config_in_use();
            mysimbdp_platform::files::create_dir_all(in_use.parent().expect("state/")).expect("directory");
            mysimbdp_platform::files::write_atomic(&in_use, kept.as_bytes()).expect("writable");
        }
        Config::load_for_restart(&file, &root, no_variable).map(|config| config.text.to_string())
    };
    let restart = platform(r#""logs": {"retention": "1d"}"#);
    for refused in [None, Some("{"), Some(restart.as_str())] {
        assert_eq!(started_on(Some(&in_use), refused).expect("what is in use"), in_use, "{refused:?}");
    }
    let sound = platform(r#""rules": {"file_name_bytes_max": 8}"#);
    for kept in [None, Some("{"), Some(in_use.as_str())] {
        assert_eq!(started_on(kept, Some(&sound)).expect("the file"), sound, "{kept:?}");
    }
    started_on(None, Some("{")).expect_err("neither can be read");
}

#[test]
fn a_minimal_config_has_every_default() {
    let text = r#"{"clients": [{"id": "a", "apps": [{"name": "x", "command": ["x"]}], "streams": [{"command": ["y"]}]}]}"#;
    let (folder, file) = written(text);
    let config = Config::load(&file, no_variable).expect("a valid config");
    let root = mysimbdp_platform::files::canonical(folder.path()).expect("the folder is there");
    assert_eq!(config.layout.root(), root);
    assert_eq!(config.coredms_url, format!("sqlite:{}/state/coredms", root.display()));
    assert_eq!(config.broker_url, None);
    let client = config.client(&"a".parse().expect("client id")).expect("client a");
    assert_eq!(client.database, "mysimbdp_a");
    assert_eq!(client.app_for("anything.csv").map(|app| app.collection.as_str()), Some("x"));
    assert_eq!(client.streams[0].topic_filter, "mysimbdp/ingest/a/#");
    assert_eq!((client.settle, client.block_bytes_max), (Duration::from_secs(1), None));
}

#[test]
fn a_pattern_must_match_the_whole_name() {
    let text = client(r#""files": {"pattern": "a|b"}"#);
    let (_folder, file) = written(&text);
    let config = Config::load(&file, no_variable).expect("a valid config");
    let pattern =
        config.clients.values().next().and_then(|client| client.pattern.clone()).expect("a pattern");
    assert!(pattern.is_match("a") && pattern.is_match("b"));
    for name in ["ab", "xb", "a\n", "\na"] {
        assert!(!pattern.is_match(name), "{name:?}");
    }
    assert!(config.rules.file_name_pattern.is_match("weather 2013 (1).csv"));
    assert!(!config.rules.file_name_pattern.is_match("../x"));
}

#[test]
fn a_client_may_set_which_fields_number_a_message() {
    let text = stream(r#""env": {"MYSIMBDP_NUMBER_FIELDS": "station,boot,count"}"#).replace('¶', "");
    let (_directory, path) = written(&text);
    Config::load(&path, no_variable).expect("the one variable of the platform that a stream may set");
}

#[test]
fn a_whole_number_may_be_written_with_a_point() {
    let (_folder, file) = written(&platform("\"batch_manager\": {\"attempts_max\": 3.0}"));
    let config = Config::load(&file, no_variable).expect("a valid config");
    assert_eq!(config.settings.batch_manager.attempts_max, 3);
}

#[test]
fn the_environment_takes_precedence_over_the_file() {
    let (_folder, file) = written(&platform(
        "\"broker\": {\"url\": \"mqtt://file:1\"}, \"coredms\": {\"url\": \"mongodb://file\"}",
    ));
    let set = |name: &str| match name {
        BROKER_VARIABLE => Some("mqtt://variable:2".to_owned()),
        COREDMS_VARIABLE => Some("mongodb://variable/?replicaSet=rs0".to_owned()),
        _ => None,
    };
    let config = Config::load(&file, set).expect("a valid config");
    assert_eq!(config.broker_url.as_deref(), Some("mqtt://variable:2"));
    assert_eq!(config.coredms_url, "mongodb://variable/?replicaSet=rs0");
    // An empty variable counts as unset.
    let config = Config::load(&file, |_| Some(String::new())).expect("a valid config");
    assert_eq!(config.broker_url.as_deref(), Some("mqtt://file:1"));
    assert_eq!(config.coredms_url, "mongodb://file");
}

#[test]
fn the_password_of_the_broker_may_come_from_the_environment() {
    let (_folder, file) = written(&platform("\"broker\": {\"url\": \"mqtt://user@file:1\"}"));
    let password = |name: &str| (name == BROKER_PASSWORD_VARIABLE).then(|| "s:cret".to_owned());
    let config = Config::load(&file, password).expect("a valid config");
    assert_eq!(config.broker_url.as_deref(), Some("mqtt://user:s%3Acret@file:1"));

    let (_folder, file) = written(&platform("\"broker\": {\"url\": \"mqtt://file:1\"}"));
    let text = Config::load(&file, password).expect_err("a password without a user").to_string();
    assert!(text.contains(":1:1: MYSIMBDP_BROKER_PASSWORD: ") && !text.contains("cret"), "{text}");
    // The embedded broker does not ask for a password.
    let (_folder, file) = written(&platform("\"logs\": {}"));
    assert_eq!(Config::load(&file, password).expect("a valid config").broker_url, None);
}

#[test]
fn an_invalid_variable_is_named() {
    let (_folder, file) = written(&platform("\"logs\": {}"));
    let faults = Config::load(&file, |_| Some("nonsense".to_owned())).expect_err("two wrong variables");
    let text = faults.to_string();
    assert!(text.contains(":1:1: MYSIMBDP_BROKER: "), "{text}");
    assert!(text.contains(":1:1: MYSIMBDP_COREDMS: "), "{text}");
}

#[test]
fn a_relative_data_root_and_store_are_beside_the_config() {
    let (folder, file) =
        written(&platform("\"data_root\": \"data/new\", \"coredms\": {\"url\": \"sqlite:db\"}"));
    let config = Config::load(&file, no_variable).expect("a valid config");
    let root =
        mysimbdp_platform::files::canonical(folder.path()).expect("the folder is there").join("data/new");
    assert_eq!(config.layout.root(), root);
    assert_eq!(config.coredms_url, format!("sqlite:{}/db", root.display()));
}

#[test]
fn a_config_that_cannot_be_read_names_itself() {
    let faults = Config::load(Path::new("/nowhere/config.json"), no_variable).expect_err("no such file");
    assert!(faults.to_string().contains("cannot read /nowhere/config.json: No such file"), "{faults}");
}

/// A config whose app has these arrival contracts.
fn contracts(contracts: &str) -> String {
    app(&format!("\"expect\": [{contracts}]"))
}

#[test]
fn invalid_arrival_contracts_are_refused() {
    // The last mark counts, which is that of the contract.
    for (contract, path, message) in [
        (r#"{"files": "*", "by": ¶"6:00"}"#, "by", "expected a time from \"00:00\" to \"23:59\""),
        (r#"{"files": "*", "by": ¶"24:00"}"#, "by", "expected a time from"),
        (r#"{"files": ¶"a/*", "by": "06:00"}"#, "files", "expected a glob without /"),
        (r#"{"files": ¶"[", "by": "06:00"}"#, "files", "invalid glob"),
        (
            r#"{"files": "*", "by": "06:00", "zone": ¶"Europe/Helsinky"}"#,
            "zone",
            "unknown time zone \"Europe/Helsinky\", did you mean \"Europe/Helsinki\"? expected an IANA name",
        ),
        (r#"{"files": "*", "by": "06:00", "zone": ¶"+02:00"}"#, "zone", "unknown time zone"),
        (
            r#"{"files": "*", "by": "06:00", "every": ¶"32d"}"#,
            "every",
            "expected whole days up to 31d, or 1m or more",
        ),
        (r#"{"files": "*", "by": "06:00", "every": ¶"7h"}"#, "every", "7h is not an interval of due times"),
        (r#"{"files": "*", "by": "06:00", "every": ¶"36h"}"#, "every", "36h is not an interval"),
        (r#"{"files": "*", "by": "06:00", "every": ¶"30s"}"#, "every", "1m or more that divides a day"),
        (r#"{"files": "*", "by": "06:00", "every": ¶"0s"}"#, "every", "0s is not an interval"),
        (r#"{"files": "*", "by": "06:00", "on": ¶[]}"#, "on", "expected at least 1"),
        (r#"{"files": "*", "by": "06:00", "on": [¶"monday"]}"#, "on[0]", "expected one of \"mon\", \"tue\""),
        (
            r#"{"files": "*", "by": "06:00", "every": "1h", "on": ¶["mon"]}"#,
            "on",
            "is not allowed with every 1h",
        ),
        (
            r#"{"files": "*", "by": "06:00", "every": "2d", "on": ¶["mon"]}"#,
            "on",
            "expected every of 1d, 7d, 14d",
        ),
        (r#"{"files": "*", "by": "06:00", "records_min": ¶0}"#, "records_min", "expected 1 or more"),
        (r#"{"files": "*", "by": "06:00", "name": ¶"A b"}"#, "name", "1 to 32 characters"),
        (r#"{"files": "*", "by": "06:00", ¶"zones": "UTC"}"#, "zones", "did you mean zone?"),
        (
            r#"{"files": "*", "by": "06:00", "name": "a"}, {"files": "*", "by": ¶"x", "name": "b"}"#,
            "by",
            "a time",
        ),
    ] {
        let number = usize::from(contract.contains("}, {"));
        refused(&contracts(contract), &format!("clients[0].apps[0].expect[{number}].{path}"), message);
    }
    let two = r#"{"files": "*", "by": "06:00", "name": "a"}, ¶{"files": "*", "by": "07:00"}"#;
    refused(&contracts(two), "clients[0].apps[0].expect[1]", "app \"x\" has several contracts");
    let same = r#"{"files": "*", "by": "06:00", "name": "a"}, {"name": ¶"a", "files": "*", "by": "07:00"}"#;
    refused(&contracts(same), "clients[0].apps[0].expect[1].name", "\"a\" is already the name of");
    let covered = r#"{"name": "x", "command": ["x"]},
        {"name": "y", "command": ["x"], "files": ["a*", "b*"], "expect": [{"files": ¶"*", "by": "06:00"}]}"#;
    let found = faults(&apps(&covered.replace('¶', "")));
    assert!(
        found.iter().any(|fault| fault.contains("matches only files that earlier apps already take")),
        "{found:#?}"
    );
}

#[test]
fn a_contract_is_named_after_its_app_and_its_times_are_those_of_its_zone() {
    let text = contracts(
        r#"{"files": "sales-*.csv", "by": "06:00", "zone": "europe/helsinki", "every": "14d", "on": ["fri", "mon"], "records_min": 1000}"#,
    );
    let (_folder, file) = written(&text.replace('¶', ""));
    let config = Config::load(&file, no_variable).expect("a valid config");
    let client = config.clients.values().next().expect("a client");
    let contract = &client.contracts[0];
    assert_eq!((contract.name.as_str(), contract.app.as_str(), contract.records_min), ("x", "x", Some(1000)));
    let after = "2026-03-27T00:00:00Z".parse().expect("a time");
    let next = contract.schedule.next(after).expect("a due time");
    // A Monday, after the clocks were put forward.
    assert_eq!(next.to_string(), "2026-03-30T03:00:00Z");
    assert!(client.expects(contract, "sales-1.csv") && client.expects(contract, "sales-1.CSV"));
    assert!(!client.expects(contract, "sale-1.csv"));
}
