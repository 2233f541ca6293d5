//! Runs a batch app: passes it one unit after the other and answers the platform.
//!
//! 1. [`BatchAppSettings`]: what is the same for all units, from the environment;
//! 2. [`UnitHeader`]: describes this unit, from the environment (`stdin`) or a header line (`worker`);
//! 3. [`UnitInput`]: the unit's bytes, exactly as many as announced;
//! 4. the app reads records and passes them to the [`Sink`], or stores what it reads itself;
//! 5. [`LineWriter`]: progress, rejects, and at the end the line that reports the outcome of the unit.

mod answer;
mod input;
mod settings;
mod sink;
mod store;

use std::io::{BufRead, Read, Take, Write};
use std::process::ExitCode;

use mysimbdp_model::app::{Protocol, UnitHeader};
use mysimbdp_model::outcome::Counts;
use mysimbdp_platform::secrets;
use mysimbdp_telemetry::logging::one_line;

use crate::failure::{Failure, shortened};

pub use answer::LineWriter;
pub use input::UnitInput;
pub use settings::BatchAppSettings;
pub use sink::Sink;
pub use store::Store;

/// The most bytes of a header line of the `worker` protocol: a thousand columns, each with the most words allowed beside its
/// type, take 110 KB.
const HEADER_BYTES_MAX: u64 = 256 * 1024;

/// A work unit as an app receives it.
#[derive(Debug)]
pub struct Unit<'a> {
    /// Describes the unit: its file, its records, its length.
    pub header: &'a UnitHeader,
    /// What is the same for all units of this process.
    pub settings: &'a BatchAppSettings,
    /// The unit's bytes. The app must read all of them.
    pub input: UnitInput<'a>,
    /// Takes the unit's records.
    pub sink: Sink<'a>,
    /// Access to the store, for apps that do not write records.
    pub store: &'a Store,
}

/// Runs `app` for each unit that the platform sends to this process, and returns the process's exit code.
///
/// `app` returns the counts of the unit's records; apps that use the sink return those of [`Sink::finish`]. When `app`
/// returns `Ok`, everything must be durable. The `done` line is written only after two checks: the counts fit the header,
/// and the whole input has been read. After an error nothing is reported as done. What has been stored by then does no
/// harm, because the next attempt writes the same ids.
pub fn run(mut app: impl FnMut(&mut Unit<'_>) -> Result<Counts, Failure>) -> ExitCode {
    if let Err(error) = secrets::protect() {
        eprintln!("memory of this process is not protected from other processes: {error}");
    }
    let served =
        BatchAppSettings::from_environment(&crate::environment::process_variable).and_then(|settings| {
            serve(&settings, &mut std::io::stdin().lock(), Box::new(std::io::stdout()), &mut app)
        });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // stderr is the client's log.
            eprintln!("{}", one_line(&shortened(failure.to_string())));
            failure.exit_code()
        }
    }
}

type App<'a> = dyn FnMut(&mut Unit<'_>) -> Result<Counts, Failure> + 'a;

fn serve<R: BufRead>(
    settings: &BatchAppSettings,
    stdin: &mut R,
    stdout: Box<dyn Write>,
    app: &mut App<'_>,
) -> Result<(), Failure> {
    let store = Store::open(settings)?;
    let mut answer = LineWriter::new(stdout);
    let result = match settings.protocol {
        Protocol::Stdin => {
            let header = settings::header_from_environment(&crate::environment::process_variable)?;
            serve_one(settings, &header, &store, stdin, &mut answer, app)
        }
        Protocol::Worker => serve_worker(settings, &store, stdin, &mut answer, app),
    };
    store.close();
    result
}

fn serve_one<R: BufRead>(
    settings: &BatchAppSettings,
    header: &UnitHeader,
    store: &Store,
    stdin: &mut R,
    answer: &mut LineWriter,
    app: &mut App<'_>,
) -> Result<(), Failure> {
    let counts = process_unit(settings, header, store, stdin, answer, app)?;
    if !stdin.fill_buf()?.is_empty() {
        return Err(Failure::Data(format!("stdin has more than the {} bytes announced", header.length)));
    }
    answer.done(counts)
}

/// Processes units until stdin ends. If a unit fails, this is reported and its remaining bytes are skipped.
fn serve_worker<R: BufRead>(
    settings: &BatchAppSettings,
    store: &Store,
    stdin: &mut R,
    answer: &mut LineWriter,
    app: &mut App<'_>,
) -> Result<(), Failure> {
    while let Some(header) = read_header(stdin)? {
        let mut unit_bytes = Read::take(&mut *stdin, header.length);
        let result = process_unit(settings, &header, store, &mut unit_bytes, answer, app);
        match result {
            Ok(counts) => answer.done(counts)?,
            Err(Failure::Data(reason)) => {
                skip_remainder(&mut unit_bytes)?;
                answer.failed(false, reason)?;
            }
            Err(Failure::Temporary(reason) | Failure::Exhausted(reason)) => {
                skip_remainder(&mut unit_bytes)?;
                answer.failed(true, reason)?;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

fn process_unit(
    settings: &BatchAppSettings,
    header: &UnitHeader,
    store: &Store,
    bytes: &mut dyn BufRead,
    answer: &mut LineWriter,
    app: &mut App<'_>,
) -> Result<Counts, Failure> {
    let sink = Sink::new(settings, header, store, answer);
    let mut unit = Unit { header, settings, input: UnitInput::new(bytes, header.length), sink, store };
    let counts = app(&mut unit)?;
    if unit.input.left() > 0 {
        return Err(Failure::Data(format!(
            "app did not read {} of {} bytes",
            unit.input.left(),
            header.length
        )));
    }
    if counts.received != header.records || !counts.balances() {
        return Err(Failure::Data(format!(
            "counts {counts:?} do not match the {} records announced",
            header.records
        )));
    }
    Ok(counts)
}

/// Reads the next header line; returns `None` at the end of stdin.
fn read_header<R: BufRead>(stdin: &mut R) -> Result<Option<UnitHeader>, Failure> {
    let mut line = Vec::new();
    stdin.take(HEADER_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(|error| Failure::Internal(format!("invalid header line: {error}")))
}

fn skip_remainder<R: BufRead>(bytes: &mut Take<R>) -> Result<(), Failure> {
    std::io::copy(bytes, &mut std::io::sink())?;
    match bytes.limit() {
        0 => Ok(()),
        missing => Err(Failure::Temporary(format!("stdin ended {missing} bytes before the end of the unit"))),
    }
}

#[cfg(test)]
mod tests;
