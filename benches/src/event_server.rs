//! The server of a case about events, as a process of its own, so that its memory can be measured.
//!
//! It prints its address. Each line of its stdin, `<events per second> <seconds>`, makes it publish, and print how many events
//! it has published. It ends with its stdin.

use std::io::BufRead;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mysimbdp_config::Config;
use mysimbdp_serving::bench;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::failure::{BenchError, Result};

/// The platform's server, and one that only writes the same bytes.
pub const PLATFORM: &str = "platform";
pub const PLAIN: &str = "plain";

/// What is in front of the time of publication, in nanoseconds since 1970.
pub const PUBLISHED_AT: &[u8] = b"\"at\":";

/// How often the plain server writes, as the platform's does.
const WRITE_EVERY: Duration = Duration::from_millis(20);

/// As long as an event about a file.
#[derive(Clone, Debug, Serialize)]
struct PublishedEvent {
    at: u64,
    number: u64,
    file: String,
}

/// # Errors
///
/// The config cannot be read, or the address is taken.
pub async fn run(kind: &str, config: &Path) -> Result<()> {
    match kind {
        PLATFORM => platform(config).await,
        _ => plain().await,
    }
}

async fn platform(config: &Path) -> Result<()> {
    let config = Config::load(config, |_| None).map_err(|faults| BenchError::new(faults.to_string()))?;
    let begin = |url: String, publisher: bench::EventPublisher| {
        println!("{}", url.trim_start_matches("http://"));
        std::thread::spawn(move || obey(|event| publisher.publish(Some("client1"), event)));
    };
    bench::serve(config, begin).await.map_err(BenchError::of("serve events"))
}

async fn plain() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(BenchError::of("listen"))?;
    println!("{}", listener.local_addr().map_err(BenchError::of("listen"))?);
    let pending = Arc::new(Mutex::new(Vec::new()));
    let publishing = Arc::clone(&pending);
    std::thread::spawn(move || {
        obey(|event| {
            let mut pending = publishing.lock().unwrap_or_else(PoisonError::into_inner);
            pending.extend_from_slice(b"data: ");
            // Writing to memory cannot fail.
            let _ = serde_json::to_writer(&mut *pending, event);
            pending.extend_from_slice(b"\n\n");
        });
    });
    let mut listeners: Vec<TcpStream> = Vec::new();
    let mut clock = tokio::time::interval(WRITE_EVERY);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut stream, _) = accepted.map_err(BenchError::of("accept"))?;
                let _ = stream.set_nodelay(true);
                // The request is a single small packet.
                let _ = stream.read(&mut [0; 4096]).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.map_err(BenchError::of("answer"))?;
                listeners.push(stream);
            }
            _ = clock.tick() => {
                let text = std::mem::take(&mut *pending.lock().unwrap_or_else(PoisonError::into_inner));
                if !text.is_empty() {
                    for stream in &mut listeners {
                        stream.write_all(&text).await.map_err(BenchError::of("write events"))?;
                    }
                }
            }
        }
    }
}

/// Publishes as each line of stdin says; ends the process with it.
fn obey(publish: impl Fn(&PublishedEvent)) {
    for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
        let mut numbers = line.split(' ').filter_map(|number| number.parse::<u64>().ok());
        let (Some(per_second), Some(seconds)) = (numbers.next(), numbers.next()) else { continue };
        let begun = Instant::now();
        let mut event = PublishedEvent { at: 0, number: 0, file: "x".repeat(400) };
        while event.number < per_second * seconds {
            let due = (begun.elapsed().as_secs_f64() * per_second as f64) as u64;
            while event.number < due.min(per_second * seconds) {
                event.number += 1;
                event.at = nanoseconds();
                publish(&event);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("{}", event.number);
    }
    std::process::exit(0);
}

/// Since 1970.
pub fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
