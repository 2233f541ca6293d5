//! For benches: a server whose events are published by the program that it runs in.

use std::sync::Arc;

use mysimbdp_config::Config;
use serde::Serialize;
use tokio::sync::watch;

use crate::server::Server;
use crate::{Error, connections, router, wait_for_address, windows};

/// Publishes events to the listeners of a server.
#[derive(Clone, Debug)]
pub struct EventPublisher(Arc<Server>);

impl EventPublisher {
    pub fn publish(&self, client: Option<&str>, data: &impl Serialize) {
        self.0.events.publish("staged", client, data);
    }
}

/// Serves HTTP without end, and looks for no changes. `begin` gets the address, and what publishes events.
///
/// # Errors
///
/// The tokens cannot be read.
pub async fn serve(config: Config, begin: impl FnOnce(String, EventPublisher)) -> Result<(), Error> {
    let config = Arc::new(config);
    let server = Arc::new(Server::new(watch::Sender::new(Arc::clone(&config)).subscribe(), &config)?);
    let listener = wait_for_address(&config).await;
    begin(listener.url(false), EventPublisher(Arc::clone(&server)));
    let (app, shutdown) = (router::router(Arc::clone(&server)), watch::Sender::new(false));
    let served = connections::serve(listener, None, app, &config.settings.serving, shutdown.subscribe());
    tokio::join!(served, server.events.run_without_looking(), windows::live::run(&server));
    Ok(())
}
