//! Consumers without a store: they acknowledge what arrives, and count it.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::task::AbortHandle;

use crate::failure::{BenchError, Result};
use crate::mqtt::packet;
use crate::mqtt::publisher::{RECEIVE_MAXIMUM, await_packet, connected};

/// How a consumer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerKind {
    /// With rumqttc, as an ordinary program: a message at a time.
    Library,
    /// Reads large bites and acknowledges each of them in one write, so that the broker never waits for it.
    Lean,
}

/// A consumer that runs until it is dropped.
#[derive(Debug)]
pub struct MeasuringConsumer {
    received: Arc<AtomicU64>,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Library(AbortHandle),
    Lean(TcpStream, Option<JoinHandle<()>>),
}

impl MeasuringConsumer {
    /// Returns when the broker has accepted the subscription.
    ///
    /// # Errors
    ///
    /// The broker does not.
    pub async fn start(kind: ConsumerKind, port: u16, filter: &str, qos: QoS) -> Result<Self> {
        match kind {
            ConsumerKind::Library => Self::library(port, filter, qos).await,
            ConsumerKind::Lean => Self::lean(port, filter, qos),
        }
    }

    /// How many messages have arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    async fn library(port: u16, filter: &str, qos: QoS) -> Result<Self> {
        let mut options = MqttOptions::new(mysimbdp_testbed::unique("consumer"), "127.0.0.1", port);
        options.set_clean_start(true).set_receive_maximum(Some(RECEIVE_MAXIMUM));
        let (client, mut events) = AsyncClient::new(options, 100);
        client.subscribe(filter, qos).await.map_err(BenchError::of("subscribe"))?;
        loop {
            let event = events.poll().await.map_err(BenchError::of("subscribe"))?;
            if matches!(event, Event::Incoming(Packet::SubAck(_))) {
                break;
            }
        }
        let received = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&received);
        let task = tokio::spawn(async move {
            // It lives as long as this task.
            let _client = client;
            while let Ok(event) = events.poll().await {
                if matches!(event, Event::Incoming(Packet::Publish(_))) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { received, running: Running::Library(task.abort_handle()) })
    }

    fn lean(port: u16, filter: &str, qos: QoS) -> Result<Self> {
        let failed = || BenchError::of("subscribe");
        let (mut stream, mut packets) = connected(port).map_err(failed())?;
        let subscribe = packet::subscribe(filter, qos).map_err(failed())?;
        stream.write_all(&subscribe).map_err(failed())?;
        await_packet(&mut stream, &mut packets, |packet| matches!(packet, Packet::SubAck(_)))
            .map_err(failed())?;
        let mut own = stream.try_clone().map_err(failed())?;
        let received = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&received);
        // A connection that ends, ends the counting, which whoever waits for messages notices.
        let consume = move || {
            let mut acknowledgements = BytesMut::new();
            while packets.fill(&mut own).is_ok_and(|read| !read.is_empty()) {
                acknowledgements.clear();
                let mut messages = 0;
                while let Ok(Some(packet)) = packets.next() {
                    let Packet::Publish(message) = packet else { continue };
                    messages += 1;
                    if message.qos == QoS::AtLeastOnce
                        && packet::acknowledge(&mut acknowledgements, message.pkid).is_err()
                    {
                        return;
                    }
                }
                if own.write_all(&acknowledgements).is_err() {
                    return;
                }
                counted.fetch_add(messages, Ordering::Relaxed);
            }
        };
        Ok(Self { received, running: Running::Lean(stream, Some(std::thread::spawn(consume))) })
    }
}

impl Drop for MeasuringConsumer {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Library(task) => task.abort(),
            Running::Lean(stream, thread) => {
                // Ends the read that the thread is in; where the broker has closed it already, the thread has ended.
                let _ = stream.shutdown(Shutdown::Both);
                let _ = thread.take().map(JoinHandle::join);
            }
        }
    }
}
