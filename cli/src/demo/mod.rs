//! `mysimbdp demo`: the platform at work on a year of hourly weather.
//!
//! 1. [`scene`] makes a data root with the shipped configuration;
//! 2. the platform is started, as `up` starts it;
//! 3. files are dropped and, at the same time, [`publish`]ed row by row as a stream;
//! 4. [`tally`] looks until all of it has arrived, and counts in the store itself;
//! 5. tables, and the platform's own books are reconciled; anything that does not balance is a failure.

mod publish;
mod scene;
mod tally;

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mysimbdp_config::address;
use mysimbdp_model::exit;
use mysimbdp_platform::process::Output;
use mysimbdp_query::reconcile::{Scope, reconcile};
use tokio::sync::watch;

use crate::args::Demo;
use crate::commands::{self, timing};
use crate::error::Failure;
use crate::signals;
use crate::supervise::Platform;

use scene::Scene;
pub use scene::WEATHER;
use tally::Tally;

/// Without any progress for this long something is broken: the slowest stage reports every second.
const STALLED_AFTER: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub async fn run(args: &Demo) -> Result<(), Failure> {
    let shutdown = signals::shutdown()?;
    let scene = Scene::prepare(args.data_root.as_deref())?;
    println!("data root {}", scene.config.layout.root().display());
    // All that matters is in the log files; this one keeps what is said before they are open.
    let output = Output::AppendTo(scene.config.layout.logs().join("terminal.txt"));
    let mut platform = Platform::start(&scene.config, &scene.config_file, output, shutdown.clone()).await?;
    println!(
        "broker {}, coredms {}, database {}",
        address::broker(&scene.config)
            .map_or_else(|error| error.to_string(), |url| address::without_password(&url)),
        address::without_password(&scene.config.coredms_url),
        scene.config.settings.coredms.database,
    );
    let result = play(&scene, args.rate, shutdown.clone()).await;
    if let Err(error) = publish::end_sessions(&scene).await {
        println!("the stream's session stays with the broker until it expires: {error}");
    }
    platform.stop().await;
    match result {
        Ok(()) => scene.remove(),
        // Nothing has gone wrong that anybody could want to look into.
        Err(interrupted) if *shutdown.borrow() => {
            scene.remove()?;
            Err(interrupted)
        }
        Err(failure) => Err(Failure::new(
            failure.code,
            format!("{failure}\nlogs and files are left in {}", scene.keep().display()),
        )),
    }
}

async fn play(scene: &Scene, rate: u32, shutdown: watch::Receiver<bool>) -> Result<(), Failure> {
    let started = Instant::now();
    scene.drop_files()?;
    let (published, tally) =
        tokio::join!(publish::rows(scene, rate, shutdown.clone()), watch_arrival(scene, started, shutdown));
    let published = published?;
    let tally = tally?;
    println!("\n{}", tally.table());
    println!("published {published} messages; {} s in all\n", started.elapsed().as_secs());
    timing::run(&scene.config, None, false)?;
    let report = reconcile(&scene.config, &Scope::default()).await?;
    println!("\n{}", commands::reconcile::text(&report));
    let faults = [tally.faults(scene), report.differences.clone()].concat();
    if faults.is_empty() {
        println!(
            "\neverything balances: received = stored + duplicates + rejected, and the store holds what was stored"
        );
        return Ok(());
    }
    Err(Failure::new(exit::DATA, format!("it does not balance:\n{}", faults.join("\n"))))
}

/// Looks at the store until everything has arrived.
async fn watch_arrival(
    scene: &Scene,
    started: Instant,
    shutdown: watch::Receiver<bool>,
) -> Result<Tally, Failure> {
    let bars = MultiProgress::new();
    let batch_bar = bar(&bars, "files: documents stored", scene.rows());
    let stream_bar = bar(&bars, "stream: messages stored", scene.rows());
    let mut looks = tally::Looks::open(scene, started).await?;
    let mut last = (Tally::default(), Instant::now());
    loop {
        let tally = looks.look().await?;
        batch_bar.set_position(tally.documents_stored());
        stream_bar.set_position(tally.messages_stored());
        if tally.is_complete(scene) {
            bars.clear().map_err(|error| Failure::of(exit::IO, &error))?;
            return Ok(tally);
        }
        if *shutdown.borrow() {
            return Err(Failure::new(exit::TEMPORARY, "interrupted"));
        }
        if tally != last.0 {
            last = (tally, Instant::now());
        } else if last.1.elapsed() > STALLED_AFTER {
            return Err(Failure::new(
                exit::SOFTWARE,
                format!("nothing has arrived for {} s; so far:\n{}", STALLED_AFTER.as_secs(), last.0.table()),
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn bar(bars: &MultiProgress, message: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<26} {wide_bar} {pos}/{len} {per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bars.add(ProgressBar::new(length)).with_style(style).with_message(message)
}
