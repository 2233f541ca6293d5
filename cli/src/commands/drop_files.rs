//! `mysimbdp drop`: a safe copy into a client's drop point, and on request the wait for its end.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::Config;
use mysimbdp_core::exit;
use mysimbdp_core::ingestion::{Hash, Hasher, IngestionId};
use mysimbdp_core::io::drop_directory::{Directory, DropDirectory, DropPath, Existing};
use mysimbdp_core::io::files;
use mysimbdp_core::manifest::Lane;

use crate::args::DropFiles;
use crate::error::Failure;
use crate::fate::{self, Fate, Seen};
use crate::output::Foreign;
use crate::snapshot;

/// Large enough that system calls do not count.
const COPY_BYTES: usize = 256 << 10;
/// Between two looks at the directories; a person does not notice it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Most files have ended by then.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// What is not there is asked for again no more often than this.
const ASK_EVERY: Duration = Duration::from_secs(5);

pub async fn run(config: &Config, args: &DropFiles) -> Result<(), Failure> {
    let drop_directory = DropDirectory::make(&config.layout)?;
    must_be_taken(config, &args.client, &drop_directory)?;
    let lane = if args.backfill { Lane::Backfill } else { Lane::Live };
    let place = DropPath::of_client(&args.client, lane);
    let folder = drop_directory.make_directory(&place)?;
    let since = mysimbdp_core::io::clock::now();
    let mut dropped = Vec::new();
    for file in &args.files {
        dropped.push(drop_one(args, file, &place, &folder)?);
    }
    if !args.wait {
        return Ok(());
    }
    let deadline = Instant::now() + args.timeout;
    let mut bad = 0;
    let mut progress = Progress::default();
    for one in &dropped {
        let fate = wait(config, args, one, since, deadline, &mut progress).await?;
        println!("{}: {fate}", one.target);
        bad += u32::from(!fate.is_good());
    }
    match bad {
        0 => Ok(()),
        count => Err(Failure::new(
            exit::DATA,
            format!("{count} of {} files not ingested, or not all of their records", dropped.len()),
        )),
    }
}

/// Refuses what would lie in the client's folder for ever: the config must have a batch app for it, and so must the one that
/// fetchdata runs with.
fn must_be_taken(config: &Config, id: &ClientId, drop_directory: &DropDirectory) -> Result<(), Failure> {
    let client = config.client(id).ok_or_else(|| unknown_client(config, id.as_str()))?;
    if client.apps.is_empty() {
        return Err(Failure::new(exit::NO_INPUT, format!("{id} has no batch app, nothing takes its files")));
    }
    match drop_directory.accepting()? {
        None => {
            eprintln!("fetchdata does not run: files wait until it does, if its configuration has {id} then")
        }
        Some(accepting) if !accepting.clients.contains(id) => {
            let why = format!(
                "the running fetchdata (pid {}) takes no files of {id}: its configuration is another one",
                accepting.process.pid
            );
            return Err(Failure::new(exit::TEMPORARY, why));
        }
        Some(_) => {}
    }
    Ok(())
}

/// The error for a client that the config does not have.
pub fn unknown_client(config: &Config, id: &str) -> Failure {
    let known: Vec<&str> = config.clients.keys().map(|id| id.as_str()).collect();
    Failure::new(exit::NO_INPUT, format!("there is no client {id:?}; configured are: {}", known.join(", ")))
}

#[derive(Debug)]
struct Dropped {
    target: DropPath,
    ingestion: IngestionId,
}

/// Copies under a name that fetchdata ignores, makes it durable, and renames it only where nothing is in the way.
fn drop_one(args: &DropFiles, file: &Path, place: &DropPath, folder: &Directory) -> Result<Dropped, Failure> {
    let name = file
        .file_name()
        .ok_or_else(|| Failure::new(exit::USAGE, format!("{} has no file name", file.display())))?;
    let mut source = files::open(file)?;
    let metadata = source.metadata().map_err(|error| Failure::of(exit::IO, &error))?;
    if !metadata.is_file() {
        return Err(Failure::new(exit::NO_INPUT, format!("{} is not a regular file", file.display())));
    }
    let bar = progress_bar(metadata.len(), &name.to_string_lossy());
    let mut unseen_name = std::ffi::OsString::from(".");
    unseen_name.push(name);
    unseen_name.push(format!(".{:08x}.part", mysimbdp_core::io::random::number() as u32));

    let target = folder.create(&unseen_name)?;
    let copied = copy(&mut source, target, &bar);
    let moved = copied.and_then(|content| {
        folder.rename(&unseen_name, folder, name, Existing::Keep)?;
        folder.sync()?;
        Ok(Dropped { target: place.join(name), ingestion: IngestionId::new(&args.client, &content) })
    });
    if moved.is_err() {
        // What went wrong is told; nobody takes what is left under this name.
        let _ = folder.remove_file(&unseen_name);
    }
    bar.finish_and_clear();
    moved
}

/// Returns the hash of what it has copied.
fn copy(source: &mut impl Read, mut target: File, bar: &ProgressBar) -> Result<Hash, Failure> {
    let io_failure = |error: std::io::Error| Failure::of(exit::IO, &error);
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
    Ok(hasher.finalize())
}

/// A bar on a terminal, and nothing elsewhere.
fn progress_bar(bytes: u64, name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    MultiProgress::new()
        .add(ProgressBar::new(bytes))
        .with_style(style)
        .with_message(name.escape_debug().to_string())
}

/// Tells on stderr what is waited for, once each.
#[derive(Debug, Default)]
struct Progress {
    asked_at: Option<Instant>,
    told: Option<String>,
}

impl Progress {
    /// `seen` is why a file that was taken may have ended unseen. Most files end before anything is told.
    async fn tell(&mut self, config: &Config, started: Instant, unseen: Option<String>) {
        let is_due = self.asked_at.is_none_or(|asked_at| asked_at.elapsed() >= ASK_EVERY);
        if started.elapsed() < TELL_AFTER || !is_due {
            return;
        }
        self.asked_at = Some(Instant::now());
        let obstacles = snapshot::obstacles(config, snapshot::OF_FILES).await;
        let waits_for = if obstacles.is_empty() { unseen } else { Some(obstacles.join("; ")) };
        if self.told != waits_for {
            match &waits_for {
                Some(waits_for) => eprintln!("waits: {}", Foreign(waits_for)),
                None => eprintln!("goes on"),
            }
            self.told = waits_for;
        }
    }
}

async fn wait(
    config: &Config,
    args: &DropFiles,
    dropped: &Dropped,
    since: jiff::Timestamp,
    deadline: Instant,
    progress: &mut Progress,
) -> Result<Fate, Failure> {
    let started = Instant::now();
    loop {
        let seen = fate::look(config, &args.client, dropped.ingestion, &dropped.target, since).await?;
        let unseen = match seen {
            Seen::Ended(fate) => return Ok(fate),
            Seen::Dropped => None,
            Seen::Taken { unseen } => unseen,
        };
        if Instant::now() >= deadline {
            return Err(Failure::new(exit::TEMPORARY, overdue(args, dropped, unseen.as_deref())));
        }
        progress.tell(config, started, unseen).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn overdue(args: &DropFiles, dropped: &Dropped, unseen: Option<&str>) -> String {
    let Dropped { target, .. } = dropped;
    let within = args.timeout;
    match unseen {
        None => format!("{target} has not ended within {within:?}; `mysimbdp status` shows where it is"),
        Some(unseen) => {
            let unseen = Foreign(unseen);
            format!(
                "{target} was taken, and has not ended within {within:?} as far as this user can see: {unseen}"
            )
        }
    }
}
