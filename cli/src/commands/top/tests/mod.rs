//! The model, what is derived from it, and how it is drawn, from answers of a server to the text of a screen.

mod attention;
mod clients;
mod update;
mod view;

use std::time::Duration;

use jiff::Timestamp;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Answered, Page, Polled};
use super::model::Model;
use crate::events::Event;

fn now() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().expect("a time")
}

fn parse<T: for<'de> Deserialize<'de>>(value: Value) -> T {
    serde_json::from_value(value).expect("an answer")
}

fn page<T: for<'de> Deserialize<'de>>(items: Value) -> Page<T> {
    parse(json!({"items": items}))
}

/// A file of `client` (of none if it is null).
fn file(client: Value, name: &str, ended_at: &str, reason: &str) -> Value {
    json!({"client": client, "name": name, "ended_at": ended_at, "reasons": [reason]})
}

fn stream(name: &str, desired: u64, instances: Value) -> Value {
    json!({
        "client": "client3", "stream": name, "desired": desired, "max": 4, "is_ready": true, "is_manual": false,
        "decisions": [
            {"at": "2026-01-31T11:59:58Z", "before": 2, "desired": 2, "reason": "steady"},
            {"at": "2026-01-31T11:50:00Z", "before": 1, "desired": 2, "reason": "busy"},
        ],
        "instances": instances,
    })
}

fn instance(slot: u64, state: &str, utilization: f64) -> Value {
    json!({"slot": slot, "state": state, "messages_per_second": 600.0, "utilization": utilization, "backlog": 3, "restarts": 2})
}

/// Two clients and their files, a stream, and one client that files are left of.
fn answers() -> Vec<Answered> {
    vec![
        Answered::Clients(parse(json!([{"id": "client2"}, {"id": "client3", "streams": ["readings"]}]))),
        Answered::Waiting(page(json!([file(json!("client2"), "a.csv", "2026-01-31T11:59:00Z", "")]))),
        Answered::Held(page(json!([
            file(json!("client2"), "old.csv", "2026-01-31T10:00:00Z", "first"),
            file(json!("client2"), "new.csv", "2026-01-31T11:00:00Z", "app gave up"),
        ]))),
        Answered::Discarded(page(json!([file(
            Value::Null,
            "x.exe",
            "2026-01-31T11:30:00Z",
            "no client wants it"
        )]))),
        Answered::Queues(parse(json!([
            {"client": "client2", "lane": "live", "files": 5, "begun": 2, "oldest_seconds": 12.5},
            {"client": "client2", "lane": "retry", "files": 1, "begun": 0, "oldest_seconds": 130.0},
        ]))),
        Answered::Streams(parse(json!([stream(
            "readings",
            2,
            json!([instance(0, "running", 0.5), instance(1, "running", 0.7)])
        )]))),
        Answered::Arrivals(parse(json!([
            {"client": "client2", "contract": "daily", "state": "on_time", "due": "2026-01-31T06:00:00Z"},
        ]))),
        Answered::Measurements(parse(json!({
            "step_seconds": 10,
            "series": [
                {"metric": "files", "client": "client2", "state": "ingested", "mean": [9.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]},
                {"metric": "files", "client": "client2", "state": "held", "mean": [5.0]},
                {"metric": "batch_records", "client": "client2", "mean": [0.0, 100.0, null, 200.0]},
            ],
        }))),
    ]
}

/// A model of which everything was read.
fn model() -> Model {
    let mut model = Model::new(None, Duration::from_secs(5), (80, 24));
    model.polled(Polled { answers: answers(), ..Polled::default() }, now());
    model.connected();
    model.readiness(Some(parse(json!({"ready": true, "parts": [
        {"kind": "process", "name": "fetchdata", "condition": "ok", "text": "pid 1"},
        {"kind": "process", "name": "serve", "condition": "ok", "text": "pid 2"},
        {"kind": "connection", "name": "broker", "condition": "ok", "text": ""},
        {"kind": "connection", "name": "store", "condition": "ok", "text": ""},
    ]}))));
    model
}

fn event(kind: &str, data: &Value) -> Event {
    Event { id: "a-1".to_owned(), kind: kind.to_owned(), data: data.to_string() }
}

/// Tells the model that `name` of client2 is staged.
fn staged(model: &mut Model, name: &str) {
    let data = json!({"client": "client2", "name": name, "records": 3, "micro_batches": 1, "lane": "live"});
    model.happened(&event("staged", &data), now());
}

fn press(model: &mut Model, keys: &[KeyCode]) {
    for key in keys {
        model.key(KeyEvent::new(*key, KeyModifiers::NONE), now());
    }
}

fn type_text(model: &mut Model, text: &str) {
    press(model, &text.chars().map(KeyCode::Char).collect::<Vec<_>>());
}
