//! Lines as messages: NDJSON from stdin, or from a file that grows.
//!
//! A line is a message as it is; whether it is JSON, and fits, the platform judges. Empty lines are skipped.

mod durable;
mod follow;
mod lines;
mod place;
mod stdin;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use mysimbdp_model::error_kind::ErrorKind;
use mysimbdp_platform::files::FileError;

use crate::message::{Message, Position};
use follow::Follow;
use lines::{End, Lines, TooLong};
use stdin::Stdin;

/// Why there are no more lines.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error(
        "line {} of {input}, at byte {}, is longer than a message may be",
        line.line,
        line.offset
    )]
    TooLong { line: TooLong, input: String },
    #[error("{} is no regular file, so it cannot be followed", path.display())]
    NoFile { path: PathBuf },
    #[error(
        "cannot follow {}: the messages in this outbox come from something else than a followed file",
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
            Self::NoFile { .. } => ErrorKind::NotFound,
            Self::Position { .. } => ErrorKind::InvalidRequest,
            Self::File(_) | Self::Stdin(_) => ErrorKind::Io,
        }
    }
}

/// Where lines come from.
#[derive(Debug)]
pub struct Input(Kind);

#[derive(Debug)]
enum Kind {
    Stdin { stdin: Stdin, lines: Lines, ended: bool },
    Follow(Box<Follow>),
}

impl Input {
    /// Lines of at most `bytes_max` bytes from stdin. They have no position: what has been read and not accepted when
    /// the process is killed is lost.
    ///
    /// # Errors
    ///
    /// There is no thread more to be had.
    pub fn stdin(bytes_max: usize) -> Result<Self, InputError> {
        let stdin = Stdin::open().map_err(InputError::Stdin)?;
        Ok(Self(Kind::Stdin { stdin, lines: Lines::after(End::default(), bytes_max), ended: false }))
    }

    /// Lines of at most `bytes_max` bytes from a file that grows, which may be put aside or emptied meanwhile. It is read
    /// from `position` on, which is [`crate::Edge::position`]; an empty one is the beginning.
    ///
    /// # Errors
    ///
    /// The position is another producer's.
    pub fn follow(path: &Path, position: &Position, bytes_max: usize) -> Result<Self, InputError> {
        Follow::open(path, position, bytes_max).map(|follow| Self(Kind::Follow(Box::new(follow))))
    }

    /// The next lines, at least one; `None` at the end, which a followed file never has. Lines of a followed file are on disk
    /// there, whether its writer has synced them or not: the position after them outlives a power cut.
    ///
    /// # Errors
    ///
    /// A line is too long, or the input cannot be read. The lines before have been given.
    pub async fn next(&mut self) -> Result<Option<Vec<Message>>, InputError> {
        let (stdin, lines, ended) = match &mut self.0 {
            Kind::Stdin { stdin, lines, ended } => (stdin, lines, ended),
            Kind::Follow(follow) => return follow.next().await.map(Some),
        };
        loop {
            let mut messages = Vec::new();
            loop {
                match lines.next() {
                    Ok(Some(line)) => messages.push(Message::from(line.payload)),
                    Ok(None) => break,
                    // Those before it first; it is found again.
                    Err(_) if !messages.is_empty() => return Ok(Some(messages)),
                    Err(line) => return Err(InputError::TooLong { line, input: "stdin".to_owned() }),
                }
            }
            if *ended {
                messages.extend(lines.rest().map(|line| Message::from(line.payload)));
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
