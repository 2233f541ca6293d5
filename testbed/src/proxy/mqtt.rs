//! Parses MQTT packets.

use super::wire::Protocol;

const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PINGREQ: u8 = 12;
/// The flag of PUBLISH for a message that has been sent before.
const DUP: u8 = 0x08;
const QOS: u8 = 0x06;
const QOS_1: u8 = 0x02;

/// Whether this is a keep-alive ping of the client.
pub(super) fn is_ping(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == PINGREQ)
}

/// The identifier of a message of QoS 1.
pub(super) fn publish_id(packet: &[u8]) -> Option<u16> {
    if packet.first()? >> 4 != PUBLISH || packet[0] & QOS != QOS_1 {
        return None;
    }
    let content = content(packet)?;
    let topic_bytes = usize::from(number(content)?);
    number(content.get(2 + topic_bytes..)?)
}

/// The identifier of the message that the packet acknowledges.
pub(super) fn acknowledged_id(packet: &[u8]) -> Option<u16> {
    if packet.first()? >> 4 != PUBACK { None } else { number(content(packet)?) }
}

pub(super) fn marked_as_repeated(packet: &[u8]) -> Vec<u8> {
    let mut repeated = packet.to_vec();
    repeated[0] |= DUP;
    repeated
}

/// The bytes after the length field.
fn content(packet: &[u8]) -> Option<&[u8]> {
    let last = packet.get(1..)?.iter().take(4).position(|byte| byte & 0x80 == 0)?;
    debug_assert_eq!(Protocol::Mqtt.packet_bytes(packet), Some(packet.len()));
    packet.get(2 + last..)
}

fn number(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_found_and_repeats_marked() {
        let publish = [0x32, 8, 0, 1, b't', 0x01, 0x02, 0, b'h', b'i'];
        assert_eq!(publish_id(&publish), Some(0x102));
        assert_eq!(marked_as_repeated(&publish)[0], 0x3a);
        let at_most_once = [0x30, 5, 0, 1, b't', 0, b'!'];
        assert_eq!((publish_id(&at_most_once), acknowledged_id(&at_most_once)), (None, None));
        assert_eq!(acknowledged_id(&[0x40, 2, 0, 7]), Some(7));
    }
}
