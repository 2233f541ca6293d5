//! What becomes of a packet.

use std::sync::atomic::{AtomicU64, Ordering};

use super::wire::Protocol;
use super::{mongodb, mqtt};

/// What goes wrong with single packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// MQTT: each message of QoS 1 that the broker sends arrives twice, the second time marked as such or not.
    MessagesTwice { marked: bool },
    /// MQTT: what the client acknowledges is never acknowledged for the broker.
    AcknowledgementsLost,
    /// MongoDB: the next so many inserts are executed, and their connections end in place of a reply.
    RepliesToInsertLost { times: u64 },
}

/// From whom a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Client,
    Server,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Forwarded,
    /// This one comes after it.
    FollowedBy(Vec<u8>),
    Lost,
    /// The connection ends in its place.
    Cut,
}

/// Looks at the packets of one connection, in both directions.
#[derive(Debug)]
pub(super) struct Inspector {
    protocol: Protocol,
    /// MQTT: messages that were sent twice and are acknowledged once more than the broker expects.
    repeated: Vec<u16>,
    /// MongoDB: the request whose reply is to be lost.
    condemned: Option<i32>,
}

impl Inspector {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self { protocol, repeated: Vec::new(), condemned: None }
    }

    /// `happened`: how often the fault has, on all connections.
    pub(super) fn judge(&mut self, fault: Fault, happened: &AtomicU64, from: From, packet: &[u8]) -> Fate {
        let fate = match (self.protocol, from) {
            (Protocol::Mqtt, From::Server) => self.message(fault, packet),
            (Protocol::Mqtt, From::Client) => self.acknowledgement(fault, packet),
            (Protocol::Mongodb, From::Client) => {
                // Counted here: others may be on their way before the first reply is there to be lost.
                if let Fault::RepliesToInsertLost { times } = fault
                    && happened.load(Ordering::Relaxed) < times
                    && mongodb::is_command(packet, b"insert")
                {
                    happened.fetch_add(1, Ordering::Relaxed);
                    self.condemned = mongodb::request(packet);
                }
                Fate::Forwarded
            }
            (Protocol::Mongodb, From::Server) => match self.condemned {
                Some(request) if mongodb::answers(packet) == Some(request) => Fate::Cut,
                _ => Fate::Forwarded,
            },
        };
        if matches!(fate, Fate::FollowedBy(_) | Fate::Lost) {
            happened.fetch_add(1, Ordering::Relaxed);
        }
        fate
    }

    fn message(&mut self, fault: Fault, packet: &[u8]) -> Fate {
        match (fault, mqtt::publish_id(packet)) {
            (Fault::MessagesTwice { marked }, Some(id)) => {
                self.repeated.push(id);
                Fate::FollowedBy(if marked { mqtt::marked_as_repeated(packet) } else { packet.to_vec() })
            }
            _ => Fate::Forwarded,
        }
    }

    fn acknowledgement(&mut self, fault: Fault, packet: &[u8]) -> Fate {
        let Some(id) = mqtt::acknowledged_id(packet) else { return Fate::Forwarded };
        // The broker may give the identifier to another message as soon as it has seen the first acknowledgement.
        if let Some(position) = self.repeated.iter().position(|repeated| *repeated == id) {
            self.repeated.swap_remove(position);
            return Fate::Lost;
        }
        if fault == Fault::AcknowledgementsLost { Fate::Lost } else { Fate::Forwarded }
    }
}
