use serde_json::json;

use super::{file, instance, model, now, page, parse, stream};
use crate::commands::top::api::{Answered, Polled};
use crate::commands::top::attention::Level::{Alert, Notice};
use crate::commands::top::filter::Filter;
use crate::commands::top::model::Model;

/// What needs a person, without what needs one in every fixture.
fn matters(model: &Model) -> Vec<(crate::commands::top::attention::Level, String)> {
    let matters = model.matters(now()).into_iter();
    let told = matters.map(|matter| {
        let client = matter.client.as_deref().unwrap_or("-").to_owned();
        (matter.level, format!("{} {client} {}", matter.kind, matter.text))
    });
    told.collect()
}

fn quiet() -> Model {
    let mut model = model();
    let answers = vec![Answered::Held(page(json!([]))), Answered::Discarded(page(json!([])))];
    model.polled(Polled { answers, ..Polled::default() }, now());
    model
}

fn with(answer: Answered) -> Model {
    let mut model = quiet();
    model.polled(Polled { answers: vec![answer], ..Polled::default() }, now());
    model
}

#[test]
fn held_files_come_before_discarded_ones_each_client_with_its_last() {
    let model = model();
    assert_eq!(
        matters(&model),
        [
            (Alert, "held client2 2 files, the last one new.csv: app gave up".to_owned()),
            (Notice, "discarded no client x.exe: no client wants it".to_owned()),
        ]
    );
    assert_eq!(matters(&quiet()), []);
}

#[test]
fn a_filter_counts_the_files_that_it_shows() {
    let mut model = model();
    model.filter = Filter::new("old*");
    assert_eq!(matters(&model), [(Alert, "held client2 old.csv: first".to_owned())]);
}

#[test]
fn a_stream_needs_a_person_if_it_has_too_few_instances_or_they_are_silent_or_too_busy() {
    let silent = |state: &str| {
        let mut silent = instance(1, state, 0.5);
        silent["silent_seconds"] = json!(240);
        silent
    };
    let waits = |reason: Option<&str>| {
        let mut waits = stream("s", 1, json!([]));
        waits["is_ready"] = json!(false);
        waits["waits_for"] = json!(reason);
        waits
    };
    let running = || instance(0, "running", 0.5);
    for (stream, expected) in [
        (stream("s", 1, json!([running()])), None),
        (stream("s", 2, json!([running()])), Some((Notice, "1 of 2 instances run"))),
        (
            stream("s", 2, json!([running(), instance(1, "draining", 0.0)])),
            Some((Notice, "1 of 2 instances run")),
        ),
        (
            stream("s", 2, json!([running(), silent("running")])),
            Some((Alert, "instance 1 has reported nothing for 4 min")),
        ),
        (
            stream("s", 2, json!([running(), instance(1, "given-up", 0.0)])),
            Some((Alert, "instance 1 was given up after 2 restarts")),
        ),
        (
            stream("s", 2, json!([running(), instance(1, "backing-off", 0.0)])),
            Some((Notice, "instance 1 has crashed and is started again")),
        ),
        (
            stream("s", 4, json!(vec![instance(0, "running", 0.9); 4])),
            Some((Notice, "all of its 4 instances are 90 % busy")),
        ),
        (waits(Some("no broker")), Some((Alert, "no instance can be started: no broker"))),
        (waits(None), Some((Alert, "no instance can be started: broker or store is unavailable"))),
    ] {
        let model = with(Answered::Streams(parse(json!([stream]))));
        let expected: Vec<_> =
            expected.into_iter().map(|(level, text)| (level, format!("stream client3 s: {text}"))).collect();
        assert_eq!(matters(&model), expected, "{stream}");
    }
}

#[test]
fn a_contract_needs_a_person_if_its_file_is_missing_late_or_too_small() {
    for (state, more, expected) in [
        ("expected", json!({}), None),
        ("on_time", json!({}), None),
        ("missing", json!({}), Some((Alert, "missing client2 daily: it was due 6 h ago"))),
        (
            "late",
            json!({"file": "a.csv"}),
            Some((Notice, "late client2 daily: a.csv, which was due 6 h ago")),
        ),
        (
            "too_small",
            json!({"file": "a.csv", "records": 3, "records_min": 10}),
            Some((Notice, "too small client2 daily: a.csv has 3 records, at least 10 are expected")),
        ),
    ] {
        let mut arrival =
            json!({"client": "client2", "contract": "daily", "state": state, "due": "2026-01-31T06:00:00Z"});
        arrival.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let model = with(Answered::Arrivals(parse(json!([arrival]))));
        let expected: Vec<_> = expected.into_iter().map(|(level, text)| (level, text.to_owned())).collect();
        assert_eq!(matters(&model), expected, "{state}");
    }
}

#[test]
fn a_part_that_does_not_run_is_told_except_for_streams_which_tell_it_themselves() {
    let part = |kind: &str, condition: &str| json!({"kind": kind, "name": "x", "condition": condition, "text": "why"});
    for (readiness, expected) in [
        (json!({"ready": true, "parts": [part("process", "ok"), part("process", "unknown")]}), None),
        (json!({"ready": false, "parts": [part("process", "missing")]}), Some((Alert, "process - x: why"))),
        (json!({"ready": false, "parts": [part("connection", "waits")]}), Some((Notice, "service - x: why"))),
        (json!({"ready": false, "parts": [part("stream", "waits")]}), None),
        (
            json!({"ready": false}),
            Some((
                Notice,
                "platform - not everything runs; operators see what, with a token for all clients",
            )),
        ),
    ] {
        let mut model = quiet();
        model.readiness(Some(parse(readiness.clone())));
        let expected: Vec<_> = expected.into_iter().map(|(level, text)| (level, text.to_owned())).collect();
        assert_eq!(matters(&model), expected, "{readiness}");
    }
}

#[test]
fn what_is_old_or_cannot_be_read_is_told() {
    let mut model = quiet();
    let unavailable = [("queues", "no store".into()), ("streams", "no manager".into())].into();
    model.polled(Polled { unavailable, ..Polled::default() }, now());
    let expected = [
        (Alert, "unavailable - queues: no store".to_owned()),
        (Alert, "unavailable - streams: no manager".to_owned()),
    ];
    assert_eq!(matters(&model), expected);
    // Without a stream nobody needs the stream-manager.
    let answers = vec![Answered::Clients(parse(json!([{"id": "client2"}])))];
    let unavailable = [("streams", "no manager".into())].into();
    model.polled(Polled { answers, unavailable, ..Polled::default() }, now());
    assert_eq!(matters(&model), []);

    model.polled(Polled { outage: Some("refused".into()), ..Polled::default() }, now());
    let old = [(Alert, "connection - refused; what is shown is old".to_owned())];
    assert_eq!(matters(&model), old);
    model.lost("reset");
    assert_eq!(matters(&model), old);
    // Lists are read all the same.
    model.polled(Polled::default(), now());
    assert_eq!(matters(&model), [(Notice, "connection - no events: reset".to_owned())]);
    model.connected();
    model.polled(Polled::default(), now());
    assert_eq!(matters(&model), []);
}

#[test]
fn a_page_that_is_not_all_says_so() {
    let held =
        json!({"items": vec![file(json!("client2"), "a.csv", "2026-01-31T11:00:00Z", "no"); 3], "next": "c"});
    let model = with(Answered::Held(parse(held)));
    assert_eq!(matters(&model), [(Alert, "held client2 3+ files, the last one a.csv: no".to_owned())]);
}
