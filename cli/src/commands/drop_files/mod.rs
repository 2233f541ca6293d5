//! `mysimbdp drop`: copies files safely into a client's drop directory, and on request waits until they have ended.

mod wait;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use mysimbdp_config::{Client, Config};
use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_model::ingestion::{Hash, Hasher, IngestionId};
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::{clock, files, random};
use mysimbdp_query::file_outcome::{self, Dropped};
use mysimbdp_query::{QueryError, free_name};
use mysimbdp_spool::drop_directory::{Directory, DropDirectory, DropPath, Existing, FileStatus};

use crate::args::DropFiles;
use crate::error::CommandError;
use crate::output::Foreign;
use wait::WaitReporter;

/// Large enough that the cost of the system calls is negligible.
const COPY_BYTES: usize = 256 << 10;

pub async fn run(config: &Config, args: &DropFiles) -> Result<(), CommandError> {
    let drop_directory = DropDirectory::open_or_create(&config.layout)?;
    let client = require_batch_app(config, &args.client, &drop_directory)?;
    // All files are checked before the first one is dropped.
    for file in &args.files {
        require_usable_name(client, file)?;
        open(file)?;
    }
    let lane = if args.backfill { Lane::Backfill } else { Lane::Live };
    let path = DropPath::of_client(&args.client, lane);
    let folder = drop_directory.open_or_create_directory(&path)?;
    let target = Target { client, drop_directory: &drop_directory, path: &path, folder: &folder };
    let mut earlier_runs = EarlierRuns { config, can_be_asked: args.wait };
    let mut dropped = Vec::new();
    for file in &args.files {
        let one = target.drop_one(file, &mut earlier_runs).await.inspect_err(|_| {
            dropped
                .iter()
                .for_each(|one: &Dropped| eprintln!("{} is dropped, and not waited for", one.target));
        })?;
        dropped.push(one);
    }
    if !args.wait {
        return Ok(());
    }
    let deadline = Instant::now() + args.timeout;
    let mut bad = 0;
    let mut reporter = WaitReporter::new();
    for one in &dropped {
        let outcome = wait::wait(config, args, one, deadline, &mut reporter).await?;
        println!("{}: {}", one.target, wait::shown(&outcome));
        bad += u32::from(!outcome.is_good());
    }
    match bad {
        0 => Ok(()),
        count => Err(CommandError::new(
            exit::DATA,
            format!("{count} of {} files were not ingested, or not all of their records", dropped.len()),
        )),
    }
}

/// Refuses a file that nothing would ever process: the config must have a batch app for the client, and so must the
/// config that fetchdata runs with.
fn require_batch_app<'a>(
    config: &'a Config,
    id: &ClientId,
    drop_directory: &DropDirectory,
) -> Result<&'a Client, CommandError> {
    let client = config.client(id).ok_or_else(|| QueryError::unknown_client(config, id.as_str()))?;
    if client.apps.is_empty() {
        return Err(CommandError::new(
            exit::NO_INPUT,
            format!("{id} has no batch app, so nothing takes its files"),
        ));
    }
    match drop_directory.accepted_clients()? {
        None => {
            eprintln!(
                "fetchdata is not running: files wait until it is started, if its configuration then has {id}"
            )
        }
        Some(accepted_clients) if !accepted_clients.clients.contains(id) => {
            let why = format!(
                "the running fetchdata (pid {}) takes no files of {id}: its configuration differs",
                accepted_clients.process.pid
            );
            return Err(CommandError::new(exit::TEMPORARY, why));
        }
        Some(_) => {}
    }
    Ok(client)
}

/// Refuses a file that fetchdata would never take because of its name.
fn require_usable_name(client: &Client, file: &Path) -> Result<(), CommandError> {
    let name = name_of(file)?;
    match free_name::never_taken(client, name) {
        None => Ok(()),
        Some(why) => {
            let name = name.to_string_lossy();
            Err(CommandError::new(exit::DATA, format!("{} would wait forever: {why}", Foreign(&name))))
        }
    }
}

fn name_of(file: &Path) -> Result<&OsStr, CommandError> {
    file.file_name()
        .ok_or_else(|| CommandError::new(exit::USAGE, format!("{} has no file name", file.display())))
}

/// Opens a file that is to be dropped, and returns its length with it.
fn open(file: &Path) -> Result<(File, u64), CommandError> {
    let source = files::open(file)?;
    let metadata = source.metadata().map_err(|error| CommandError::of(exit::IO, &error))?;
    if !metadata.is_file() {
        return Err(CommandError::new(exit::NO_INPUT, format!("{} is not a regular file", file.display())));
    }
    Ok((source, metadata.len()))
}

/// The directory in which files are dropped.
struct Target<'a> {
    client: &'a Client,
    drop_directory: &'a DropDirectory,
    path: &'a DropPath,
    folder: &'a Directory,
}

impl Target<'_> {
    /// Copies the file under a name that fetchdata ignores, makes the copy durable, and only then gives it its name. If
    /// a file of that name still waits, the copy gets another name.
    async fn drop_one(
        &self,
        file: &Path,
        earlier_runs: &mut EarlierRuns<'_>,
    ) -> Result<Dropped, CommandError> {
        let name = name_of(file)?;
        let (mut source, bytes) = open(file)?;
        let bar = progress_bar(bytes, &name.to_string_lossy());
        let since = clock::now();
        let temporary = OsString::from(format!(".drop-{:016x}.part", random::number()));
        let copied = copy(&mut source, self.folder.create(&temporary)?, &bar);
        let dropped = match copied {
            Ok((content, bytes)) => {
                let ingestion = IngestionId::new(&self.client.id, &content);
                let earlier_runs = earlier_runs.until(ingestion, since).await;
                self.publish_copy(&temporary, name).map(|(target, earlier_receipt)| Dropped {
                    target,
                    ingestion,
                    bytes,
                    since,
                    earlier_runs,
                    earlier_receipt,
                })
            }
            Err(failure) => Err(failure),
        };
        if dropped.is_err() {
            // The error of the copy is reported; fetchdata ignores files with such a name.
            let _ = self.folder.remove_file(&temporary);
        }
        bar.finish_and_clear();
        let dropped = dropped?;
        self.report_other_name(name, &dropped);
        Ok(dropped)
    }

    /// Gives the copy its name, or a free one. Returns its path, and the receipt that an earlier file of this name has
    /// left.
    fn publish_copy(
        &self,
        temporary: &OsStr,
        name: &OsStr,
    ) -> Result<(DropPath, Option<FileStatus>), CommandError> {
        let mut earlier_receipt = None;
        let destination =
            free_name::Destination { folder: self.folder, client: Some(self.client), keeps_name: false };
        let called = free_name::first_free(destination, name, |name| {
            earlier_receipt = self.drop_directory.receipt_status(&self.path.join(name));
            self.folder.rename(temporary, self.folder, name, Existing::Keep)
        })?;
        self.folder.sync()?;
        Ok((self.path.join(&called), earlier_receipt))
    }

    /// Reports that the file was dropped under another name.
    fn report_other_name(&self, name: &OsStr, dropped: &Dropped) {
        let target = &dropped.target;
        if target.name() != name {
            let name = name.to_string_lossy();
            eprintln!("{} already exists and is not taken yet: dropped as {target}", Foreign(&name));
        }
    }
}

/// Reads earlier runs of a content from the history, before the content is dropped.
struct EarlierRuns<'a> {
    config: &'a Config,
    /// False if nobody waits for the end of the files, or if the store has failed to answer before.
    can_be_asked: bool,
}

impl EarlierRuns<'_> {
    /// Returns when the last earlier run ended. If the store does not answer, returns the time at which the drop began.
    async fn until(&mut self, ingestion: IngestionId, since: Timestamp) -> bson::DateTime {
        if self.can_be_asked {
            match file_outcome::last_run(self.config, ingestion).await {
                Ok(run) => return run.map_or(bson::DateTime::MIN, |run| run.finished_at),
                Err(_) => self.can_be_asked = false,
            }
        }
        bson::DateTime::from_millis(since.as_millisecond())
    }
}

/// Copies the source. Returns the hash of the copied bytes, and their number.
fn copy(source: &mut impl Read, mut target: File, bar: &ProgressBar) -> Result<(Hash, u64), CommandError> {
    let io_failure = |error: std::io::Error| CommandError::of(exit::IO, &error);
    let mut buffer = vec![0; COPY_BYTES];
    let mut hasher = Hasher::new();
    loop {
        let count = source.read(&mut buffer).map_err(io_failure)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        target.write_all(&buffer[..count]).map_err(io_failure)?;
        bar.inc(count as u64);
    }
    target.sync_all().map_err(io_failure)?;
    Ok((hasher.finalize(), hasher.count()))
}

/// Returns a progress bar, which is shown only on a terminal.
fn progress_bar(bytes: u64, name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    MultiProgress::new()
        .add(ProgressBar::new(bytes))
        .with_style(style)
        .with_message(name.escape_debug().to_string())
}
