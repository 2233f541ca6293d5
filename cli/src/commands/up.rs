//! `mysimbdp up`: runs the whole platform in this terminal.

use std::path::Path;
use std::time::{Duration, Instant};

use mysimbdp_config::address::ServerState;
use mysimbdp_config::{Config, address};
use mysimbdp_platform::process::Output;
use mysimbdp_query::snapshot;

use crate::commands::process;
use crate::error::CommandError;
use crate::output::Foreign;
use crate::signals;
use crate::supervise::Supervisor;

/// The time between two checks for what is still unavailable.
const CHECK_EVERY: Duration = Duration::from_secs(1);

pub async fn run(config: &Config, config_file: &Path) -> Result<(), CommandError> {
    let started = Instant::now();
    // Logs to a file too, so that the restart of an ended process can be seen later.
    let _log = process::begin("up", config)?;
    let shutdown = signals::shutdown()?;
    let reload = signals::reload()?;
    let mut platform = Supervisor::start(config, config_file, Output::Inherit, shutdown.clone()).await?;
    let ready = async {
        report_readiness(config, started).await;
        report_address(config).await;
        std::future::pending().await
    };
    let watched = tokio::select! {
        watched = platform.watch(shutdown, &reload) => watched,
        never = ready => never,
    };
    platform.stop().await;
    watched
}

/// Reports the address of the HTTP server once it listens.
async fn report_address(config: &Config) {
    println!("dashboard and API at {}", server_url(config).await);
}

/// Returns the address of the HTTP server once it listens.
pub async fn server_url(config: &Config) -> String {
    loop {
        match ServerState::read(&config.layout.serving_state()) {
            Ok(Some(state)) if state.process.alive() => return state.url,
            _ => tokio::time::sleep(CHECK_EVERY).await,
        }
    }
}

/// Reports what is unavailable until everything is available, and then reports that.
#[expect(clippy::disallowed_methods, reason = "it prints the path, and opens nothing")]
async fn report_readiness(config: &Config, started: Instant) {
    let mut reported = Vec::new();
    loop {
        let obstacles = snapshot::obstacles(config, snapshot::ALL).await;
        if obstacles.is_empty() {
            break;
        }
        if obstacles != reported {
            println!("not ready, waits: {}", Foreign(&obstacles.join("; ")));
            reported = obstacles;
        }
        tokio::time::sleep(CHECK_EVERY).await;
    }
    let broker = address::broker(config)
        .map_or_else(|error| error.to_string(), |url| address::without_credentials(&url));
    println!(
        "ready after {:.2} s: {} clients, broker {broker}, coredms {}\ndrop files into {}; Ctrl-C stops",
        started.elapsed().as_secs_f64(),
        config.clients.len(),
        address::without_credentials(&config.coredms_url),
        config.layout.drop_directory().display(),
    );
}
