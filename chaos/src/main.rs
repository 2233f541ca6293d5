//! `chaos --seed n --cycles c [--minutes m]`: see the crate's documentation. Exit code 0: nothing was lost or duplicated.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mysimbdp_chaos::{RunLimits, run};

/// Kills, pauses and restarts everything at random under load, and proves that nothing was lost or duplicated.
#[derive(Debug, Parser)]
struct Arguments {
    /// The seed of the random faults; the same seed gives the same faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of cycles, each with one or two faults.
    #[arg(long, default_value_t = 200)]
    cycles: u32,
    /// No cycle begins after this many minutes.
    #[arg(long)]
    minutes: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { seed, cycles, minutes } = Arguments::parse();
    let time = minutes.map_or(Duration::MAX, |minutes| Duration::from_secs(60 * minutes));
    let summary = run(RunLimits { seed, cycles, time }, |line| println!("{line}")).await;
    println!("{summary}");
    if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
