//! Stands between the broker and its consumers, and sees when each message is acknowledged.
//!
//! A message says when it was sent ([`super::publisher::steady`]), and QoS 1 numbers it; so the time until its
//! acknowledgement passes by is what its sender would have to wait for, were it told.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;

use crate::failure::{BenchError, Result};
use crate::mqtt::packet::Packets;
use crate::mqtt::publisher::sent_at;

/// Forwards connections to a broker until the process ends.
#[derive(Debug)]
pub struct Tap {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Instant,
    broker: u16,
    latencies: Mutex<Vec<Duration>>,
}

/// When the messages that a connection has delivered and not acknowledged were sent, by packet id.
type Waiting = Mutex<HashMap<u16, u64>>;

impl Tap {
    /// Forwards to the broker on this port. Times are since `clock`.
    ///
    /// # Errors
    ///
    /// There is no port.
    pub fn start(broker: u16, clock: Instant) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(BenchError::of("open a port"))?;
        let port = listener.local_addr().map_err(BenchError::of("open a port"))?.port();
        let shared = Arc::new(Shared { clock, broker, latencies: Mutex::default() });
        let forwarded = Arc::clone(&shared);
        std::thread::spawn(move || {
            for consumer in listener.incoming().flatten() {
                // One that fails is one that its consumer makes anew.
                let _ = forward(consumer, &forwarded);
            }
        });
        Ok(Self { port, shared })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many latencies there are.
    pub fn len(&self) -> u64 {
        lock(&self.shared.latencies).len() as u64
    }

    /// Takes the time from the sending to the acknowledgement of each message so far.
    pub fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut *lock(&self.shared.latencies))
    }
}

fn forward(consumer: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let broker = TcpStream::connect(("127.0.0.1", shared.broker))?;
    for stream in [&consumer, &broker] {
        stream.set_nodelay(true)?;
    }
    let waiting = Arc::new(Waiting::default());
    let down = (broker.try_clone()?, consumer.try_clone()?, Arc::clone(&waiting));
    std::thread::spawn(move || {
        let (from, to, waiting) = down;
        copy(from, to, |packets| deliveries(packets, &waiting));
    });
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        copy(consumer, broker, |packets| acknowledgements(packets, &waiting, &shared))
    });
    Ok(())
}

/// Copies bytes as they are until either side ends, and shows what packets they are.
fn copy(mut from: TcpStream, mut to: TcpStream, mut show: impl FnMut(&mut Packets) -> io::Result<()>) {
    let mut packets = Packets::default();
    while let Ok(bytes) = packets.fill(&mut from).map(<[u8]>::to_vec) {
        // Shown before it is forwarded, so that no acknowledgement can come before its message is known.
        if bytes.is_empty() || show(&mut packets).is_err() || to.write_all(&bytes).is_err() {
            break;
        }
    }
    // Either may be closed already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn deliveries(packets: &mut Packets, waiting: &Waiting) -> io::Result<()> {
    let mut waiting = lock(waiting);
    while let Some(packet) = packets.next()? {
        if let Packet::Publish(message) = packet
            && message.qos == QoS::AtLeastOnce
            && let Some(sent) = sent_at(&message.payload)
        {
            waiting.insert(message.pkid, sent);
        }
    }
    Ok(())
}

fn acknowledgements(packets: &mut Packets, waiting: &Waiting, shared: &Shared) -> io::Result<()> {
    let now = shared.clock.elapsed();
    let mut waiting = lock(waiting);
    let mut latencies = lock(&shared.latencies);
    while let Some(packet) = packets.next()? {
        if let Packet::PubAck(ack) = packet
            && let Some(sent) = waiting.remove(&ack.pkid)
        {
            latencies.push(now.saturating_sub(Duration::from_nanos(sent)));
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
