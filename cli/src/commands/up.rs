//! `mysimbdp up`: everything in this terminal.

use std::path::Path;

use mysimbdp_core::config::Config;
use mysimbdp_core::io::address;
use mysimbdp_core::io::process::Output;

use crate::commands::role;
use crate::error::Failure;
use crate::signals;
use crate::supervise::Platform;

#[expect(clippy::disallowed_methods, reason = "it tells people the path, and opens nothing")]
pub async fn run(config: &Config, config_file: &Path) -> Result<(), Failure> {
    let started = std::time::Instant::now();
    // A process that ended and is started again must not do so unseen.
    let _log = role::begin("up", config)?;
    let shutdown = signals::shutdown()?;
    let mut platform = Platform::start(config, config_file, Output::Inherit).await?;
    let broker =
        address::broker(config).map_or_else(|error| error.to_string(), |url| address::without_password(&url));
    println!(
        "ready after {:.2} s: {} clients, broker {broker}, coredms {}\ndrop files into {}; Ctrl-C stops",
        started.elapsed().as_secs_f64(),
        config.clients.len(),
        address::without_password(&config.coredms_url),
        config.layout.drop_point().display(),
    );
    let watched = platform.watch(shutdown).await;
    platform.stop().await;
    watched
}
