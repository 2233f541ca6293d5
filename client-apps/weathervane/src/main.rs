//! WeatherVane: hours of weather readings from three stations, none missing, and their reports.
//!
//! 1. [`streamer`] reads the weather file and publishes each hour in numbered batches, through an outbox that loses
//!    nothing; batches that are asked for it sends again;
//! 2. [`ingest`] stores the batches, a stream app on the SDK;
//! 3. [`closer`] asks for the batches of an hour that do not come, and closes the hour when all are there;
//! 4. [`reporter`] computes the reports of each closed hour.
//!
//! Closer and reporter are stream apps too ([`instance`]), whose messages are bells: what is to be done they read from the
//! store, so that a lost message costs latency and nothing else. What they write has an `_id` that follows from its
//! content, so everything may be done twice.

mod batch;
mod closer;
mod file;
mod ingest;
mod instance;
mod reporter;
mod stored;
mod streamer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mysimbdp_platform::secrets;
use mysimbdp_sdk::Failure;
use mysimbdp_sdk::stream::Settings;
use mysimbdp_telemetry::logging::{self, LogLevel};

/// `EX_USAGE` of `sysexits.h`.
const USAGE: u8 = 64;

#[derive(Debug, Parser)]
#[command(name = "weathervane", version, about)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Publishes the hours of a weather file, and sends again what is asked for.
    Stream(streamer::Arguments),
    /// Stream app: stores batches.
    Ingest,
    /// Stream app: asks for missing batches, and closes hours that are complete.
    Close(closer::Arguments),
    /// Stream app: computes the reports of closed hours.
    Report,
}

fn main() -> ExitCode {
    let role = match Arguments::try_parse() {
        Ok(Arguments { role }) => role,
        Err(error) => {
            // Nothing can be done where even this cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let ended = match role {
        Role::Ingest => return ingest::run(),
        Role::Stream(arguments) => run("weathervane-stream", streamer::run(arguments)),
        Role::Close(arguments) => {
            run("weathervane-close", async { closer::run(&settings()?, arguments).await })
        }
        Role::Report => run("weathervane-report", async { reporter::run(&settings()?).await }),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(error = %failure, "ended");
            failure.exit_code()
        }
    }
}

fn run(role: &'static str, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    logging::init_stderr(role, LogLevel::Info);
    secrets::protect()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(work)
}

fn settings() -> Result<Settings, Failure> {
    Settings::from_environment(&|name| std::env::var(name).ok())
}
