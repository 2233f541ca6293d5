//! Decides what happens to a packet.

use std::sync::atomic::{AtomicU64, Ordering};

use super::wire::Protocol;
use super::{mongodb, mqtt};

/// A fault of single packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyFault {
    #[default]
    None,
    /// MQTT: each message of QoS 1 that the broker sends arrives twice, the second time marked as a repeat or not.
    MessagesTwice { marked: bool },
    /// MQTT: the client's acknowledgements never reach the broker.
    AcknowledgementsLost,
    /// MongoDB: the next `times` inserts are executed, and their connections end instead of a reply.
    RepliesToInsertLost { times: u64 },
}

/// The sender of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Client,
    Server,
}

/// What happens to a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    Forwarded,
    /// It is forwarded, and this packet follows it.
    FollowedBy(Vec<u8>),
    Lost,
    /// The connection ends instead.
    Cut,
}

/// Inspects the packets of one connection, in both directions.
#[derive(Debug)]
pub(super) struct Inspector {
    protocol: Protocol,
    /// MQTT: messages that were sent twice, so that the client acknowledges them once more than the broker expects.
    repeated: Vec<u16>,
    /// MongoDB: the request whose reply is to be lost.
    reply_to_drop: Option<i32>,
}

impl Inspector {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self { protocol, repeated: Vec::new(), reply_to_drop: None }
    }

    /// `happened` counts how often the fault has happened, on all connections.
    pub(super) fn inspect(
        &mut self,
        fault: ProxyFault,
        happened: &AtomicU64,
        from: Peer,
        packet: &[u8],
    ) -> Disposition {
        let disposition = match (self.protocol, from) {
            (Protocol::Mqtt, Peer::Server) => self.message(fault, packet),
            (Protocol::Mqtt, Peer::Client) => self.acknowledgement(fault, packet),
            (Protocol::Mongodb, Peer::Client) => {
                // Counted with the request: other inserts may follow before the first reply arrives.
                if let ProxyFault::RepliesToInsertLost { times } = fault
                    && happened.load(Ordering::Relaxed) < times
                    && mongodb::is_command(packet, b"insert")
                {
                    happened.fetch_add(1, Ordering::Relaxed);
                    self.reply_to_drop = mongodb::request(packet);
                }
                Disposition::Forwarded
            }
            (Protocol::Mongodb, Peer::Server) => match self.reply_to_drop {
                Some(request) if mongodb::answers(packet) == Some(request) => Disposition::Cut,
                _ => Disposition::Forwarded,
            },
            (Protocol::Http, _) => Disposition::Forwarded,
        };
        if matches!(disposition, Disposition::FollowedBy(_) | Disposition::Lost) {
            happened.fetch_add(1, Ordering::Relaxed);
        }
        disposition
    }

    fn message(&mut self, fault: ProxyFault, packet: &[u8]) -> Disposition {
        match (fault, mqtt::publish_id(packet)) {
            (ProxyFault::MessagesTwice { marked }, Some(id)) => {
                self.repeated.push(id);
                Disposition::FollowedBy(if marked {
                    mqtt::marked_as_repeated(packet)
                } else {
                    packet.to_vec()
                })
            }
            _ => Disposition::Forwarded,
        }
    }

    fn acknowledgement(&mut self, fault: ProxyFault, packet: &[u8]) -> Disposition {
        let Some(id) = mqtt::acknowledged_id(packet) else { return Disposition::Forwarded };
        // The broker may give the identifier to another message as soon as it has seen the first acknowledgement.
        if let Some(position) = self.repeated.iter().position(|repeated| *repeated == id) {
            self.repeated.swap_remove(position);
            return Disposition::Lost;
        }
        if fault == ProxyFault::AcknowledgementsLost { Disposition::Lost } else { Disposition::Forwarded }
    }
}
