//! The bytes of one connection, in bulk: everything that has arrived is read at once, and everything to send goes out
//! together.
//!
//! The library's own event loop writes each acknowledgement by itself, which costs a system call for each, here and in a
//! broker that reads them one by one. The library still encodes the packets and keeps track of their identifiers.

use std::collections::VecDeque;
use std::io;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectReturnCode, LastWill, Login, Packet, PingReq, PubAck, Publish,
};
use rumqttc::v5::mqttbytes::{self, QoS};
use rumqttc::v5::{ConnectionError, Event, MqttState, Request as Outgoing, StateError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::address::Address;

/// The size of an input buffer. Messages keep the buffer alive that they are in, so it is filled before another is used.
const INPUT_BYTES: usize = 64 * 1024;
const INPUT_BYTES_MIN: usize = 4 * 1024;

/// How long the broker may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A request of the callers.
#[derive(Debug)]
pub(super) enum Request {
    /// A packet that the library keeps track of.
    Send(Outgoing),
    /// Acknowledges messages that have arrived, by their packet identifiers.
    Acknowledge(Vec<u16>),
}

/// How a connection begins.
#[derive(Clone)]
pub(super) struct Handshake {
    pub(super) connect: Connect,
    pub(super) will: Option<LastWill>,
    pub(super) login: Option<Login>,
    /// The most of our own messages that may be unacknowledged at a time.
    pub(super) publishes_max: u16,
    /// The largest packet that is accepted.
    pub(super) packet_bytes_max: u32,
    /// Whether messages are acknowledged as they arrive.
    pub(super) acknowledges: bool,
}

/// What has arrived and has not been processed.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) messages: Vec<Publish>,
    /// Everything else, and which identifier was used for each packet sent.
    pub(super) events: VecDeque<Event>,
}

/// One connection, from CONNECT to its end.
pub(super) struct Wire {
    socket: Box<dyn Socket>,
    requests: mpsc::Receiver<Request>,
    state: MqttState,
    input: BytesMut,
    output: BytesMut,
    keep_alive: Interval,
    /// A ping has been sent, and nothing has been read since, although we were reading.
    is_ping_unanswered: bool,
    /// The library was waiting for a free packet identifier when the last ping was sent.
    was_blocked: bool,
    publishes_max: u16,
    packet_bytes_max: u32,
    acknowledges: bool,
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

impl Wire {
    /// Connects, and waits for the broker to accept it.
    pub(super) async fn connect(
        address: &Address,
        tls: Option<&TlsConnector>,
        handshake: Handshake,
        requests: mpsc::Receiver<Request>,
    ) -> Result<(Self, ConnAck), ConnectionError> {
        timeout(CONNECT_DEADLINE, Self::open(address, tls, handshake, requests)).await?
    }

    async fn open(
        address: &Address,
        tls: Option<&TlsConnector>,
        handshake: Handshake,
        requests: mpsc::Receiver<Request>,
    ) -> Result<(Self, ConnAck), ConnectionError> {
        let mut wire = Self {
            socket: socket(address, tls).await?,
            requests,
            state: MqttState::new(handshake.publishes_max, !handshake.acknowledges),
            input: BytesMut::with_capacity(INPUT_BYTES),
            output: BytesMut::new(),
            keep_alive: keep_alive_interval(Duration::from_secs(handshake.connect.keep_alive.into())),
            is_ping_unanswered: false,
            was_blocked: false,
            publishes_max: handshake.publishes_max,
            packet_bytes_max: handshake.packet_bytes_max,
            acknowledges: handshake.acknowledges,
        };
        wire.write(&Packet::Connect(handshake.connect, handshake.will, handshake.login))?;
        wire.flush().await?;
        let accepted = loop {
            match wire.packet()? {
                Some(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success => break ack,
                Some(Packet::ConnAck(ack)) => return Err(ConnectionError::ConnectionRefused(ack.code)),
                Some(other) => return Err(ConnectionError::NotConnAck(Box::new(other))),
                None => read(&mut wire.socket, &mut wire.input).await?,
            }
        };
        if let Some(properties) = &accepted.properties {
            if let Some(seconds) = properties.server_keep_alive {
                wire.keep_alive = keep_alive_interval(Duration::from_secs(seconds.into()));
            }
            if let Some(receive_maximum) = properties.receive_max {
                wire.publishes_max = wire.publishes_max.min(receive_maximum);
            }
        }
        Ok((wire, accepted))
    }

    /// Waits until something has arrived or is to be sent, and processes all of it that is possible. If it is dropped
    /// before it returns, the connection must be ended.
    ///
    /// Nothing is read before `capacity` completes. Acknowledgements and pings are sent in the meantime: the broker must not
    /// mistake an app that waits for its store for one that is lost.
    pub(super) async fn step(
        &mut self,
        arrived: &mut Arrived,
        capacity: impl Future<Output = ()>,
    ) -> Result<(), ConnectionError> {
        // More than the CONNACK may have been read with it.
        self.read_packets(&mut arrived.messages)?;
        if arrived.messages.is_empty() && self.state.events.is_empty() {
            let may_send = self.may_send();
            let mut is_reading = false;
            let reading = async {
                capacity.await;
                is_reading = true;
                read(&mut self.socket, &mut self.input).await
            };
            tokio::select! {
                read = reading => {
                    read?;
                    self.is_ping_unanswered = false;
                    self.read_packets(&mut arrived.messages)?;
                }
                Some(request) = self.requests.recv(), if may_send => self.send(request)?,
                _ = self.keep_alive.tick() => self.ping(is_reading)?,
            }
        }
        while self.may_send()
            && let Ok(request) = self.requests.try_recv()
        {
            self.send(request)?;
        }
        self.flush().await?;
        arrived.events.append(&mut self.state.events);
        Ok(())
    }

    /// Returns the next packet if all of it has arrived.
    fn packet(&mut self) -> Result<Option<Packet>, ConnectionError> {
        match Packet::read(&mut self.input, Some(self.packet_bytes_max)) {
            Ok(packet) => Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(missing)) => {
                if missing > self.input.capacity() - self.input.len() {
                    self.input.reserve(missing.max(INPUT_BYTES));
                }
                Ok(None)
            }
            Err(error) => Err(StateError::Deserialization(error).into()),
        }
    }

    fn read_packets(&mut self, messages: &mut Vec<Publish>) -> Result<(), ConnectionError> {
        while let Some(packet) = self.packet()? {
            // Given to the library, it would be copied. The library need not track these: we allow no topic aliases, and no
            // QoS 2.
            if let Packet::Publish(message) = packet {
                if self.acknowledges && message.qos == QoS::AtLeastOnce {
                    self.write(&Packet::PubAck(PubAck::new(message.pkid, None)))?;
                }
                messages.push(message);
            } else if let Some(answer) = self.state.handle_incoming_packet(packet)? {
                self.write(&answer)?;
            }
        }
        Ok(())
    }

    /// Shows the broker that we are alive, and finds out whether it is.
    ///
    /// Anything that arrives is a sign of life, not only the answer to the ping, which may be behind many messages. Nothing
    /// can be concluded while nothing is read. The library's own tracking of pings considers neither.
    fn ping(&mut self, is_reading: bool) -> Result<(), ConnectionError> {
        let is_blocked = self.state.collision.is_some();
        if is_reading && self.is_ping_unanswered {
            return Err(StateError::AwaitPingResp.into());
        }
        if is_reading && is_blocked && self.was_blocked {
            return Err(StateError::CollisionTimeout.into());
        }
        self.is_ping_unanswered = is_reading;
        self.was_blocked = is_reading && is_blocked;
        self.write(&Packet::PingReq(PingReq))
    }

    fn may_send(&self) -> bool {
        self.state.inflight() < self.publishes_max && self.state.collision.is_none()
    }

    fn send(&mut self, request: Request) -> Result<(), ConnectionError> {
        match request {
            Request::Send(packet) => self.send_packet(packet),
            Request::Acknowledge(ids) => {
                ids.into_iter().try_for_each(|id| self.write(&Packet::PubAck(PubAck::new(id, None))))
            }
        }
    }

    fn send_packet(&mut self, packet: Outgoing) -> Result<(), ConnectionError> {
        match self.state.handle_outgoing_packet(packet)? {
            Some(packet) => self.write(&packet),
            None => Ok(()),
        }
    }

    fn write(&mut self, packet: &Packet) -> Result<(), ConnectionError> {
        packet.write(&mut self.output, None).map_err(StateError::from)?;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        if !self.output.is_empty() {
            self.socket.write_all_buf(&mut self.output).await.map_err(StateError::Io)?;
            self.socket.flush().await.map_err(StateError::Io)?;
        }
        Ok(())
    }
}

async fn read(socket: &mut Box<dyn Socket>, input: &mut BytesMut) -> Result<(), ConnectionError> {
    if input.capacity() - input.len() < INPUT_BYTES_MIN {
        input.reserve(INPUT_BYTES);
    }
    match socket.read_buf(input).await.map_err(StateError::Io)? {
        0 => Err(StateError::ConnectionAborted.into()),
        _ => Ok(()),
    }
}

async fn socket(address: &Address, tls: Option<&TlsConnector>) -> Result<Box<dyn Socket>, ConnectionError> {
    let socket = TcpStream::connect(format!("{}:{}", address.host, address.port)).await?;
    // What is written at once is complete: waiting for more would only delay it.
    socket.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(socket)) };
    let host = address.host.trim_matches(['[', ']']).to_owned();
    let host = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(Box::new(tls.connect(host, socket).await?))
}

fn keep_alive_interval(keep_alive: Duration) -> Interval {
    // 0 means that the broker wants no keep-alive.
    let period = if keep_alive.is_zero() { Duration::from_secs(u16::MAX.into()) } else { keep_alive };
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
