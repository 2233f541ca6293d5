//! What all parts of the platform name alike; no effects.
//!
//! In the order a file meets it:
//!
//! 1. [`client`]: who sent it;
//! 2. [`ingestion`]: its identity, and the `_id` of each of its records; [`source`]: the same for messages, in [`ranges`];
//! 3. [`layout`]: where it lies, which is what has happened to it;
//! 4. [`encoding`] and [`mod@column`]: what its bytes and its values are; [`manifest`]: what it was split into, [`records`]: where its
//!    records lie; [`outcome`]: what became of each part, [`reason`]: why it was refused, [`rejects`]: how many records may be;
//! 5. [`app`]: what the client's own program is told and answers;
//! 6. [`message`] and [`topic`]: what the processes tell each other over MQTT.
//!
//! [`process_kind`]: which processes there are, [`exit`]: how they end; [`error_kind`]: what can be done about an error; [`units`]: sizes and periods, as people write them.

pub mod app;
pub mod client;
pub mod column;
pub mod encoding;
pub mod error_kind;
pub mod exit;
pub mod ingestion;
pub mod layout;
pub mod manifest;
pub mod message;
pub mod outcome;
pub mod process_kind;
pub mod ranges;
pub mod reason;
pub mod records;
pub mod rejects;
pub mod source;
pub mod topic;
pub mod units;

/// An error as one line: its message and the chain of its causes, outermost first, joined by `: `.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Many libraries already repeat their cause in their own message.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}
