//! The pipes of a child. They end with the child, even if a process that it left behind keeps them open.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::{Errno, ioctl_fionread};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// stdout or stderr of a child.
///
/// Everything that the child has written is read, to the last byte. What is written after the child and its descendants
/// have been cleaned up is not.
#[derive(Debug)]
pub struct OutputPipe {
    pipe: pipe::Receiver,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The child is running, or processes that it left behind may still write. Resolves when neither is the case any more.
    Open(oneshot::Receiver<()>),
    /// The child has ended; `left` bytes that were in the pipe then are still to be read.
    Ended { left: u64 },
}

/// stdin of a child. When the child has ended, writing fails as it does for any pipe without a reader.
#[derive(Debug)]
pub struct InputPipe {
    pipe: pipe::Sender,
    ended: Option<oneshot::Receiver<()>>,
}

impl OutputPipe {
    /// `ended` resolves when its sender is dropped.
    pub(super) fn new(pipe: OwnedFd, ended: oneshot::Receiver<()>) -> io::Result<Self> {
        Ok(Self { pipe: pipe::Receiver::from_owned_fd(pipe)?, state: State::Open(ended) })
    }
}

impl AsyncRead for OutputPipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { pipe, state } = self.get_mut();
        if let State::Open(ended) = state
            && Pin::new(ended).poll(cx).is_ready()
        {
            *state = State::Ended { left: ioctl_fionread(&*pipe)? };
        }
        let State::Ended { left } = state else { return Pin::new(pipe).poll_read(cx, buffer) };
        if *left == 0 {
            return Poll::Ready(Ok(()));
        }
        // Read directly, because these bytes are available: if the runtime made the read yield first, it would look like the end.
        let length = buffer.remaining().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let read = loop {
            match rustix::io::read(&*pipe, &mut *buffer.initialize_unfilled_to(length)) {
                Err(Errno::INTR) => {}
                // Another process has read the remaining bytes.
                Err(Errno::AGAIN) => break 0,
                read => break read?,
            }
        };
        *left = if read == 0 { 0 } else { *left - read as u64 };
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl InputPipe {
    pub(super) fn new(pipe: OwnedFd, ended: oneshot::Receiver<()>) -> io::Result<Self> {
        Ok(Self { pipe: pipe::Sender::from_owned_fd(pipe)?, ended: Some(ended) })
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(ended) = &mut self.ended {
            let _ = ready!(Pin::new(ended).poll(cx));
            self.ended = None;
        }
        Poll::Ready(())
    }
}

impl AsyncWrite for InputPipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.poll_ended(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
