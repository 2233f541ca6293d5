//! `mysimbdp start`, `stop`, `list`, `scale`: what a running stream-manager is told.

use std::time::Duration;

use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::Config;
use mysimbdp_core::exit;
use mysimbdp_stream_manager::control::client::{self, ControlError};
use mysimbdp_stream_manager::control::{Answer, Command, Request, Scale, StreamStatus};

use crate::args::StreamCommand;
use crate::error::Failure;
use crate::{output, table};

/// Draining takes as long as the broker still delivers; most of a large backlog goes within this time.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A status shall be there while a manager that is out of something, or hangs, is not.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

pub async fn run(config: &Config, command: StreamCommand) -> Result<(), Failure> {
    let mut as_json = false;
    let command = match command {
        StreamCommand::Start { client, pid, stream } => Command::Start { client, pid, stream },
        StreamCommand::Stop { client, pid, forget } => Command::Stop { client, pid, forget },
        StreamCommand::Scale { client, instances, stream } => {
            let instances = instances.parse::<Scale>().map_err(|error| Failure::of(exit::USAGE, &error))?;
            Command::Scale { client, stream, instances }
        }
        StreamCommand::List { client, json } => {
            as_json = json;
            Command::List { client }
        }
    };
    match ask(config, command).await? {
        // The pid alone, for scripts.
        Answer::Started { pid, .. } => println!("{pid}"),
        Answer::Stopped { pid, end, .. } => println!("{pid} {end}"),
        Answer::Draining { pid, .. } => println!("{pid} is draining"),
        Answer::Scaled { client, stream, wanted, pinned } => {
            let by = if pinned { "pinned" } else { "decided by its policy" };
            println!("stream {stream} of {client} has {wanted} instances, {by}");
        }
        Answer::Listed { streams } if as_json => {
            output::print_json(&instances(&streams))?;
        }
        Answer::Listed { streams } => println!("{}", instance_table(&streams)),
    }
    Ok(())
}

/// Asks the manager of this data root.
pub async fn ask(config: &Config, command: Command) -> Result<Answer, Failure> {
    let failure = |error: ControlError| Failure::of(error.exit_code(), &error);
    client::request(&config.layout, &Request::new(command, TIMEOUT), TIMEOUT).await.map_err(failure)
}

/// All streams with their instances, or `None` where no manager runs or answers.
pub async fn streams(config: &Config, client: Option<ClientId>) -> Option<Vec<StreamStatus>> {
    match tokio::time::timeout(LOOK_WITHIN, ask(config, Command::List { client })).await {
        Ok(Ok(Answer::Listed { streams })) => Some(streams),
        _ => None,
    }
}

/// One object an instance, each with its client and stream.
fn instances(streams: &[StreamStatus]) -> Vec<serde_json::Value> {
    let of = |stream: &StreamStatus| {
        let (client, name) = (stream.client.to_string(), stream.stream.clone());
        let described = stream.instances.iter().map(move |instance| {
            let mut described = serde_json::json!({"client": client, "stream": name});
            if let (Some(object), Ok(serde_json::Value::Object(fields))) =
                (described.as_object_mut(), serde_json::to_value(instance))
            {
                object.extend(fields);
            }
            described
        });
        described.collect::<Vec<_>>()
    };
    streams.iter().flat_map(of).collect()
}

pub fn instance_table(streams: &[StreamStatus]) -> String {
    let header =
        ["client", "stream", "slot", "pid", "state", "uptime s", "messages", "msg/s", "mean s", "restarts"];
    let rows = streams.iter().flat_map(|stream| {
        stream.instances.iter().map(|instance| {
            let or_dash =
                |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            vec![
                stream.client.to_string(),
                stream.stream.clone(),
                instance.slot.to_string(),
                or_dash(instance.pid.map(u64::from)),
                instance.state.clone(),
                or_dash(instance.uptime_seconds),
                instance.messages.to_string(),
                format!("{:.0}", instance.messages_per_second),
                format!("{:.4}", instance.average_processing_seconds),
                instance.restarts.to_string(),
            ]
        })
    });
    table::render(&header, rows)
}
