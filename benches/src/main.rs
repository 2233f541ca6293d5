//! `benches [--case name]… [--rounds n] [--quick]`: the platform beside what bounds it, measured in the same run.
//!
//! 1. [`cases`]: each says what it times, who takes part, and what is expected; [`case`] is what they have in common;
//! 2. [`run`]: all contenders of a case take turns, round after round, on servers of the case's own ([`servers`]);
//! 3. [`platform`] runs the real programs, [`yardsticks`] do only what bounds them, [`peers`] are what else there is;
//! 4. [`report`]: medians, spread and ratios as a table, as JSON and as a plot; [`guard`]: nothing but the ratios of a few.
//!
//! Ratios within one run are what counts: absolute numbers are those of a machine and of its other users.

#![allow(
    clippy::disallowed_methods,
    reason = "it is not part of the platform, like the testbed, and needs no I/O adapters"
)]

mod case;
mod cases;
mod constant_server;
mod effort;
mod event_server;
mod failure;
mod guard;
mod http;
mod input;
mod machine;
mod memory;
mod mqtt;
mod peers;
mod percentile;
mod platform;
mod report;
mod run;
mod servers;
mod wait;
mod yardsticks;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use case::{Plan, RunSize};
use failure::{BenchError, Result};
use report::BenchReport;

/// From the folder of the workspace.
const PUBLISHED: &str = "docs/performance";

/// Measures the platform against what limits it, and prints medians, spread and ratios.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// Only this case, or those whose names begin with this word, such as `serving`; may be repeated. By default all.
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// How often each contender is measured, after one round for warming up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Use small inputs: shows that everything works, but the numbers are rough.
    #[arg(long)]
    quick: bool,
    /// The directory of the report.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench")]
    out: PathBuf,
    /// Write the report into the documentation: all cases, at full size.
    #[arg(long, conflicts_with_all = ["cases", "quick", "out"])]
    publish: bool,
    /// Only whether a few cheap cases stay above a floor far below their goals: for tests, whatever the build.
    #[arg(long, exclusive = true)]
    guard: bool,
    /// Be the server of a case about events, with the config at this path.
    #[arg(long, hide = true, exclusive = true, num_args = 2, value_names = ["KIND", "CONFIG"])]
    event_server: Option<Vec<String>>,
    /// Be the server that answers this body to everything.
    #[arg(long, hide = true, exclusive = true, value_name = "BODY")]
    constant_server: Option<String>,
    /// List the cases and what each of them times.
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{}", failure.error_chain());
            ExitCode::FAILURE
        }
    }
}

/// Whether every case that was asked for has a result; goals that are not met are results too.
async fn measure(arguments: &Arguments) -> Result<bool> {
    if let Some([kind, config]) = arguments.event_server.as_deref() {
        return event_server::run(kind, Path::new(config)).await.map(|()| true);
    }
    if let Some(body) = &arguments.constant_server {
        return constant_server::run(body).await.map(|()| true);
    }
    if arguments.guard {
        return guard::check().await.map(|()| true);
    }
    let plans = selected(&arguments.cases)?;
    if arguments.list {
        plans.iter().for_each(|plan| println!("{}: {}\n    {}", plan.name, plan.title, plan.timed));
        return Ok(true);
    }
    let extent = if arguments.quick { RunSize::Quick } else { RunSize::Full };
    let out = if arguments.publish { Path::new(PUBLISHED) } else { &arguments.out };
    let mut report = BenchReport::begin(extent, arguments.rounds);
    for plan in plans {
        let result = run::case(&plan, extent, arguments.rounds).await;
        report.add(&plan, result);
        // Also in between: a run takes long, and what is measured is not to be lost.
        report.write(out)?;
    }
    println!("{}", report.table());
    println!("written to {}", out.display());
    Ok(report.is_complete())
}

fn selected(names: &[String]) -> Result<Vec<Plan>> {
    if names.is_empty() {
        return Ok(cases::ALL.to_vec());
    }
    let mut selected = Vec::new();
    for name in names {
        let before = selected.len();
        let is_named = |plan: &&Plan| {
            plan.name == name
                || plan.name.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('-'))
        };
        selected.extend(cases::ALL.iter().filter(is_named).copied());
        if selected.len() == before {
            let known: Vec<&str> = cases::ALL.iter().map(|plan| plan.name).collect();
            let expected = known.join(", ");
            return Err(BenchError::new(format!("unknown case {name:?}: expected one of {expected}")));
        }
    }
    Ok(selected)
}
