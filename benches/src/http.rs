//! A client of HTTP/1.1 that costs little: one connection, one request after the other.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::failure::{BenchError, Result};

/// What takes longer does not end.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

/// A connection to an HTTP server.
#[derive(Debug)]
pub struct HttpConnection {
    stream: BufReader<TcpStream>,
    host: String,
}

/// An answer with its whole body.
#[derive(Debug)]
pub struct HttpAnswer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// What the head says about the body.
#[derive(Debug, Default)]
struct Head {
    status: u16,
    length: usize,
    is_chunked: bool,
}

impl HttpConnection {
    /// # Errors
    ///
    /// Nobody listens on `host:port`.
    pub async fn open(host: &str) -> Result<Self> {
        let stream = TcpStream::connect(host).await.map_err(BenchError::of(format!("connect to {host}")))?;
        stream.set_nodelay(true).map_err(BenchError::of("set an option of a connection"))?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), host: host.to_owned() })
    }

    /// Asks for `path` and reads the whole answer.
    ///
    /// # Errors
    ///
    /// The connection breaks off, or the answer is not there in time.
    pub async fn get(&mut self, path: &str, media_type: &str) -> Result<HttpAnswer> {
        let answer = timeout(ANSWERED_WITHIN, async {
            let head = self.ask(path, media_type).await?;
            let mut body = Vec::with_capacity(head.length);
            if head.is_chunked {
                self.read_chunks(&mut body).await?;
            } else {
                self.read(head.length, &mut body).await?;
            }
            Ok(HttpAnswer { status: head.status, body })
        });
        answer.await.map_err(BenchError::of(format!("wait for {path}")))?
    }

    /// Asks for `path`, and returns the connection once an answer with status 200 begins.
    ///
    /// # Errors
    ///
    /// The connection breaks off, or the answer has another status.
    pub async fn listen(mut self, path: &str) -> Result<BufReader<TcpStream>> {
        match self.ask(path, "text/event-stream").await?.status {
            200 => Ok(self.stream),
            status => Err(BenchError::new(format!("{path} was answered with {status}"))),
        }
    }

    async fn ask(&mut self, path: &str, media_type: &str) -> Result<Head> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: {media_type}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes()).await.map_err(BenchError::of("send a request"))?;
        let mut head = Head::default();
        let mut line = String::new();
        loop {
            line.clear();
            self.line(&mut line).await?;
            let text = line.trim_end();
            if let Some(status) = text.strip_prefix("HTTP/1.1 ") {
                head.status = status.get(..3).and_then(|code| code.parse().ok()).unwrap_or_default();
            } else if let Some((name, value)) = text.split_once(": ") {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => {
                        head.length = value.parse().map_err(BenchError::of("read a length"))?
                    }
                    "transfer-encoding" => head.is_chunked = value == "chunked",
                    _ => {}
                }
            } else if text.is_empty() {
                return Ok(head);
            }
        }
    }

    async fn read_chunks(&mut self, body: &mut Vec<u8>) -> Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            self.line(&mut line).await?;
            let length = usize::from_str_radix(line.trim_end(), 16)
                .map_err(BenchError::of("read the length of a chunk"))?;
            self.read(length, body).await?;
            line.clear();
            self.line(&mut line).await?;
            if length == 0 {
                return Ok(());
            }
        }
    }

    async fn read(&mut self, length: usize, body: &mut Vec<u8>) -> Result<()> {
        let begin = body.len();
        body.resize(begin + length, 0);
        let read = self.stream.read_exact(&mut body[begin..]).await;
        read.map(drop).map_err(BenchError::of("read a body"))
    }

    async fn line(&mut self, line: &mut String) -> Result<()> {
        match self.stream.read_line(line).await.map_err(BenchError::of("read an answer"))? {
            0 => Err(BenchError::new("the server has ended the connection")),
            _ => Ok(()),
        }
    }
}
