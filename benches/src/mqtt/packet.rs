//! The packets that are needed, to bytes and from bytes.

use std::io::{self, Read};

/// How a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
}

/// First bytes of packets.
pub const CONNACK: u8 = 0x20;
pub const PUBACK: u8 = 0x40;
pub const SUBACK: u8 = 0x90;
/// The upper half of the first byte of a message; the lower half holds flags.
const PUBLISH: u8 = 0x30;
const PUBLISH_AT_LEAST_ONCE: u8 = 0x32;

/// Large bites: the broker is asked seldom.
const READ_BYTES: usize = 256 << 10;
/// A packet of a load is small; what is larger is no packet.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// CONNECT with a clean start, without keep-alive.
pub fn connect(client_id: &str, receive_maximum: u16) -> Vec<u8> {
    // From the 3 on: the length of the properties, and the Receive Maximum.
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 3, 0x21];
    body.extend(receive_maximum.to_be_bytes());
    text(&mut body, client_id);
    packet(0x10, &body)
}

/// SUBSCRIBE to one filter.
pub fn subscribe(filter: &str, qos: Qos) -> Vec<u8> {
    let mut body = vec![0, 1, 0];
    text(&mut body, filter);
    body.push(u8::from(qos == Qos::AtLeastOnce));
    packet(0x82, &body)
}

/// Appends a PUBLISH; `id` is for QoS 1.
pub fn publish(to: &mut Vec<u8>, topic: &str, id: Option<u16>, payload: &[u8]) {
    let length = 2 + topic.len() + id.map_or(0, |_| 2) + 1 + payload.len();
    to.push(if id.is_some() { PUBLISH_AT_LEAST_ONCE } else { PUBLISH });
    variable(to, length);
    text(to, topic);
    to.extend(id.map(u16::to_be_bytes).into_iter().flatten());
    // No properties.
    to.push(0);
    to.extend_from_slice(payload);
}

/// PUBACK of success.
pub fn acknowledge(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [PUBACK, 2, high, low]
}

/// A packet as it has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub first: u8,
    pub body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// What a PUBLISH says; `None` for other packets.
    pub fn message(&self) -> Option<Message<'a>> {
        if self.first & 0xF0 != PUBLISH {
            return None;
        }
        let mut rest = after_text(self.body)?;
        let mut id = None;
        if self.first & 0x06 != 0 {
            id = Some(u16::from_be_bytes(rest.first_chunk().copied()?));
            rest = &rest[2..];
        }
        let (properties, length) = read_variable(rest)?;
        Some(Message { id, payload: rest.get(length + properties..)? })
    }

    /// The number of a PUBACK; `None` for other packets.
    pub fn acknowledged(&self) -> Option<u16> {
        (self.first == PUBACK).then(|| self.body.first_chunk().copied().map(u16::from_be_bytes))?
    }
}

/// What of a message matters here: its topic is the consumer's own.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub id: Option<u16>,
    pub payload: &'a [u8],
}

/// Cuts what a connection brings into packets.
#[derive(Debug, Default)]
pub struct Packets {
    buffer: Vec<u8>,
    taken: usize,
}

impl Packets {
    /// Reads what there is, waiting for at least a byte, and returns the bytes read; none at the end.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub fn fill(&mut self, from: &mut impl Read) -> io::Result<&[u8]> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let before = self.buffer.len();
        self.buffer.resize(before + READ_BYTES, 0);
        let read = from.read(&mut self.buffer[before..]);
        self.buffer.truncate(before + read.as_ref().map_or(0, |read| *read));
        read?;
        Ok(&self.buffer[before..])
    }

    /// The next packet that is complete.
    ///
    /// # Errors
    ///
    /// What comes is no packet of a load.
    pub fn next(&mut self) -> io::Result<Option<Packet<'_>>> {
        let rest = &self.buffer[self.taken..];
        let Some((length, digits)) = rest.get(1..).and_then(read_variable) else { return Ok(None) };
        if length > PACKET_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is too long"));
        }
        let end = 1 + digits + length;
        if rest.len() < end {
            return Ok(None);
        }
        let (first, body) = (rest[0], self.taken + 1 + digits..self.taken + end);
        self.taken += end;
        Ok(Some(Packet { first, body: &self.buffer[body] }))
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    variable(&mut packet, body.len());
    packet.extend_from_slice(body);
    packet
}

fn text(to: &mut Vec<u8>, text: &str) {
    // Topics and names of a load are short.
    to.extend((text.len() as u16).to_be_bytes());
    to.extend_from_slice(text.as_bytes());
}

fn after_text(bytes: &[u8]) -> Option<&[u8]> {
    let length = u16::from_be_bytes(bytes.first_chunk().copied()?);
    bytes.get(2 + usize::from(length)..)
}

/// Seven bits a byte, the lowest first.
fn variable(to: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        to.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// The value, and how many bytes it takes; `None` where it is not complete.
fn read_variable(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (position, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, position + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read_again_however_it_is_cut() {
        let mut bytes = Vec::new();
        publish(&mut bytes, "a/b", Some(513), &[7; 200]);
        publish(&mut bytes, "c", None, b"x");
        bytes.extend(acknowledge(513));
        let (mut packets, mut found) = (Packets::default(), Vec::new());
        for byte in &bytes {
            packets.fill(&mut &[*byte][..]).expect("a byte");
            while let Some(packet) = packets.next().expect("packets") {
                let message = packet.message().map(|message| (message.id, message.payload.len()));
                found.push((message, packet.acknowledged()));
            }
        }
        let expected = [(Some((Some(513), 200)), None), (Some((None, 1)), None), (None, Some(513))];
        assert_eq!(found, expected);
    }
}
