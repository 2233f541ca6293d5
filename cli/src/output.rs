//! Prints the output of all commands.
//!
//! What clients and their apps write (file names, reasons, the last lines of their stderr) reaches an operator's
//! terminal through this command. So this crate's `println!` and `eprintln!` are not those of the standard library:
//! they escape everything that could control a terminal, in any argument. Text from outside that is part of a line is
//! also wrapped in [`Foreign`], so that it cannot begin a line of its own.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use mysimbdp_model::exit;
use mysimbdp_telemetry::logging;
use serde::Serialize;

use crate::error::CommandError;

macro_rules! println {
    ($($argument:tt)*) => {
        $crate::output::print(std::io::stdout(), format_args!($($argument)*))
    };
}

macro_rules! eprintln {
    ($($argument:tt)*) => {
        $crate::output::print(std::io::stderr(), format_args!($($argument)*))
    };
}

/// Text from a client or an app that is printed as part of a line.
#[derive(Clone, Copy, Debug)]
pub struct Foreign<'a>(pub &'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&logging::one_line(self.0))
    }
}

/// Text from outside that is shown in a list of its kind: as [`Foreign`], and characters of which nothing is seen are escaped too.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a>(pub &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&logging::visible(self.0))
    }
}

/// Returns the number with its noun: `1 file`, `2 files`.
pub fn files(count: u64) -> String {
    format!("{count} {}", if count == 1 { "file" } else { "files" })
}

/// Called by `println!` and `eprintln!`. A closed stdout or stderr is ignored: it must not change the exit code.
pub fn print(to: impl Write, text: fmt::Arguments<'_>) {
    write(to, &logging::escape_controls(&text.to_string()));
}

/// Prints one line to stdout, for a reader that may have left.
///
/// # Errors
///
/// The line cannot be written.
pub fn print_line(line: &str) -> io::Result<()> {
    let mut to = io::stdout().lock();
    to.write_all(format!("{}\n", logging::one_line(line)).as_bytes())?;
    to.flush()
}

/// Prints the value as JSON.
///
/// # Errors
///
/// The value cannot be represented as JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), CommandError> {
    let json =
        serde_json::to_string_pretty(value).map_err(|error| CommandError::of(exit::SOFTWARE, &error))?;
    write(io::stdout(), &logging::escape_controls_in_json(&json));
    Ok(())
}

/// Prints a client's bytes, unchanged to a file or a pipe. On a terminal they are escaped like all other output.
///
/// # Errors
///
/// The bytes cannot be written: an incomplete export must not be taken for a complete one.
pub fn print_content(parts: &[&[u8]]) -> Result<(), CommandError> {
    let mut to = io::stdout().lock();
    let is_terminal = to.is_terminal();
    let mut print = |part: &[u8]| match is_terminal {
        true => to.write_all(logging::escape_controls(&String::from_utf8_lossy(part)).as_bytes()),
        false => to.write_all(part),
    };
    let printed = parts.iter().try_for_each(|part| print(part));
    printed.map_err(|error| CommandError::new(exit::IO, format!("cannot write to stdout: {error}")))
}

fn write(mut to: impl Write, text: &str) {
    let _ = to.write_all(format!("{text}\n").as_bytes());
    let _ = to.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL_SEQUENCE: &str = "\u{1b}]0;x\u{7}\r\u{9b}2J\u{85}\u{202e}\u{2066}";

    #[test]
    fn printed_text_cannot_control_a_terminal() {
        let mut printed = Vec::new();
        print(
            &mut printed,
            format_args!("one {CONTROL_SEQUENCE}\ntwo {}\tend", Foreign(&format!("a\n{CONTROL_SEQUENCE}"))),
        );
        let printed = String::from_utf8(printed).expect("text");
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines.len(), 2, "{printed:?}");
        assert!(lines[1].starts_with("two a\\n\\u{1b}]0;x"), "{printed:?}");
        let raw = |letter: &char| {
            *letter != '\n' && letter.is_control() || ['\u{202e}', '\u{2066}'].contains(letter)
        };
        assert_eq!(printed.chars().find(raw), None, "{printed:?}");
    }
}
