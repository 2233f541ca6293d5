//! WeatherVane: complete hours of weather readings from three stations, and their reports.
//!
//! 1. [`streamer`] reads the weather file and publishes each hour in numbered batches, through an outbox that loses
//!    nothing; it sends requested batches again;
//! 2. [`ingest`], a stream app on the SDK, stores the batches;
//! 3. [`closer`] requests the batches of an hour that do not arrive, and closes the hour when all are stored;
//! 4. [`reporter`] computes the report of each closed hour.
//!
//! Closer and reporter are stream apps too ([`instance`]), whose messages are only notifications: they read from the store
//! what is to be done, so a lost message costs latency and nothing else. The `_id` of what they write is derived from its
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
use mysimbdp_platform::{runtime, secrets};
use mysimbdp_sdk::Failure;
use mysimbdp_sdk::stream::StreamAppSettings;
use mysimbdp_telemetry::logging::{self, LogLevel};

/// `EX_USAGE` of `sysexits.h`.
const USAGE: u8 = 64;

#[derive(Debug, Parser)]
#[command(name = "weathervane", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publishes the hours of a weather file, and sends requested batches again.
    Stream(streamer::StreamerArguments),
    /// Stream app: stores batches.
    Ingest,
    /// Stream app: requests missing batches, and closes complete hours.
    Close(closer::CloserArguments),
    /// Stream app: computes the reports of closed hours.
    Report,
}

fn main() -> ExitCode {
    let command = match Arguments::try_parse() {
        Ok(Arguments { command }) => command,
        Err(error) => {
            // Nothing can be done if even this cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let ended = match command {
        Command::Ingest => return ingest::run(),
        Command::Stream(arguments) => run("weathervane-stream", streamer::run(arguments)),
        Command::Close(arguments) => {
            run("weathervane-close", async { closer::run(&settings()?, arguments).await })
        }
        Command::Report => run("weathervane-report", async { reporter::run(&settings()?).await }),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(error = %failure, "ended");
            failure.exit_code()
        }
    }
}

fn run(command: &'static str, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    logging::init_stderr(command, LogLevel::Info);
    secrets::protect()?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2);
    runtime::build(builder)?.block_on(work)
}

fn settings() -> Result<StreamAppSettings, Failure> {
    StreamAppSettings::from_environment(&|name| std::env::var(name).ok())
}
