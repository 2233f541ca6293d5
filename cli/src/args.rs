//! What the command line takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use mysimbdp_core::client::ClientId;
use mysimbdp_core::units::Period;

/// Multi-tenant ingestion: drop files or publish JSON over MQTT; all of it ends in MongoDB, each record once.
#[derive(Debug, Parser)]
#[command(name = "mysimbdp", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// The configuration.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "MYSIMBDP_CONFIG",
        default_value = "config.json"
    )]
    pub config: PathBuf,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in this terminal until Ctrl-C
    Up,
    /// Show the platform at work on a year of hourly weather, with an embedded broker and store
    Demo(Demo),
    /// List every fault of the configuration, or check an app against the contract
    Check(Check),
    /// Put files into a client's drop point, whole
    Drop(DropFiles),
    /// Show files by state, the queue and the running instances
    Status {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Return a held or discarded file to where it was dropped or staged
    Retry {
        /// Ingestion of a held file, or directory name of a discarded one, as `status` shows them.
        id: String,
    },
    /// Turn the TIMING lines of the logs into a table
    Timing {
        /// Only this client.
        #[arg(long)]
        client: Option<ClientId>,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Stream(StreamCommand),
    /// Run fetchdata alone: settle, validate, split, stage, notify
    Fetchdata,
    /// Run batch-manager alone: run the clients' batch apps on what is staged
    BatchManager,
    /// Run stream-manager alone, or tell the running one what to do
    StreamManager {
        #[command(subcommand)]
        command: Option<StreamCommand>,
    },
    /// Run the embedded broker alone
    Broker {
        /// Port on the loopback address; by default 1883, or any free one.
        #[arg(long)]
        port: Option<u16>,
    },
    /// Print the JSON Schema of the configuration
    Schema,
    /// Make links named fetchdata, batch-manager and stream-manager
    InstallLinks {
        /// Where; by default beside this executable.
        directory: Option<PathBuf>,
    },
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
}

/// What a running stream-manager can be told.
#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// Start one more instance of a client's stream and print its pid
    Start {
        client: ClientId,
        /// Always 0: there is no process yet. So that `start` and `stop` take the same words.
        #[arg(default_value = "0")]
        pid: u32,
        /// Which stream, where the client has several.
        #[arg(long)]
        stream: Option<String>,
    },
    /// Drain the instance with this pid and end it
    Stop {
        client: ClientId,
        pid: u32,
        /// End the session even if it is the client's last: what is published from now on is not kept for it.
        #[arg(long)]
        forget: bool,
    },
    /// List the running instances
    List {
        client: Option<ClientId>,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Pin the number of instances, or hand it back with `auto`
    Scale {
        client: ClientId,
        /// A number, or `auto`.
        instances: String,
        /// Which stream, where the client has several.
        #[arg(long)]
        stream: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Messages per second of the stream.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Where the demo's directories are made; by default a temporary directory that is removed at the end.
    #[arg(long)]
    pub data_root: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Check {
    #[command(subcommand)]
    pub command: Option<CheckCommand>,
}

#[derive(Debug, Subcommand)]
pub enum CheckCommand {
    /// Run the conformance cases of the app contract against a program
    App {
        /// `stdin` or `worker`.
        #[arg(long, default_value = "stdin", value_parser = ["stdin", "worker"])]
        protocol: String,
        /// Program and arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct DropFiles {
    pub client: ClientId,
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Wait until each file is ingested, discarded or held.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "10m", value_parser = period, requires = "wait")]
    pub timeout: Duration,
    /// Into the backfill lane.
    #[arg(long)]
    pub backfill: bool,
}

fn period(text: &str) -> Result<Duration, String> {
    Period::try_from(text.to_owned()).map(Period::duration).map_err(|error| error.to_string())
}
