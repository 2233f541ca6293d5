//! What the command line takes.

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

    /// What the process ran on that this one takes the place of: given by `up`.
    #[arg(long, global = true, hide = true, value_name = "FILE")]
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
    /// Put files into a client's drop point, whole
    Drop(DropFiles),
    /// Show what is there, files by state, the queue and the running instances; exits 69 or 75 if something is not there
    Status {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Is everything there that the config demands? A line for each process, connection and stream; exits 69 or 75 if not
    Health {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Have the running processes take over the config file now, and tell what each of them did
    Reload,
    /// Return a held or discarded file to where it was dropped or staged
    Retry {
        /// Ingestion of a held file (or its run, as `reconcile` shows it), or directory name of a discarded one, as `status` shows them.
        id: String,
    },
    /// Run the app again on archived files, and replace what it has stored of them before
    Reprocess(Reprocess),
    /// Show what was rejected of a file: number, reason and content
    Rejected(Rejected),
    /// Remove held or discarded files that are older than you need them
    Purge(Purge),
    /// Count in the store itself, and exit 65 unless everything that was received is there
    Reconcile {
        /// Only this client.
        #[arg(long)]
        client: Option<ClientId>,
        /// Only files that ended since then: a date, a time (UTC unless it says otherwise), or a duration such as 2h.
        #[arg(long, value_name = "WHEN", value_parser = since)]
        since: Option<Timestamp>,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
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
    /// Publish lines of JSON as a numbered source, until the platform has confirmed each
    Edge(Edge),
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
        /// It is a stream app; run it on a broker of its own.
        #[arg(long, conflicts_with = "protocol")]
        stream: bool,
        /// `stdin` or `worker`.
        #[arg(long, default_value = "stdin", value_parser = ["stdin", "worker"])]
        protocol: String,
        /// `platform` or `key`: how records get their `_id`; `object` for whole files; `none` for a stream app that ignores numbers.
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
    /// Only the records, in the form of the file, so that they can be mended and dropped: CSV with its header line, NDJSON
    /// line by line, a JSON array.
    #[arg(long, visible_aliases = ["csv", "ndjson", "json"])]
    pub content: bool,
}

#[derive(Debug, Args)]
pub struct Reprocess {
    /// Ingestion of a file in the archive, as the history shows it, or one of its runs, as `reconcile` shows them.
    #[arg(value_parser = ingestion, required_unless_present = "client", conflicts_with = "client")]
    pub ingestion: Option<IngestionId>,
    /// All of this client's files in the archive that were received since then.
    #[arg(long, requires = "since")]
    pub client: Option<ClientId>,
    /// A date, a time (UTC unless it says otherwise), or a duration such as 2h.
    #[arg(long, value_name = "WHEN", value_parser = since, requires = "client")]
    pub since: Option<Timestamp>,
    /// Only list what would be run again.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").args(["held", "discarded"]).required(true).multiple(true)))]
pub struct Purge {
    /// Only what has been there for longer, such as 30d.
    #[arg(long, value_name = "DURATION", value_parser = period)]
    pub older_than: Duration,
    /// Files that the app gave up on.
    #[arg(long)]
    pub held: bool,
    /// Files that validation refused.
    #[arg(long)]
    pub discarded: bool,
    /// Only this client's.
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
    /// Into the backfill lane.
    #[arg(long)]
    pub backfill: bool,
}

/// Lines come from stdin, or from a file that grows. Each is in the outbox before the next is read.
#[derive(Debug, Args)]
pub struct Edge {
    #[arg(long)]
    pub client: ClientId,
    /// Name of the source: its messages are numbered.
    #[arg(long)]
    pub source: SourceName,
    /// Read this file in place of stdin, and what is appended to it, until SIGTERM or Ctrl-C.
    #[arg(long, value_name = "FILE")]
    pub follow: Option<PathBuf>,
    /// Directory of the outbox; by default `state/edge/<client>/<source>` below the data root.
    #[arg(long, value_name = "DIR")]
    pub outbox: Option<PathBuf>,
    /// Address of the broker, in place of the configured or the embedded one.
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// File with the password for the user in the broker's address. Without it, the environment's
    /// MYSIMBDP_BROKER_PASSWORD. A password in the address itself can be seen in the list of processes.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// What to publish to; by default `<prefix>/ingest/<client>/<source>`.
    #[arg(long)]
    pub topic: Option<String>,
    /// First levels of the platform's topics, in place of the configured ones.
    #[arg(long, value_name = "PREFIX")]
    pub topic_prefix: Option<String>,
    /// What the outbox may take on disk; when it is full, no more is read.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size)]
    pub capacity: u64,
    /// Longest line.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size)]
    pub message_max: u64,
    /// After so long without anything new from the platform, it is asked how far it is.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = period)]
    pub resend_after: Duration,
    /// At the end of stdin, leave what is not received yet in the outbox, for the next start.
    #[arg(long, conflicts_with = "follow")]
    pub no_wait: bool,
    /// At the end of stdin, wait no longer than this.
    #[arg(long, value_name = "DURATION", value_parser = period, conflicts_with_all = ["follow", "no_wait"])]
    pub timeout: Option<Duration>,
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
        format!("{text:?} is neither a date (2026-01-31), nor a time (2026-01-31T12:00), nor a duration (2h)")
    })?;
    clock::now().checked_sub(ago).map_err(|error| error.to_string())
}

fn period(text: &str) -> Result<Duration, String> {
    Period::try_from(text.to_owned()).map(Period::duration).map_err(|error| error.to_string())
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
