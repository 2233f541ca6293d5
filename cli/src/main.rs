//! The `mysimbdp` command: parses the command line, loads the config, runs one command, and ends with an exit code of
//! `sysexits.h`.
//!
//! - [`commands`]: one module per command; [`demo`]: the guided tour;
//! - [`supervise`]: runs the platform's processes as children, for `up` and `demo`;
//! - [`api_client`], [`events`]: the HTTP API, for the commands that also work from another host;
//! - [`output`], [`table`], [`signals`], [`error`]: what several commands share.
//!
//! `mysimbdp_query` reads the state of files and processes; a command only renders it.

#![warn(clippy::print_stdout, clippy::print_stderr)]

// First, because the other modules use its `println!`.
#[macro_use]
mod output;

mod api_client;
mod args;
mod commands;
mod conformance;
mod demo;
mod error;
mod events;
mod loading;
mod local_time;
mod signals;
mod supervise;
mod table;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use mysimbdp_model::exit;
use mysimbdp_platform::{modes, runtime, secrets};
use mysimbdp_query::reconcile::Scope;

use api_client::{ApiClient, ServerAddress};
use args::{Check, CheckCommand, Cli, Command, ServerArguments};
use error::CommandError;

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(words(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() {
                // The message quotes the command line, which may contain the name of a client's file.
                eprintln!("{}", error.render().to_string().trim_end());
                return ExitCode::from(exit::USAGE);
            }
            // A closed terminal must not change the exit code.
            let _ = error.print();
            return ExitCode::from(exit::OK);
        }
    };
    // `drop` is excepted: the sender may be another user than the platform, which must be able to read the file.
    if !matches!(cli.command, Command::Drop(_)) {
        modes::restrict_umask();
    }
    if let Err(error) = secrets::protect() {
        return end(Err(CommandError::new(
            exit::SOFTWARE,
            format!("cannot protect the memory of the process: {error}"),
        )));
    }
    let runtime = match runtime::build(tokio::runtime::Builder::new_multi_thread()) {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(CommandError::of(exit::SOFTWARE, &error))),
    };
    end(runtime.block_on(Box::pin(run(cli))))
}

/// Makes `stream-manager start …` the same as `mysimbdp stream-manager start …`: if the program is called by the name
/// of one of the platform's processes, that name becomes its first argument.
fn words(mut words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let called = words.next().unwrap_or_else(|| "mysimbdp".into());
    let name = Path::new(&called).file_name().unwrap_or_default().to_owned();
    let stage = commands::links::PIPELINE.iter().find(|stage| name == **stage).map(OsString::from);
    std::iter::once(called).chain(stage).chain(words).collect()
}

fn end(result: Result<(), CommandError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::from(exit::OK),
        Err(failure) => {
            if failure.has_message() {
                eprintln!("mysimbdp: {failure}");
            }
            ExitCode::from(failure.code)
        }
    }
}

async fn run(cli: Cli) -> Result<(), CommandError> {
    let file = cli.config.as_path();
    let load = || loading::valid(file);
    let load_process = || loading::for_process(file, cli.in_place_of.as_deref());
    match cli.command {
        Command::Up => commands::up::run(&loading::with_same_root(file)?, file).await,
        Command::Demo(args) => demo::run(&args).await,
        Command::Check(Check { command: None }) => commands::check::run(&load()?, file),
        Command::Check(Check { command: Some(CheckCommand::App { stream, protocol, ids, command }) }) => {
            match stream {
                true => commands::check_app::stream(&ids, &command).await,
                false => commands::check_app::batch(&protocol, &ids, &command).await,
            }
        }
        Command::Drop(args) => match &args.to {
            Some(url) => tokio::task::block_in_place(|| commands::drop_files::remote::run(&args, url)),
            None => commands::drop_files::run(&loading::with_same_store(file)?, &args).await,
        },
        Command::Status { json } => commands::status::run(&loading::in_use(file)?, json).await,
        Command::Top(args) => {
            let api = listening_client(file, &args.server)?;
            let shutdown = signals::shutdown()?;
            tokio::task::block_in_place(|| commands::top::run(&api, args, &shutdown))
        }
        Command::Tail(args) => commands::tail::run(listening_client(file, &args.server)?, args).await,
        Command::Health { json } => commands::health::run(&loading::in_use(file)?, json).await,
        Command::Reload => commands::reload::run(&loading::with_same_root(file)?).await,
        Command::Retry { id } => commands::retry::run(&loading::in_use(file)?, &id).await,
        Command::Reprocess(args) => commands::reprocess::run(&loading::with_same_store(file)?, &args).await,
        Command::Rejected(args) => commands::rejected::run(&loading::with_same_store(file)?, &args).await,
        // Only purging held files writes to the history, which is in the store.
        Command::Purge(args) if !args.held => commands::purge::run(&loading::in_use(file)?, &args).await,
        Command::Purge(args) => commands::purge::run(&loading::with_same_store(file)?, &args).await,
        Command::Reconcile { client, since, json } => {
            commands::reconcile::run(&loading::with_same_store(file)?, &Scope { client, since }, json).await
        }
        Command::Timing { client, json } => {
            commands::timing::run(&loading::in_use(file)?, client.as_ref(), json)
        }
        Command::Edge(args) => commands::edge::run(file, &args).await,
        Command::Stream(command) | Command::StreamManager { command: Some(command), .. } => {
            commands::stream::run(&loading::in_use(file)?, command).await
        }
        Command::Fetchdata(metrics) => commands::process::fetchdata(load_process()?, file, &metrics).await,
        Command::BatchManager(metrics) => {
            commands::process::batch_manager(load_process()?, file, &metrics).await
        }
        Command::StreamManager { command: None, metrics } => {
            commands::process::stream_manager(load_process()?, file, &metrics).await
        }
        // Boxed: it is the largest of these futures, each of which is part of this one.
        Command::Serve(metrics) => Box::pin(commands::process::serve(load_process()?, file, &metrics)).await,
        Command::Broker { port, metrics } => commands::process::broker(load_process()?, port, &metrics).await,
        Command::Schema => {
            println!("{}", mysimbdp_config::schema_json().trim_end());
            Ok(())
        }
        Command::Openapi => output::print_json(&mysimbdp_serving::openapi()),
        Command::InstallLinks { directory } => commands::links::run(directory),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "mysimbdp", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// A client of the server that is named, or of the one of this data root, to listen with.
fn listening_client(file: &Path, server: &ServerArguments) -> Result<ApiClient, CommandError> {
    let address = match &server.to {
        Some(url) => ServerAddress::named(url)?,
        None => ServerAddress::of_data_root(&loading::in_use(file)?),
    };
    ApiClient::new(address, server.token_file.as_deref(), events::connection::TIMEOUTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_program_called_by_the_name_of_a_process_runs_that_process() {
        let words = |line: &str| words(line.split(' ').map(OsString::from)).join(&OsString::from(" "));
        assert_eq!(
            words("/opt/stream-manager start client1 0"),
            "/opt/stream-manager stream-manager start client1 0"
        );
        assert_eq!(words("target/debug/mysimbdp up"), "target/debug/mysimbdp up");
    }
}
