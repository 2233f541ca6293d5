//! Lines as messages: NDJSON from stdin, or from a growing file.
//!
//! A line is sent unchanged; the platform checks whether it is valid JSON and passes validation. Empty lines are skipped.

mod durable;
mod file_position;
mod follow;
mod lines;
mod stdin;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_platform::files::FileError;

use crate::message::{Position, SourceMessage};
use follow::Follow;
use lines::{LineEnd, Lines, TooLong};
use stdin::StdinReader;

/// Why reading lines failed.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(
        "line {} of {input}, at byte {}, is longer than a message may be",
        line.line,
        line.offset
    )]
    TooLong { line: TooLong, input: String },
    #[error("cannot follow {}: not a regular file", path.display())]
    NotARegularFile { path: PathBuf },
    #[error(
        "cannot follow {}: the messages in this outbox do not come from a followed file",
        path.display()
    )]
    Position { path: PathBuf },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot read stdin")]
    Stdin(#[source] io::Error),
}

impl InputError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLong { .. } => ErrorKind::InvalidData,
            Self::NotARegularFile { .. } => ErrorKind::NotFound,
            Self::Position { .. } => ErrorKind::InvalidRequest,
            Self::File(_) | Self::Stdin(_) => ErrorKind::Io,
        }
    }
}

/// A source of lines.
#[derive(Debug)]
pub struct LineInput(Kind);

#[derive(Debug)]
enum Kind {
    Stdin { stdin: StdinReader, lines: Lines, ended: bool },
    Follow(Box<Follow>),
}

impl LineInput {
    /// Lines of at most `bytes_max` bytes from stdin. They have no position: lines that have been read but not
    /// accepted when the process is killed are lost.
    ///
    /// # Errors
    ///
    /// The thread that reads stdin cannot be started.
    pub fn stdin(bytes_max: usize) -> Result<Self, InputError> {
        let stdin = StdinReader::open().map_err(InputError::Stdin)?;
        Ok(Self(Kind::Stdin { stdin, lines: Lines::after(LineEnd::default(), bytes_max), ended: false }))
    }

    /// Lines of at most `bytes_max` bytes from a growing file, which may be rotated or truncated meanwhile. Reading starts
    /// at `position`, which is [`crate::Edge::position`]; if that is empty, at the beginning.
    ///
    /// # Errors
    ///
    /// The position was written by another kind of producer.
    pub fn follow(path: &Path, position: &Position, bytes_max: usize) -> Result<Self, InputError> {
        Follow::open(path, position, bytes_max).map(|follow| Self(Kind::Follow(Box::new(follow))))
    }

    /// Returns the next lines, at least one, or `None` at the end; a followed file has no end. Lines of a followed file are
    /// durable in that file, whether its writer has synced them or not: the position after them survives a power cut.
    ///
    /// # Errors
    ///
    /// A line is too long, or the input cannot be read. All lines before it have been returned.
    pub async fn next(&mut self) -> Result<Option<Vec<SourceMessage>>, InputError> {
        let (stdin, lines, ended) = match &mut self.0 {
            Kind::Stdin { stdin, lines, ended } => (stdin, lines, ended),
            Kind::Follow(follow) => return follow.next().await.map(Some),
        };
        loop {
            let mut messages = Vec::new();
            loop {
                match lines.next() {
                    Ok(Some(line)) => messages.push(SourceMessage::from(line.payload)),
                    Ok(None) => break,
                    // First the lines before it; the next call finds the long line again.
                    Err(_) if !messages.is_empty() => return Ok(Some(messages)),
                    Err(line) => return Err(InputError::TooLong { line, input: "stdin".to_owned() }),
                }
            }
            if *ended {
                messages.extend(lines.remainder().map(|line| SourceMessage::from(line.payload)));
            }
            if *ended || !messages.is_empty() {
                return Ok(Some(messages).filter(|messages| !messages.is_empty()));
            }
            let bytes = stdin.read().await.map_err(InputError::Stdin)?;
            *ended = bytes.is_empty();
            lines.push(&bytes);
        }
    }
}
