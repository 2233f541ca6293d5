//! Finds where a packet ends.

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Mqtt,
    Mongodb,
    /// Whatever has arrived together is a packet.
    Http,
}

impl Protocol {
    /// Returns the length of the packet at the beginning of `bytes`, or `None` if they are too few to tell.
    pub(super) fn packet_bytes(self, bytes: &[u8]) -> Option<usize> {
        match self {
            // One byte of type and flags, then the length of the remainder, 7 bits in each byte, the lowest first.
            Self::Mqtt => {
                let length = bytes.get(1..)?;
                let last = length.iter().take(4).position(|byte| byte & 0x80 == 0)?;
                let value =
                    length[..=last].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
                Some(2 + last + value)
            }
            // The length of the whole message, in 4 bytes.
            Self::Mongodb => {
                let length = bytes.first_chunk().map(|length| i32::from_le_bytes(*length))?;
                usize::try_from(length).ok()
            }
            Self::Http => (!bytes.is_empty()).then_some(bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_ends_where_its_length_says() {
        assert_eq!(Protocol::Mqtt.packet_bytes(&[0x30]), None);
        assert_eq!(Protocol::Mqtt.packet_bytes(&[0xc0, 0]), Some(2));
        assert_eq!(Protocol::Mqtt.packet_bytes(&[0x30, 0x80]), None);
        assert_eq!(Protocol::Mqtt.packet_bytes(&[0x30, 0xc1, 0x02]), Some(3 + 321));
        assert_eq!(Protocol::Mongodb.packet_bytes(&[1, 1, 0]), None);
        assert_eq!(Protocol::Mongodb.packet_bytes(&[1, 1, 0, 0, 9]), Some(257));
        assert_eq!(Protocol::Http.packet_bytes(&[]), None);
        assert_eq!(Protocol::Http.packet_bytes(b"GET /"), Some(5));
    }
}
