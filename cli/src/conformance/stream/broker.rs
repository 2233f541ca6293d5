//! The broker of a check, on a runtime of its own.
//!
//! The embedded broker leaves tasks behind that still write to its directory. Shutting their runtime down ends them, so
//! that the directory can be removed.

use std::path::PathBuf;
use std::time::Duration;

use mysimbdp_broker::embedded::{EmbeddedBroker, EmbeddedBrokerError, EmbeddedBrokerOptions};
use mysimbdp_model::exit;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::CommandError;

/// A write to a local disk ends within this time.
const WRITES_END_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct CheckBroker {
    pub(super) url: String,
    stop: watch::Sender<bool>,
    serving: JoinHandle<Result<(), EmbeddedBrokerError>>,
    /// `None` after the shutdown.
    runtime: Option<Runtime>,
}

impl CheckBroker {
    pub(super) async fn start(directory: PathBuf) -> Result<Self, CommandError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| CommandError::of(exit::SOFTWARE, &error))?;
        let (url_sender, url) = tokio::sync::oneshot::channel();
        let (stop, stopped) = watch::channel(false);
        let serving = runtime.spawn(async move {
            let broker = EmbeddedBroker::start(EmbeddedBrokerOptions { directory, port: Some(0) }).await?;
            // The caller waits for the address.
            let _ = url_sender.send(broker.url.clone());
            broker.run(stopped).await
        });
        let mut broker = Self { url: String::new(), stop, serving, runtime: Some(runtime) };
        match url.await {
            Ok(url) => {
                broker.url = url;
                Ok(broker)
            }
            // The broker has not started; closing it returns the reason.
            Err(_) => Err(broker
                .close()
                .await
                .err()
                .unwrap_or_else(|| CommandError::new(exit::SOFTWARE, "no broker"))),
        }
    }

    /// When this returns, no task of the broker writes any more.
    pub(super) async fn close(mut self) -> Result<(), CommandError> {
        // The broker may have ended already with an error, which is returned below.
        let _ = self.stop.send(true);
        let served = (&mut self.serving).await;
        if let Some(runtime) = self.runtime.take() {
            let ended =
                tokio::task::spawn_blocking(move || runtime.shutdown_timeout(WRITES_END_WITHIN)).await;
            ended.map_err(|error| CommandError::of(exit::SOFTWARE, &error))?;
        }
        match served {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(CommandError::of(exit::UNAVAILABLE, &error)),
            Err(error) => Err(CommandError::of(exit::SOFTWARE, &error)),
        }
    }
}

impl Drop for CheckBroker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
