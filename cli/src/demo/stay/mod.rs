//! The demo that stays: while a visitor looks at the dashboard, something of everything happens.
//!
//! - [`senders`] drop a file every few seconds: good ones, one with bad records, one that is refused, and now and then one
//!   that was expected does not come;
//! - [`sensors`] publish all the time, and by [`pace`] at times so fast that an instance is added.

mod pace;
mod senders;
mod sensors;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::data_root::DemoRoot;
use crate::commands::up;
use crate::error::CommandError;
use crate::signals;
use crate::supervise::Supervisor;

/// Changes the config, so that a visitor need not wait for minutes.
pub fn configure(config: &mut Value) {
    config["clients"][1]["apps"][0]["expect"] = json!([{"name": "weather", "files": senders::EXPECTED, "by": "00:00", "every": "1m", "records_min": 100}]);
    config["clients"][2]["streams"][0]["scaling"]["target"] = json!({
        "utilization_percent": 30,
        "tolerance_percent": 10,
        "cooldown": "5s",
        "stabilization": "20s",
    });
    config["clients"][2]["views"]["weather"]["windows"] = json!({"lateness": "2s", "idle": "10s", "publish": [{"size": "10s", "fields": ["temp", "wind_speed"]}]});
}

/// Goes on until `shutdown`. Meanwhile processes that end are started again.
pub async fn run(
    demo_root: &DemoRoot,
    rate_max: u32,
    platform: &mut Supervisor,
    shutdown: watch::Receiver<bool>,
) -> Result<(), CommandError> {
    let reload = signals::reload()?;
    let url = up::server_url(&demo_root.config).await;
    println!(
        "\nThe demo goes on until Ctrl-C. Watch it at {url}, or with mysimbdp top --to {url}\n\n\
         - client2 sends a file each minute, as agreed; each fifth time it forgets to\n\
         - client2 also sends files with bad records, which are rejected, and files of the wrong kind, which are discarded\n\
         - client1 sends files that are stored whole\n\
         - client3 has sensors that publish all the time, now and then a message that is rejected, and once a minute so fast that an \
           instance is added"
    );
    tokio::select! {
        watched = platform.watch(shutdown, &reload) => watched,
        dropped = senders::run(demo_root) => dropped,
        () = sensors::run(demo_root, rate_max) => Ok(()),
    }
}
