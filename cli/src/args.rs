//! What the command line takes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::{IngestionId, IngestionIdError};
use mysimbdp_model::outcome::Run;
use mysimbdp_model::source::SourceName;
use mysimbdp_model::units::{ByteSize, Period};
use mysimbdp_platform::clock;

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

    /// The data root of the replaced process; passed by `up`.
    #[arg(long, global = true, hide = true, value_name = "DIRECTORY")]
    pub in_place_of: Option<PathBuf>,

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
    /// Copy whole files into a client's drop directory
    Drop(DropFiles),
    /// Show what is running, files by state, the queue and the instances; exits 69 or 75 if something is unavailable
    Status {
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Show the platform at a glance in this terminal: clients, streams, what needs a person, and what happens
    Top(Top),
    /// Print what happens as it happens, a line for each event, until Ctrl-C
    Tail(Tail),
    /// Check that everything the config requires is running: one line for each process, connection and stream; exits 69
    /// or 75 if not
    Health {
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Make the running processes apply the config file now, and report what each of them did
    Reload,
    /// Return a held file to staging, or a discarded one to the drop directory
    Retry {
        /// Ingestion of a held file (or its run, as `reconcile` shows it), or directory name of a discarded one, as
        /// `status` shows them.
        id: String,
    },
    /// Run the app again on archived files, and replace what it stored of them before
    Reprocess(Reprocess),
    /// Show the rejected records of a file: number, reason and content
    Rejected(Rejected),
    /// Remove held or discarded files that are older than you need them
    Purge(Purge),
    /// Count in the store itself, and exit 65 unless everything that was received is stored or listed as rejected
    Reconcile {
        /// Only this client.
        #[arg(long)]
        client: Option<ClientId>,
        /// Only files that ended at or after this time: a date, a time (UTC unless it says otherwise), or a duration
        /// such as 2h.
        #[arg(long, value_name = "WHEN", value_parser = since)]
        since: Option<Timestamp>,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Turn the TIMING lines of the logs into a table
    Timing {
        /// Only this client.
        #[arg(long)]
        client: Option<ClientId>,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Publish lines of JSON as a numbered source, until the platform has confirmed each
    Edge(EdgeArguments),
    #[command(flatten)]
    Stream(StreamCommand),
    /// Run fetchdata alone: settle, validate, split, stage, notify
    Fetchdata(MetricsArguments),
    /// Run batch-manager alone: run the clients' batch apps on what is staged
    BatchManager(MetricsArguments),
    /// Run stream-manager alone, or tell the running one what to do
    #[command(args_conflicts_with_subcommands = true)]
    StreamManager {
        #[command(subcommand)]
        command: Option<StreamCommand>,
        #[command(flatten)]
        metrics: MetricsArguments,
    },
    /// Run the HTTP server alone: query, drop and operate over HTTP
    Serve(MetricsArguments),
    /// Run the embedded broker alone
    Broker {
        /// Port on the loopback address; by default 1883, or any free one.
        #[arg(long)]
        port: Option<u16>,
        #[command(flatten)]
        metrics: MetricsArguments,
    },
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print the OpenAPI document of the HTTP server
    Openapi,
    /// Make links named fetchdata, batch-manager and stream-manager
    InstallLinks {
        /// The directory of the links; by default that of this executable.
        directory: Option<PathBuf>,
    },
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
}

/// What a running stream-manager can be asked to do.
#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// Start one more instance of a client's stream and print its pid
    Start {
        client: ClientId,
        /// Always 0, because there is no process yet; `start` and `stop` take the same arguments.
        #[arg(default_value = "0")]
        pid: u32,
        /// The stream, if the client has several.
        #[arg(long)]
        stream: Option<String>,
    },
    /// Drain the instance with this pid and end it
    Stop {
        client: ClientId,
        pid: u32,
        /// End the session even if it is the last of the stream: the broker then stops queuing messages for it.
        #[arg(long)]
        forget: bool,
    },
    /// List the running instances
    List {
        client: Option<ClientId>,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Set the number of instances by hand, or switch autoscaling on again with `auto`
    Scale {
        client: ClientId,
        /// A number, or `auto`.
        instances: String,
        /// The stream, if the client has several.
        #[arg(long)]
        stream: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Messages per second of the stream.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Go on after that, for those who look at the dashboard, until Ctrl-C.
    #[arg(long)]
    pub stay: bool,
    /// Where to create the demo's directories; by default a temporary directory that is removed at the end.
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
        /// Check a stream app, with a broker of its own.
        #[arg(long, conflicts_with = "protocol")]
        stream: bool,
        /// `stdin` or `worker`.
        #[arg(long, default_value = "stdin", value_parser = ["stdin", "worker"])]
        protocol: String,
        /// `platform` or `key`: how records get their `_id`; `object` for whole files; `none` for a stream app that
        /// ignores numbers.
        #[arg(long, default_value = "platform", value_parser = ["platform", "key", "object", "none"])]
        ids: String,
        /// Program and arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct Rejected {
    /// Ingestion of a held or ingested file, as `status`, `drop --wait` and the history show it, or one of its runs.
    #[arg(value_parser = ingestion)]
    pub ingestion: IngestionId,
    /// Print only the records, in the format of the file, so that they can be repaired and dropped: CSV with its header
    /// line, NDJSON
    /// line by line, a JSON array.
    #[arg(long, visible_aliases = ["csv", "ndjson", "json"])]
    pub content: bool,
}

#[derive(Debug, Args)]
pub struct Reprocess {
    /// Ingestion of a file in the archive, as the history shows it, or one of its runs, as `reconcile` shows them.
    #[arg(value_parser = ingestion, required_unless_present = "client", conflicts_with = "client")]
    pub ingestion: Option<IngestionId>,
    /// All of this client's archived files that were received at or after `--since`.
    #[arg(long, requires = "since")]
    pub client: Option<ClientId>,
    /// A date, a time (UTC unless it says otherwise), or a duration such as 2h.
    #[arg(long, value_name = "WHEN", value_parser = since, requires = "client")]
    pub since: Option<Timestamp>,
    /// Only list what would be reprocessed.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").args(["held", "discarded"]).required(true).multiple(true)))]
pub struct Purge {
    /// Only files that were held or discarded longer ago than this, such as 30d.
    #[arg(long, value_name = "DURATION", value_parser = period)]
    pub older_than: Duration,
    /// Held files: their app gave up on them.
    #[arg(long)]
    pub held: bool,
    /// Discarded files: validation refused them.
    #[arg(long)]
    pub discarded: bool,
    /// Only files of this client.
    #[arg(long)]
    pub client: Option<ClientId>,
    /// Only list what would be removed.
    #[arg(long)]
    pub dry_run: bool,
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
    /// Use the backfill lane.
    #[arg(long)]
    pub backfill: bool,
    /// Send the files to the HTTP server at this address, such as `https://ingest.example.org`; no configuration is needed.
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// File with the token for the server; by default the token is in the environment variable MYSIMBDP_TOKEN.
    #[arg(long, value_name = "FILE", requires = "to")]
    pub token_file: Option<PathBuf>,
}

/// The HTTP server that a command asks.
#[derive(Debug, Args)]
pub struct ServerArguments {
    /// Ask the HTTP server at this address, such as `https://ingest.example.org`, instead of that of this data root; no
    /// configuration is needed.
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// File with the token for the server; by default the token is in the environment variable MYSIMBDP_TOKEN.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Top {
    /// Only what concerns this client.
    #[arg(long)]
    pub client: Option<ClientId>,
    /// How often everything is asked for again, from 1s to 1h. What happens in between is shown within about a second.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval)]
    pub interval: Duration,
    #[command(flatten)]
    pub server: ServerArguments,
}

#[derive(Debug, Args)]
pub struct Tail {
    /// Only what concerns this client.
    pub client: Option<ClientId>,
    /// Print each event as JSON, with its id and kind, for programs.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: ServerArguments,
}

/// Lines come from stdin, or from a file that grows. Each is in the outbox before the next is read.
#[derive(Debug, Args)]
pub struct EdgeArguments {
    #[arg(long)]
    pub client: ClientId,
    /// Name of the source: its messages are numbered.
    #[arg(long)]
    pub source: SourceName,
    /// Read this file instead of stdin, and what is appended to it, until SIGTERM or Ctrl-C.
    #[arg(long, value_name = "FILE")]
    pub follow: Option<PathBuf>,
    /// Directory of the outbox; by default `state/edge/<client>/<source>` below the data root.
    #[arg(long, value_name = "DIR")]
    pub outbox: Option<PathBuf>,
    /// Address of the broker, instead of the configured or the embedded one.
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// File with the password for the user in the broker's address; by default the password is in the environment
    /// variable MYSIMBDP_BROKER_PASSWORD. A password in the address itself is visible in the list of processes.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The topic to publish to; by default `<prefix>/ingest/<client>/<source>`.
    #[arg(long)]
    pub topic: Option<String>,
    /// First levels of the platform's topics, instead of the configured ones.
    #[arg(long, value_name = "PREFIX")]
    pub topic_prefix: Option<String>,
    /// The most that the outbox may use on disk; while it is full, nothing is read.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    pub capacity: u64,
    /// The longest line.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size)]
    pub message_max: u64,
    /// After this long without a new receipt, ask the platform which messages it has stored.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = period)]
    pub resend_after: Duration,
    /// At the end of stdin, leave messages that are not received yet in the outbox, for the next start.
    #[arg(long, conflicts_with = "follow")]
    pub no_wait: bool,
    /// At the end of stdin, wait no longer than this.
    #[arg(long, value_name = "DURATION", value_parser = period, conflicts_with_all = ["follow", "no_wait"])]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    pub metrics: MetricsArguments,
}

#[derive(Debug, Args)]
pub struct MetricsArguments {
    /// Serve the metrics of this process for Prometheus, at `/metrics` of this address and without access control: choose
    /// a loopback or private address, such as 127.0.0.1:9464.
    #[arg(long, value_name = "ADDRESS", env = "MYSIMBDP_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
}

/// An ingestion, or a run of it.
fn ingestion(text: &str) -> Result<IngestionId, IngestionIdError> {
    text.parse().or_else(|error| Run::ingestion_of(text).ok_or(error))
}

fn size(text: &str) -> Result<u64, String> {
    ByteSize::try_from(text.to_owned()).map(ByteSize::as_u64).map_err(|error| error.to_string())
}

fn since(text: &str) -> Result<Timestamp, String> {
    let in_utc = |time: DateTime| time.to_zoned(TimeZone::UTC).map(|time| time.timestamp());
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return in_utc(time).map_err(|error| error.to_string());
    }
    let ago = period(text).map_err(|_| {
        format!("invalid time {text:?}: expected a date (2026-01-31), a time (2026-01-31T12:00) or a duration (2h)")
    })?;
    clock::now().checked_sub(ago).map_err(|error| error.to_string())
}

fn period(text: &str) -> Result<Duration, String> {
    Period::try_from(text.to_owned()).map(Period::duration).map_err(|error| error.to_string())
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = period(text)?;
    match (Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&interval) {
        true => Ok(interval),
        false => Err("expected 1s to 1h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_date_a_time_or_a_duration() {
        let at = |text: &str| since(text).expect("a time").to_string();
        assert_eq!(at("2026-01-31"), "2026-01-31T00:00:00Z");
        assert_eq!(at("2026-01-31T12:30"), "2026-01-31T12:30:00Z");
        assert_eq!(at("2026-01-31T12:30:00+02:00"), "2026-01-31T10:30:00Z");
        let then = since("2h").expect("a duration");
        let ago = clock::now().duration_since(then).as_secs();
        assert!((7_200..7_260).contains(&ago), "{ago}");
        for bad in ["", "yesterday", "2026-13-01", "2"] {
            assert!(since(bad).is_err(), "{bad:?}");
        }
    }
}
