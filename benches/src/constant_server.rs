//! A server that answers the same bytes to everything: what bounds every other one. A process of its own.

use std::io::{BufRead, BufReader};
use std::process::Child;

use axum::Router;
use axum::http::{HeaderValue, header};
use bytes::Bytes;
use tokio::net::TcpListener;

use crate::failure::{BenchError, Result};

/// Prints its address, and answers `body` without end.
///
/// # Errors
///
/// It cannot listen.
pub async fn run(body: &str) -> Result<()> {
    let body = Bytes::from(body.to_owned());
    let answer = move || {
        let body = body.clone();
        async move { ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body) }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(BenchError::of("listen"))?;
    println!("{}", listener.local_addr().map_err(BenchError::of("listen"))?);
    axum::serve(listener, Router::new().fallback(answer)).await.map_err(BenchError::of("serve a constant"))
}

/// The address that such a process has printed.
///
/// # Errors
///
/// It has ended before.
pub fn address(process: &mut Child) -> Result<String> {
    let mut line = String::new();
    if let Some(output) = process.stdout.as_mut() {
        BufReader::new(output)
            .read_line(&mut line)
            .map_err(BenchError::of("read the address of a server"))?;
    }
    match line.trim_end() {
        "" => Err(BenchError::new("a server that answers a constant has ended")),
        address => Ok(address.to_owned()),
    }
}
