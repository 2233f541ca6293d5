//! Reference stream app: stores MQTT messages as documents.
//!
//! The SDK implements the contract; this app only converts a message to a document.

use std::process::ExitCode;

use clap::Parser;
use mysimbdp_sdk::Rejection;
use mysimbdp_sdk::record::{Fields, check_name};
use mysimbdp_sdk::stream::{self, Message};

/// `EX_USAGE` of `sysexits.h`.
const USAGE: u8 = 64;

/// Stores each message, a JSON object, as a document.
#[derive(Clone, Debug, Parser)]
#[command(name = "stream-app", version)]
struct Arguments {
    /// Name of an additional field for the message's topic.
    #[arg(long, value_parser = field_name)]
    topic_field: Option<String>,
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(Arguments { topic_field }) => stream::run(&move |message: &Message, fields: &mut Fields| {
            stream::from_json(message, fields)?;
            topic_field.as_deref().map_or(Ok(()), |name| add_topic(name, message, fields))
        }),
        Err(error) => {
            // Nothing can be done if even this cannot be printed.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

fn add_topic(name: &str, message: &Message, fields: &mut Fields) -> Result<(), Rejection> {
    if fields.get(name).is_some() {
        return Err(
            format!("message already has the field {name:?}, which is configured for its topic").into()
        );
    }
    fields.string(name, &message.topic);
    Ok(())
}

fn field_name(name: &str) -> Result<String, Rejection> {
    check_name(name)?;
    if name.is_empty() { Err("expected at least one character".into()) } else { Ok(name.to_owned()) }
}
