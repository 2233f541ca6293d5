//! `mysimbdp tail`: prints what happens as it happens, one line for each event.

use std::io::{self, ErrorKind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use mysimbdp_model::exit;
use mysimbdp_platform::clock;
use mysimbdp_telemetry::logging;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::api_client::ApiClient;
use crate::args::Tail;
use crate::error::CommandError;
use crate::events::Event;
use crate::events::connection::{ConnectionEvent, ConnectionLoss, Next, listen};
use crate::events::sentence::Sentence;
use crate::output::{Foreign, Visible, print_line};
use crate::{local_time, signals};

/// How long the thread that listens may take to end.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Prints events until a signal, or until nobody reads them.
pub async fn run(api: ApiClient, args: Tail) -> Result<(), CommandError> {
    let mut shutdown = signals::shutdown()?;
    let (ended, mut end) = oneshot::channel();
    let (stop, stopped): (Sender<()>, _) = channel();
    let listener = api.clone();
    std::thread::spawn(move || {
        // It fails if nobody waits for the end any more.
        let _ = ended.send(print_events(&listener, &args, &stopped));
    });
    tokio::select! {
        result = &mut end => result.unwrap_or(Ok(())),
        _ = shutdown.wait_for(|stop| *stop) => {
            drop(stop);
            api.shutdown();
            // A reader that does not read keeps it; it then ends with the process.
            let _ = timeout(END_WITHIN, end).await;
            Ok(())
        }
    }
}

fn print_events(api: &ApiClient, args: &Tail, stop: &Receiver<()>) -> Result<(), CommandError> {
    let mut printer = Printer { as_json: args.json, connection: Connection::Never };
    let mut result = Ok(());
    listen(api, args.client.as_ref(), stop, |event| match printer.print(event) {
        Ok(()) => Next::Listen,
        Err(end) => {
            result = end;
            Next::Stop
        }
    });
    result
}

#[derive(Debug, PartialEq, Eq)]
enum Connection {
    /// There has not been one yet.
    Never,
    Here,
    Lost,
}

struct Printer {
    as_json: bool,
    connection: Connection,
}

impl Printer {
    /// Prints what has happened to the connection, or came over it. An error is the result of the command.
    fn print(&mut self, event: ConnectionEvent) -> Result<(), Result<(), CommandError>> {
        match event {
            ConnectionEvent::Connected => {
                match self.connection {
                    Connection::Lost => eprintln!("mysimbdp: connected again"),
                    Connection::Never | Connection::Here => eprintln!("mysimbdp: connected, events follow"),
                }
                self.connection = Connection::Here;
                Ok(())
            }
            ConnectionEvent::Event(event) => print_line(&self.line(&event)).map_err(|error| end(&error)),
            ConnectionEvent::Lost(ConnectionLoss { error, is_refusal }) => {
                if is_refusal || self.connection == Connection::Never {
                    return Err(Err(error));
                }
                if self.connection == Connection::Here {
                    eprintln!("mysimbdp: {}; connecting again", Foreign(&error.to_string()));
                }
                self.connection = Connection::Lost;
                Ok(())
            }
        }
    }

    fn line(&self, event: &Event) -> String {
        match self.as_json {
            true => json_line(event),
            false => line(&local_time::of(clock::now()), event),
        }
    }
}

/// The result of the command when a line cannot be written. A reader that has left has what it wanted.
fn end(error: &io::Error) -> Result<(), CommandError> {
    match error.kind() {
        ErrorKind::BrokenPipe => Ok(()),
        _ => Err(CommandError::new(exit::IO, format!("cannot write to stdout: {error}"))),
    }
}

fn line(time: &str, event: &Event) -> String {
    let sentence = Sentence::of(event);
    let client = Visible(sentence.client.as_deref().unwrap_or("-")).to_string();
    let text = sentence.with_subject();
    format!("{time} {client:<10} {:<9} {}", Visible(&event.kind).to_string(), Visible(&text))
}

/// The event as it came: its data is not interpreted, if it is JSON at all.
fn json_line(event: &Event) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let data = match serde_json::from_str::<&serde_json::value::RawValue>(&event.data) {
        Ok(data) => data.get().to_owned(),
        Err(_) => text(&event.data),
    };
    let line = format!("{{\"id\":{},\"event\":{},\"data\":{data}}}", text(&event.id), text(&event.kind));
    // JSON has line breaks only between its tokens.
    logging::escape_controls_in_json(&line.replace(['\n', '\r'], " ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> Event {
        Event { id: "5f1d-17".to_owned(), kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn an_event_is_one_line_whatever_a_name_contains() {
        let data = r#"{"client":"client2","name":"a\n\u001b[2J\u202e\u200b<b>.csv","reasons":["no"]}"#;
        let line = line("14:03:22", &event("held", data));
        assert_eq!(line, r"14:03:22 client2    held      a\n\u{1b}[2J\u{202e}\u{200b}<b>.csv: no");
    }

    #[test]
    fn json_is_as_it_came_on_one_line_with_id_and_kind() {
        let data = "{\"n\":1.50,\n \"name\":\"a\u{202e}\u{9b}b\"}";
        let expected = r#"{"id":"5f1d-17","event":"held","data":{"n":1.50,  "name":"a\u202e\u009bb"}}"#;
        assert_eq!(json_line(&event("held", data)), expected);
        assert_eq!(json_line(&event("x", "no")), r#"{"id":"5f1d-17","event":"x","data":"no"}"#);
    }
}
