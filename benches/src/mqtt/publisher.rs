//! Publishes: as fast as the broker takes it, or at a steady rate.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;

use crate::failure::{BenchError, Result};
use crate::mqtt::packet::{self, Packets};

/// Messages that the broker has not acknowledged, as many as ordinary clients have. With more of them a consumer on a busy
/// machine falls behind, and mosquitto goes through all that is in flight with each acknowledgement: of 1,000 in flight
/// came a tenth of the rate.
const IN_FLIGHT_MAX: u64 = 100;
/// Messages that the broker may deliver before they are acknowledged, as many as it may to a stream app: two batches.
pub(super) const RECEIVE_MAXIMUM: u16 = 2_000;
/// Messages of QoS 0 in one write.
const AT_ONCE: u64 = 300;
/// The first number, so that all payloads have the same length.
const FIRST: u64 = 1_000_000_000;
/// Bytes of a message.
const PAYLOAD_BYTES: usize = 200;
/// At a steady rate, how often what is due is published.
const TICK: Duration = Duration::from_micros(500);
const SECOND_NANOS: u128 = 1_000_000_000;

/// What is published.
#[derive(Clone, Debug)]
pub struct PublishLoad {
    /// In turn.
    pub topics: Vec<String>,
    pub qos: QoS,
    pub messages: u64,
}

/// Publishes all messages as fast as the broker takes them, and returns when it has taken (QoS 1: acknowledged) all.
///
/// # Errors
///
/// The connection fails.
pub fn flood(port: u16, load: &PublishLoad) -> Result<()> {
    let failed = || BenchError::of("publish");
    let (mut stream, mut packets) = connected(port).map_err(failed())?;
    let (mut sent, mut acknowledged, mut bytes) = (0, 0, BytesMut::new());
    while sent < load.messages {
        let capacity =
            if load.qos == QoS::AtLeastOnce { IN_FLIGHT_MAX - (sent - acknowledged) } else { AT_ONCE };
        bytes.clear();
        for _ in 0..capacity.min(load.messages - sent) {
            append(&mut bytes, load, sent, 0).map_err(failed())?;
            sent += 1;
        }
        stream.write_all(&bytes).map_err(failed())?;
        if load.qos == QoS::AtLeastOnce {
            acknowledged += acknowledgements(&mut stream, &mut packets).map_err(failed())?;
        }
    }
    while load.qos == QoS::AtLeastOnce && acknowledged < sent {
        acknowledged += acknowledgements(&mut stream, &mut packets).map_err(failed())?;
    }
    stream.shutdown(Shutdown::Write).map_err(failed())
}

/// Publishes `per_second` messages a second, each with the time at which it is due: the nanoseconds since `clock`. So one
/// that has to wait for the broker counts its wait.
///
/// # Errors
///
/// The connection fails.
pub fn steady(port: u16, load: &PublishLoad, per_second: u64, clock: Instant) -> Result<()> {
    let failed = || BenchError::of("publish");
    let (mut stream, mut packets) = connected(port).map_err(failed())?;
    let mut reader = stream.try_clone().map_err(failed())?;
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| -> io::Result<()> {
            while acknowledged.load(Ordering::Relaxed) < load.messages {
                let count = acknowledgements(&mut reader, &mut packets)?;
                acknowledged.fetch_add(count, Ordering::Relaxed);
            }
            Ok(())
        });
        let (begun, mut sent, mut bytes) = (clock.elapsed().as_nanos() as u64, 0, BytesMut::new());
        while sent < load.messages && !reading.is_finished() {
            let due =
                (clock.elapsed().as_nanos() as u64 - begun) as u128 * u128::from(per_second) / SECOND_NANOS;
            let capacity = acknowledged.load(Ordering::Relaxed) + IN_FLIGHT_MAX;
            bytes.clear();
            while sent < (due as u64).min(capacity).min(load.messages) {
                let since = u128::from(sent) * SECOND_NANOS / u128::from(per_second);
                append(&mut bytes, load, sent, begun + since as u64).map_err(failed())?;
                sent += 1;
            }
            stream.write_all(&bytes).map_err(failed())?;
            std::thread::sleep(TICK);
        }
        reading.join().map_err(|_| BenchError::new("reading acknowledgements panicked"))?.map_err(failed())
    })
}

/// A connection that the broker has accepted.
pub(super) fn connected(port: u16) -> io::Result<(TcpStream, Packets)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.write_all(&packet::connect(&mysimbdp_testbed::unique("load"), RECEIVE_MAXIMUM)?)?;
    let mut packets = Packets::default();
    await_packet(&mut stream, &mut packets, |packet| matches!(packet, Packet::ConnAck(_)))?;
    Ok((stream, packets))
}

/// Waits for a packet that is `expected`; others before it are dropped.
pub(super) fn await_packet(
    stream: &mut TcpStream,
    packets: &mut Packets,
    expected: impl Fn(&Packet) -> bool,
) -> io::Result<()> {
    loop {
        while let Some(packet) = packets.next()? {
            if expected(&packet) {
                return Ok(());
            }
        }
        if packets.fill(stream)?.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads what there is, at least one packet's part, and counts the acknowledgements.
fn acknowledgements(stream: &mut TcpStream, packets: &mut Packets) -> io::Result<u64> {
    if packets.fill(stream)?.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut count = 0;
    while let Some(packet) = packets.next()? {
        count += u64::from(matches!(packet, Packet::PubAck(_)));
    }
    Ok(count)
}

fn append(bytes: &mut BytesMut, load: &PublishLoad, number: u64, sent: u64) -> io::Result<()> {
    let topic = &load.topics[number as usize % load.topics.len()];
    // From 1 on, and never one that is still in flight.
    let id = (load.qos == QoS::AtLeastOnce).then_some((number % 65_535 + 1) as u16);
    let mut payload = format!("{{\"n\":{},\"sent\":{},\"temp\":12.5,\"pad\":\"", FIRST + number, sent);
    payload.extend(std::iter::repeat_n('x', PAYLOAD_BYTES.saturating_sub(payload.len() + 2)));
    payload.push_str("\"}");
    packet::publish(bytes, topic, id, payload.into_bytes())
}

/// When a message was sent, by its own account.
pub(super) fn sent_at(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    text.split_once("\"sent\":")?.1.split_once(',')?.0.parse().ok()
}
