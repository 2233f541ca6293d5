//! `mysimbdp status`: shows which configured processes and connections are available, the files by state, the queue,
//! the running instances, and whether the files came that are expected.
//!
//! It works while everything is down: a part that cannot be read is reported, and does not prevent the others.

use mysimbdp_config::Config;
use mysimbdp_model::exit;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::notice::Notice;
use mysimbdp_query::arrivals;
use mysimbdp_query::files_by_state::{FilesByState, SetAsideFile, files_by_state, is_of_stuck_file};
use mysimbdp_query::snapshot::{self, Part, Snapshot};
use mysimbdp_stream_manager::control::StreamStatus;
use serde::Serialize;

use crate::commands::arrivals::ArrivalsShown;
use crate::commands::{health, stream};
use crate::error::CommandError;
use crate::output::{self, Foreign};
use crate::table;

#[derive(Debug, Serialize)]
struct Status {
    /// The processes, connections and streams.
    parts: Vec<Part>,
    #[serde(flatten)]
    files: FilesByState,
    /// `None` if no stream-manager runs or answers.
    streams: Option<Vec<StreamStatus>>,
    /// `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    arrivals: Option<ArrivalsShown>,
    notices: Vec<Notice>,
}

/// Prints the status. The exit code is 69 if something that the config requires is unavailable, and 75 if something
/// waits, or a file is stuck.
pub async fn run(config: &Config, json: bool) -> Result<(), CommandError> {
    let (Snapshot { parts, streams }, arrivals) =
        tokio::join!(snapshot::take(config), arrivals::overview(config));
    let arrivals = arrivals.map(ArrivalsShown::from);
    let mut files = files_by_state(config);
    let notices = std::mem::take(&mut files.notices);
    let status = Status { parts, files, streams, arrivals, notices };
    if json {
        output::print_json(&status)?;
    } else {
        print(&status);
    }
    let is_stuck = status.notices.iter().any(is_of_stuck_file);
    match health::exit_code(&status.parts).or(is_stuck.then_some(exit::TEMPORARY)) {
        None => Ok(()),
        Some(code) => Err(CommandError::without_message(code)),
    }
}

fn print(status: &Status) {
    health::print(&status.parts);
    for notice in &status.notices {
        println!("{} reports since {:.0}: {}", notice.process_name, notice.since, Foreign(&notice.text));
    }
    let rows = status.files.clients.iter().map(|(id, client)| {
        vec![
            if client.configured { id.clone() } else { format!("{id} (not configured)") },
            client.dropped.to_string(),
            client.staged.len().to_string(),
            client.held.len().to_string(),
            client.discarded.len().to_string(),
            client.archived.to_string(),
        ]
    });
    println!("{}", table::render(&["client", "dropped", "staged", "held", "discarded", "archived"], rows));
    for (id, client) in &status.files.clients {
        for file in &client.staged {
            println!(
                "staged    {id} {} {:?} {} of {} units",
                file.ingestion, file.file, file.units_done, file.micro_batches
            );
        }
        print_set_aside("held     ", id, &client.held);
        print_set_aside("discarded", id, &client.discarded);
    }
    print_set_aside("discarded", Layout::UNROUTED, &status.files.unrouted);
    match &status.streams {
        Some(streams) => println!("{}", stream::table(streams)),
        None => println!("no stream-manager is running, or it does not answer"),
    }
    if let Some(arrivals) = &status.arrivals {
        arrivals.print();
    }
}

fn print_set_aside(state: &str, client: &str, files: &[SetAsideFile]) {
    for file in files {
        let (id, reasons) = (Foreign(&file.id), file.reasons.join("; "));
        println!("{state} {client} {id} {:?}: {}", file.file, Foreign(&reasons));
    }
}
