//! `mysimbdp demo`: the platform at work on a year of hourly weather.
//!
//! 1. [`data_root`] creates a data root with the shipped configuration;
//! 2. the platform is started as `up` starts it;
//! 3. files are dropped and, at the same time, [`publish`]ed row by row as a stream;
//! 4. [`summary`] counts in the store itself until everything has arrived;
//! 5. tables are printed, and what was reported is reconciled with what is stored. Any difference is a failure;
//! 6. with `--stay`, it goes on for those who look at the dashboard.

mod data_root;
mod publish;
mod stay;
mod summary;

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mysimbdp_config::address;
use mysimbdp_model::exit;
use mysimbdp_platform::process::Output;
use mysimbdp_query::reconcile::{Scope, reconcile};
use tokio::sync::watch;

use crate::args::Demo;
use crate::commands::{self, timing, up};
use crate::error::CommandError;
use crate::signals;
use crate::supervise::Supervisor;

use data_root::DemoRoot;
pub use data_root::WEATHER;
use summary::Summary;

/// If nothing has arrived in the store for this long, something is broken.
const STALLED_AFTER: Duration = Duration::from_secs(180);
/// How often the store is counted.
const POLL_EVERY: Duration = Duration::from_millis(200);

pub async fn run(args: &Demo) -> Result<(), CommandError> {
    let shutdown = signals::shutdown()?;
    let demo_root =
        DemoRoot::prepare(args.data_root.as_deref(), if args.stay { stay::configure } else { |_| {} })?;
    println!("data root {}", demo_root.config.layout.root().display());
    // This file keeps what is printed before the log files are open; they have everything else.
    let output = Output::AppendTo(demo_root.config.layout.logs().join("terminal.txt"));
    let mut platform =
        Supervisor::start(&demo_root.config, &demo_root.config_file, output, shutdown.clone()).await?;
    println!(
        "broker {}, coredms {}, database {}",
        address::broker(&demo_root.config)
            .map_or_else(|error| error.to_string(), |url| address::without_credentials(&url)),
        address::without_credentials(&demo_root.config.coredms_url),
        demo_root.config.settings.coredms.database,
    );
    if args.stay {
        println!("dashboard {}", up::server_url(&demo_root.config).await);
    }
    let mut result = play(&demo_root, args.rate, shutdown.clone()).await;
    if args.stay && result.is_ok() {
        result = stay::run(&demo_root, args.rate, &mut platform, shutdown.clone()).await;
    }
    if let Err(error) = publish::end_sessions(&demo_root).await {
        println!("the stream's session stays with the broker until it expires: {error}");
    }
    platform.stop().await;
    match result {
        Ok(()) => demo_root.remove(),
        // Nothing has failed, so nobody needs the files.
        Err(interrupted) if *shutdown.borrow() => {
            demo_root.remove()?;
            Err(interrupted)
        }
        Err(failure) => Err(CommandError::new(
            failure.code,
            format!("{failure}\nlogs and files are left in {}", demo_root.keep().display()),
        )),
    }
}

async fn play(demo_root: &DemoRoot, rate: u32, shutdown: watch::Receiver<bool>) -> Result<(), CommandError> {
    let started = Instant::now();
    demo_root.drop_files()?;
    let (published, summary) = tokio::join!(
        publish::rows(demo_root, rate, shutdown.clone()),
        watch_arrival(demo_root, started, shutdown)
    );
    let published = published?;
    let summary = summary?;
    println!("\n{}", summary.table());
    println!("published {published} messages; {} s in all\n", started.elapsed().as_secs());
    timing::run(&demo_root.config, None, false)?;
    let report = reconcile(&demo_root.config, &Scope::default()).await?;
    println!("\n{}", commands::reconcile::text(&report));
    let faults = [summary.faults(demo_root), report.differences.clone()].concat();
    if faults.is_empty() {
        println!(
            "\neverything balances: received = stored + duplicates + rejected, and the store holds what was stored"
        );
        return Ok(());
    }
    Err(CommandError::new(exit::DATA, format!("it does not balance:\n{}", faults.join("\n"))))
}

/// Counts in the store until everything has arrived.
async fn watch_arrival(
    demo_root: &DemoRoot,
    started: Instant,
    shutdown: watch::Receiver<bool>,
) -> Result<Summary, CommandError> {
    let bars = MultiProgress::new();
    let batch_bar = bar(&bars, "files: documents stored", demo_root.rows());
    let stream_bar = bar(&bars, "stream: messages stored", demo_root.rows());
    let mut counter = summary::Counter::open(demo_root, started).await?;
    let mut last = (Summary::default(), Instant::now());
    loop {
        let summary = counter.count().await?;
        batch_bar.set_position(summary.documents_stored());
        stream_bar.set_position(summary.messages_stored());
        if summary.is_complete(demo_root) {
            bars.clear().map_err(|error| CommandError::of(exit::IO, &error))?;
            return Ok(summary);
        }
        if *shutdown.borrow() {
            return Err(CommandError::new(exit::TEMPORARY, "interrupted"));
        }
        if summary != last.0 {
            last = (summary, Instant::now());
        } else if last.1.elapsed() > STALLED_AFTER {
            return Err(CommandError::new(
                exit::SOFTWARE,
                format!("nothing has arrived for {} s; so far:\n{}", STALLED_AFTER.as_secs(), last.0.table()),
            ));
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

fn bar(bars: &MultiProgress, message: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<26} {wide_bar} {pos}/{len} {per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bars.add(ProgressBar::new(length)).with_style(style).with_message(message)
}
