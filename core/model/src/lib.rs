//! The types that all parts of the platform share. Nothing here performs I/O.
//!
//! In the order in which a file meets them:
//!
//! 1. [`client`]: the tenant that sent it;
//! 2. [`ingestion`]: its identity, and the `_id` of each of its records; [`source`] and [`ranges`]: the same for messages;
//! 3. [`layout`]: the directory that holds it, which is also its state;
//! 4. [`encoding`] and [`mod@column`]: how its bytes and its values are read; [`manifest`]: what it was split into;
//!    [`records`]: where its records begin and end; [`outcome`]: the result of each part; [`reason`]: why it was refused;
//!    [`rejects`]: how many of its records may be rejected;
//! 5. [`app`]: the contract with the client's own program;
//! 6. [`message`] and [`topic`]: the messages between the processes over MQTT.
//!
//! [`process_kind`]: the platform's processes; [`exit`]: their exit codes; [`error_kind`]: what can be done about an error;
//! [`units`]: sizes and periods, as people write them; [`window`]: sizes of windows over time; [`arrival`]: when which file is
//! expected.

pub mod app;
pub mod arrival;
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
pub mod window;

/// Formats an error as one line: its message and the chain of its causes, outermost first, joined by `: `.
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
