//! What all mysimbdp processes agree on, and the only doors to the outside.
//!
//! The vocabulary, in the order a file meets it:
//!
//! 1. [`client`]: who sent it; [`config`]: the rules that apply to it;
//! 2. [`ingestion`]: its identity, and the `_id` of each of its records; [`source`]: the same for messages, in [`ranges`],
//!    with [`gaps`];
//! 3. [`layout`]: where it lies, which is what has happened to it;
//! 4. [`encoding`] and [`mod@column`]: what its bytes and its values are; [`manifest`]: what it was split into, [`records`]: where its
//!    records lie; [`outcome`]: what became of each part, [`rejects`]: how many records may be rejected;
//!    [`replace`]: how a later run replaces what an earlier one has stored;
//! 5. [`app`]: what the client's own program is told and answers;
//! 6. [`message`] and [`topic`]: what the processes tell each other over MQTT;
//! 7. [`timing`] and [`logging`]: what the operator reads.
//!
//! [`failpoint`]: where a test can have a process die, between any two steps.
//!
//! Everything that has an effect (files, processes, broker, store, clock) is behind [`io`].

pub mod app;
pub mod client;
pub mod column;
pub mod config;
pub mod encoding;
pub mod exit;
pub mod failpoint;
pub mod gaps;
pub mod ingestion;
pub mod io;
pub mod layout;
pub mod logging;
pub mod manifest;
pub mod message;
pub mod outcome;
pub mod process_kind;
pub mod ranges;
pub mod reason;
pub mod records;
pub mod rejects;
pub mod replace;
pub mod source;
pub mod timing;
pub mod topic;
pub mod units;

/// An error as one line: its message and the chain of its causes, outermost first, joined by `: `.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
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
