//! What else does the same work on this machine: MongoDB's own tools, where they are installed, and the Python apps.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mysimbdp_testbed::{Process, python};

use crate::case::{Contender, ContenderKind};
use crate::failure::{BenchError, Result};
use crate::input::InputFormat;
use crate::servers::DEADLINE;

/// Acknowledged as all others are.
const WRITE_CONCERN: &str = r#"{"w":"majority","j":true}"#;

/// A unit of a batch app.
#[derive(Clone, Copy, Debug)]
pub struct PeerUnit<'a> {
    pub file: &'a Path,
    pub format: InputFormat,
    pub records: u64,
    /// Makes its ids.
    pub number: u64,
}

/// A tool of the machine as a contender, absent where it is not on the PATH.
pub fn contender(tool: &str, name: &str) -> Contender {
    match on_path(tool) {
        Some(_) => Contender::new(ContenderKind::Peer, name),
        None => Contender::absent(ContenderKind::Peer, name, format!("{tool} is not installed")),
    }
}

/// `mongoimport` of a whole file, 4 workers, from its start to its end.
///
/// # Errors
///
/// It fails.
pub fn mongoimport(url: &str, database: &str, file: &Path, format: InputFormat) -> Result<Duration> {
    let mut command = Command::new(on_path("mongoimport").unwrap_or_default());
    command.args(["--uri", url, "--db", database, "--collection", "readings", "-j", "4", "--quiet"]);
    command.args(["--writeConcern", WRITE_CONCERN, "--file"]).arg(file);
    match format {
        InputFormat::Csv => command.args(["--type", "csv", "--headerline"]),
        InputFormat::Ndjson => command.args(["--type", "json"]),
    };
    command.stdin(Stdio::null());
    run(command)
}

/// `mongofiles put` of a whole file, from its start to its end.
///
/// # Errors
///
/// It fails.
pub fn mongofiles(url: &str, database: &str, file: &Path) -> Result<Duration> {
    let mut command = Command::new(on_path("mongofiles").unwrap_or_default());
    command.args(["--uri", url, "--db", database, "--quiet", "--writeConcern", WRITE_CONCERN, "--local"]);
    command.arg(file).args(["put", "object"]).stdin(Stdio::null());
    run(command)
}

/// One process of the Python batch app, from its start to its end.
///
/// # Errors
///
/// It fails.
pub fn python_batch_app(url: &str, database: &str, unit: &PeerUnit<'_>) -> Result<Duration> {
    let failed = || format!("open {}", unit.file.display());
    let file = File::open(unit.file).map_err(BenchError::of(failed()))?;
    let length = file.metadata().map_err(BenchError::of(failed()))?.len();
    let format = if unit.format == InputFormat::Csv { "csv" } else { "ndjson" };
    let environment = [
        ("COREDMS", url.to_owned()),
        ("DATABASE", database.to_owned()),
        ("COLLECTION", "readings".to_owned()),
        ("INGESTION", format!("{:032x}", u128::from(unit.number) << 64)),
        ("FORMAT", format.to_owned()),
        ("ENCODING", "utf-8".to_owned()),
        ("LENGTH", length.to_string()),
        ("FIRST_RECORD", "0".to_owned()),
        ("RECORDS", unit.records.to_string()),
    ];
    let mut command = Command::new(python());
    command.arg(python_app("batch_app.py")).stdin(file);
    command.envs(environment.map(|(name, value)| (format!("MYSIMBDP_{name}"), value)));
    run(command)
}

/// Where an example in Python lies.
pub fn python_app(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../client-apps/python").join(name)
}

fn run(mut command: Command) -> Result<Duration> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = tempfile::NamedTempFile::new().map_err(BenchError::of("make a file for output"))?;
    let to = || output.reopen().map_err(BenchError::of("make a file for output"));
    command.stdout(to()?).stderr(to()?);
    let begun = Instant::now();
    let status = Process::spawn(command).wait(DEADLINE);
    let took = begun.elapsed();
    if status.success() {
        return Ok(took);
    }
    let printed = std::fs::read_to_string(output.path()).unwrap_or_default();
    Err(BenchError::new(format!("{name} ended with {status}: {printed}")))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|program| program.is_file())
}
