//! Runs a stream app: stores MQTT messages as documents and acknowledges each only after it is durable.
//!
//! 1. [`StreamAppSettings`] are read from the environment, the message schema is compiled, store and broker are opened;
//! 2. messages are converted as they arrive and collected into a batch;
//! 3. while one batch is written, the next one collects messages. It is closed when it is old enough, or when the
//!    previous write has returned and the batch is not empty, so batches grow with the load by themselves. A full batch
//!    does not wait for the previous write: two batches are written at a time. With `ids: "key"` it does wait, so that
//!    the first message of a key is the one that stays;
//! 4. when a batch and all batches before it are durable, its messages are acknowledged. While the store is
//!    unavailable, nothing is acknowledged, and the broker's window (three batches, or two with `ids: "key"`) bounds
//!    the messages in memory;
//! 5. the durable numbers of numbered sources are marked, and each source receives a receipt; messages do not wait for
//!    it;
//! 6. if somebody wants to know, the stored documents are announced; nothing waits for that either;
//! 7. reports are published at their interval; the retained status says that the instance is running.
//!
//! SIGTERM and SIGINT stop the app: the messages taken so far are stored and acknowledged, the session stays. SIGUSR1
//! drains it: the subscription ends, what the session still holds is stored, then the session ends too.

mod announcer;
mod cycle;
mod durable;
mod instance;
mod message;
mod receipts;
mod report;
mod schema;
mod settings;
mod signals;
mod status;
mod wait;
mod window;
mod write;

use std::process::ExitCode;

use mysimbdp_platform::{runtime, secrets};
use mysimbdp_telemetry::logging::LogLevel;

use crate::Rejection;
use crate::failure::Failure;
use crate::record::{Fields, json};
use instance::Instance;
use message::Converter;

pub use message::Message;
pub use settings::StreamAppSettings;
pub use signals::{ShutdownMode, Signals};

/// Converts a message to the fields of its document, or returns the reason why it cannot be stored.
pub type Convert = dyn Fn(&Message, &mut Fields) -> Result<(), Rejection> + Send + Sync;

/// Runs until a signal ends it, and returns the process's exit code: 0 after a stop or drain, 75 if the broker ended
/// the session, or the store was unavailable or I/O failed at the start, 78 if the environment is wrong, 71 if the system
/// refuses it threads, 70 otherwise.
///
/// `convert` receives each message of at most [`RECORD_BYTES_MAX`](crate::record::RECORD_BYTES_MAX) bytes; then the
/// message is checked against the client's schema. If either refuses it, it is stored as a reject with the reason, and
/// acknowledged. The `_id` comes from the platform (see [`crate::identity`]). For a message with the user properties
/// `source`, `epoch` and `seq` it is made of these, so that the message is stored exactly once; otherwise it is a new
/// ObjectId, and the message is stored at least once. A message that has its own `_id` is rejected, except with `ids: "none"`. With `ids: "key"`
/// the `_id` is the key, and the first message of a key stays until the batch layer corrects it.
pub fn run(convert: &Convert) -> ExitCode {
    mysimbdp_telemetry::logging::init_stderr("stream-app", LogLevel::Info);
    if let Err(error) = secrets::protect() {
        tracing::warn!(%error, "memory of this process is not protected from other processes");
    }
    let ended =
        StreamAppSettings::from_environment(&crate::environment::process_variable).and_then(|settings| {
            // One thread: with several, each read from the broker wakes another one, which costs more than it gains.
            let runtime = runtime::build(tokio::runtime::Builder::new_current_thread())?;
            runtime.block_on(serve(&settings, convert))
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(error = %failure, "instance ended");
            failure.exit_code()
        }
    }
}

/// Converts a JSON object: each member becomes a field, exactly or not at all.
///
/// # Errors
///
/// The reason for the message's reject.
pub fn from_json(message: &Message, fields: &mut Fields) -> Result<(), Rejection> {
    json::append_object(fields, message.content())
}

async fn serve(settings: &StreamAppSettings, convert: &Convert) -> Result<(), Failure> {
    // Before connecting, so that a signal during the connection attempt does not kill the process.
    let signals = Signals::new()?;
    let converter = Converter::new(settings, convert)?;
    let coredms = mysimbdp_store::open(&settings.coredms, &settings.database).await?;
    let instance = Instance::connect(settings, converter, coredms.clone())?;
    let ended = instance.run(signals).await;
    coredms.close().await;
    ended
}

#[cfg(test)]
fn test_settings() -> StreamAppSettings {
    use mysimbdp_model::app::env;
    let get = |name: &str| match name {
        env::CLIENT_ID => Some("client1".to_owned()),
        env::BROKER => Some("mqtt://127.0.0.1:1".to_owned()),
        env::COREDMS => Some("sqlite:/nowhere".to_owned()),
        env::TOPIC_FILTER | env::INSTANCE | env::DATABASE | env::COLLECTION => Some("x".to_owned()),
        _ => None,
    };
    StreamAppSettings::from_environment(&get).expect("complete")
}
