//! Packets to bytes and from bytes, by the library's codec.

use std::io::{self, Read};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{Connect, ConnectProperties, Filter, Packet, PubAck, Publish, Subscribe};
use rumqttc::v5::mqttbytes::{Error, QoS};

/// A large read: the system is called seldom.
const READ_BYTES: usize = 256 << 10;
/// A packet of a load is small; a larger one is a mistake.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// CONNECT with a clean start, without keep-alive.
pub fn connect(client_id: &str, receive_maximum: u16) -> io::Result<BytesMut> {
    let properties = ConnectProperties { receive_maximum: Some(receive_maximum), ..ConnectProperties::new() };
    let connect = Connect {
        keep_alive: 0,
        client_id: client_id.to_owned(),
        clean_start: true,
        properties: Some(properties),
    };
    let mut bytes = BytesMut::new();
    write(&mut bytes, &Packet::Connect(connect, None, None))?;
    Ok(bytes)
}

/// SUBSCRIBE to one filter.
pub fn subscribe(filter: &str, qos: QoS) -> io::Result<BytesMut> {
    let subscribe = Subscribe { pkid: 1, ..Subscribe::new(Filter::new(filter, qos), None) };
    let mut bytes = BytesMut::new();
    write(&mut bytes, &Packet::Subscribe(subscribe))?;
    Ok(bytes)
}

/// Appends a PUBLISH; `id` is for QoS 1.
pub fn publish(to: &mut BytesMut, topic: &str, id: Option<u16>, payload: Vec<u8>) -> io::Result<()> {
    let qos = if id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    let publish = Publish { pkid: id.unwrap_or(0), ..Publish::new(topic, qos, payload, None) };
    write(to, &Packet::Publish(publish))
}

/// Appends a PUBACK of success.
pub fn acknowledge(to: &mut BytesMut, id: u16) -> io::Result<()> {
    write(to, &Packet::PubAck(PubAck::new(id, None)))
}

fn write(to: &mut BytesMut, packet: &Packet) -> io::Result<()> {
    packet.write(to, None).map(drop).map_err(invalid)
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Cuts the bytes of a connection into packets.
#[derive(Debug, Default)]
pub struct Packets {
    buffer: BytesMut,
}

impl Packets {
    /// Reads what has arrived, waiting for at least a byte, and returns the bytes read; none at the end.
    ///
    /// # Errors
    ///
    /// The connection fails.
    pub fn fill(&mut self, from: &mut impl Read) -> io::Result<&[u8]> {
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
    /// The bytes are not a packet of a load.
    pub fn next(&mut self) -> io::Result<Option<Packet>> {
        match Packet::read(&mut self.buffer, Some(PACKET_BYTES_MAX)) {
            Ok(packet) => Ok(Some(packet)),
            Err(Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(invalid(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_packets_are_read_wherever_they_are_split() {
        let mut bytes = BytesMut::new();
        publish(&mut bytes, "a/b", Some(513), vec![7; 200]).expect("a packet");
        publish(&mut bytes, "c", None, b"x".to_vec()).expect("a packet");
        acknowledge(&mut bytes, 513).expect("a packet");
        let (mut packets, mut found) = (Packets::default(), Vec::new());
        for byte in &bytes {
            packets.fill(&mut &[*byte][..]).expect("a byte");
            while let Some(packet) = packets.next().expect("packets") {
                found.push(match packet {
                    Packet::Publish(message) => (Some((message.pkid, message.payload.len())), None),
                    Packet::PubAck(ack) => (None, Some(ack.pkid)),
                    other => panic!("unexpected: {other:?}"),
                });
            }
        }
        assert_eq!(found, [(Some((513, 200)), None), (Some((0, 1)), None), (None, Some(513))]);
    }
}
