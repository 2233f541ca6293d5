//! `mysimbdp start`, `stop`, `list`, `scale`: commands for a running stream-manager.

use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_stream_manager::control::client;
use mysimbdp_stream_manager::control::{Answer, ControlCommand, InstanceStatus, Scale, StreamStatus};
use serde_json::{Value, json};

use crate::args::StreamCommand;
use crate::error::CommandError;
use crate::output;
use crate::table::render;

pub async fn run(config: &Config, command: StreamCommand) -> Result<(), CommandError> {
    let mut as_json = false;
    let command = match command {
        StreamCommand::Start { client, pid, stream } => ControlCommand::Start { client, pid, stream },
        StreamCommand::Stop { client, pid, forget } => ControlCommand::Stop { client, pid, forget },
        StreamCommand::Scale { client, instances, stream } => {
            let instances =
                instances.parse::<Scale>().map_err(|error| CommandError::of(exit::USAGE, &error))?;
            ControlCommand::Scale { client, stream, instances }
        }
        StreamCommand::List { client, json } => {
            as_json = json;
            ControlCommand::List { client }
        }
    };
    match client::ask(&config.layout, command).await? {
        // Only the pid is on stdout, for scripts; the rest is for people.
        Answer::Started { client, stream, pid, manual_number, .. } => {
            println!("{pid}");
            report_manual_override(&client, &stream, manual_number);
        }
        Answer::Stopped { client, stream, pid, end, manual_number, .. } => {
            println!("{pid} {end}");
            report_manual_override(&client, &stream, manual_number);
        }
        Answer::Draining { pid, .. } => println!("{pid} is draining"),
        Answer::Scaled { client, stream, desired, is_manual } => {
            let by = if is_manual { "by manual override" } else { "decided by its policy" };
            println!("stream {stream} of {client} has {desired} instances, {by}");
        }
        Answer::Listed { streams } if as_json => {
            output::print_json(&instances(&streams))?;
        }
        Answer::Listed { streams } => println!("{}", table(&streams)),
    }
    Ok(())
}

/// Reports a manual override: it takes precedence over the policy until `scale … auto`.
fn report_manual_override(client: &ClientId, stream: &str, manual_number: Option<u32>) {
    if let Some(desired) = manual_number {
        eprintln!(
            "autoscaling of stream {stream} of {client} is off, it keeps {desired} instances; \
             `mysimbdp scale {client} auto --stream {stream}` switches it on again"
        );
    }
}

/// Returns one object for each instance, with its client and stream, and one for each stream without instances.
fn instances(streams: &[StreamStatus]) -> Vec<serde_json::Value> {
    let of = |stream: &StreamStatus| {
        let described = json!({
            "client": stream.client, "stream": stream.stream, "wanted": stream.desired, "pinned": stream.is_manual,
            "waits_for": stream.waits_for,
        });
        let with = |instance: Value| match (described.clone(), instance) {
            (Value::Object(mut object), Value::Object(fields)) => {
                object.extend(fields);
                Value::Object(object)
            }
            (described, _) => described,
        };
        let instances = stream.instances.iter().filter_map(|instance| serde_json::to_value(instance).ok());
        let mut described: Vec<Value> = instances.map(with).collect();
        if described.is_empty() {
            described.push(with(json!({"slot": null, "pid": null, "state": "none"})));
        }
        described
    };
    streams.iter().flat_map(of).collect()
}

/// Renders one row for each instance, and one for each stream without instances.
pub fn table(streams: &[StreamStatus]) -> String {
    let header = [
        "client",
        "stream",
        "desired",
        "slot",
        "pid",
        "state",
        "uptime s",
        "reported s ago",
        "messages",
        "msg/s",
        "mean s",
        "backlog",
        "rejected",
        "restarts",
    ];
    render(&header, streams.iter().flat_map(rows))
}

fn rows(stream: &StreamStatus) -> Vec<Vec<String>> {
    let desired =
        if stream.is_manual { format!("{} manual", stream.desired) } else { stream.desired.to_string() };
    let begin = || vec![stream.client.to_string(), stream.stream.clone(), desired.clone()];
    if stream.instances.is_empty() {
        let state =
            stream.waits_for.as_ref().map_or_else(|| "none".to_owned(), |why| format!("waits: {why}"));
        let mut row = begin();
        row.extend([dash(), dash(), state]);
        row.extend(std::iter::repeat_with(dash).take(8));
        return vec![row];
    }
    let number = |number: Option<u64>| number.map_or_else(dash, |number| number.to_string());
    let row = |instance: &InstanceStatus| {
        let state = match instance.silent_seconds {
            Some(_) => format!("{}, unhealthy", instance.state),
            None => instance.state.clone(),
        };
        let mut row = begin();
        row.extend([
            instance.slot.to_string(),
            number(instance.pid.map(u64::from)),
            state,
            number(instance.uptime_seconds),
            number(instance.reported_seconds_ago),
            instance.messages.to_string(),
            format!("{:.0}", instance.messages_per_second),
            format!("{:.4}", instance.average_processing_seconds),
            instance.backlog.to_string(),
            instance.rejected.to_string(),
            instance.restarts.to_string(),
        ]);
        row
    };
    stream.instances.iter().map(row).collect()
}

fn dash() -> String {
    "-".to_owned()
}
