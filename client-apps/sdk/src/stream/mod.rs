//! Runs a stream app: MQTT messages to documents, each acknowledged only after it is durable.
//!
//! 1. [`Settings`] from the environment; the message schema compiled; store and broker opened;
//! 2. messages are converted as they arrive, and collected into a batch;
//! 3. a batch is written while the next one collects: that closes when it is old enough, or when the write before it has
//!    returned and it holds anything, so batches grow with the load by themselves. One that is full does not wait for the
//!    write before it (but with `ids: "key"`, where the first message of a key is to stay): two are written at a time;
//! 4. when a batch is durable, and those before it are, its messages are acknowledged. While the store is away nothing
//!    is acknowledged, and the broker's window (three batches) bounds what is held in memory;
//! 5. what is durable of numbered sources is marked, and they are told how far they are received, off the way of the
//!    messages;
//! 6. reports go out at their interval; the retained status says that the instance lives.
//!
//! SIGTERM and SIGINT stop: what has been taken is stored and acknowledged, the session stays. SIGUSR1 drains: the
//! subscription ends, what the session still holds is stored, then the session ends too.

mod durable;
mod instance;
mod message;
mod receipts;
mod report;
mod round;
mod schema;
mod settings;
mod signals;
mod status;
mod wait;
mod window;
mod write;

use std::process::ExitCode;

use mysimbdp_platform::secrets;
use mysimbdp_telemetry::logging::LogLevel;

use crate::failure::Failure;
use crate::record::{Fields, json};
use instance::Instance;
use message::Converter;

pub use message::Message;
pub use settings::Settings;
pub use signals::{Signals, Wish};

/// Turns a message into the fields of its document, or says why it cannot be one.
pub type Convert = dyn Fn(&Message, &mut Fields) -> Result<(), String> + Send + Sync;

/// Runs until a signal ends it, and returns the process's exit code: 0 after stop and drain, 75 when another process
/// has taken over the session, 78 where the environment is wrong, 70 otherwise.
///
/// `convert` sees each message that fits the client's schema. A message that it refuses goes to the rejects with the
/// reason, and is acknowledged. The `_id` comes from the platform (see [`crate::identity`]): for a message with the user
/// properties `source`, `epoch` and `seq` from these, so that it is stored exactly once; else it is a new ObjectId, and
/// the message is stored at least once. A message that has an `_id` of its own is rejected. With `ids: "key"` it is the key, and the first message of a key stays until
/// the batch layer corrects it.
pub fn run(convert: &Convert) -> ExitCode {
    mysimbdp_telemetry::logging::init_stderr("stream-app", LogLevel::Info);
    if let Err(error) = secrets::protect() {
        tracing::warn!(%error, "what this process knows could be read by others");
    }
    let ended = Settings::from_environment(&crate::environment::of_process).and_then(|settings| {
        // One thread: with more of them each read from the broker wakes another one, which costs more than it gains.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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

/// The conversion of JSON objects: each member becomes a field, exactly or not at all.
///
/// # Errors
///
/// The reason for the message's reject.
pub fn from_json(message: &Message, fields: &mut Fields) -> Result<(), String> {
    json::append_object(fields, message.content())
}

async fn serve(settings: &Settings, convert: &Convert) -> Result<(), Failure> {
    // Before the connection: a signal that comes while it is made must not end the process half-way.
    let signals = Signals::new()?;
    let converter = Converter::new(settings, convert)?;
    let coredms = mysimbdp_store::open(&settings.coredms, &settings.database).await?;
    let instance = Instance::connect(settings, converter, coredms.clone())?;
    let ended = instance.run(signals).await;
    coredms.close().await;
    ended
}

#[cfg(test)]
fn test_settings() -> Settings {
    use mysimbdp_model::app::env;
    let get = |name: &str| match name {
        env::CLIENT_ID => Some("client1".to_owned()),
        env::BROKER => Some("mqtt://127.0.0.1:1".to_owned()),
        env::COREDMS => Some("sqlite:/nowhere".to_owned()),
        env::TOPIC_FILTER | env::INSTANCE | env::DATABASE | env::COLLECTION => Some("x".to_owned()),
        _ => None,
    };
    Settings::from_environment(&get).expect("complete")
}
