//! `mysimbdp drop`: copies files safely into a client's drop directory, and on request waits until they have ended.
//! [`remote`] sends them to another host.

pub mod remote;
mod wait;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mysimbdp_config::Config;
use mysimbdp_model::exit;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::files;
use mysimbdp_query::drop_file::{DropTarget, Upload};
use mysimbdp_query::file_outcome::Dropped;

use crate::args::DropFiles;
use crate::error::CommandError;
use crate::output::Foreign;
use wait::WaitReporter;

/// Large enough that the cost of the system calls is negligible.
const COPY_BYTES: usize = 256 << 10;

pub async fn run(config: &Config, args: &DropFiles) -> Result<(), CommandError> {
    let lane = if args.backfill { Lane::Backfill } else { Lane::Live };
    let mut target = DropTarget::open(config, &args.client, lane)?;
    if !args.wait {
        target = target.without_history();
    }
    if !target.is_fetchdata_running() {
        let client = &args.client;
        eprintln!(
            "fetchdata is not running: files wait until it is started, if its configuration then has {client}"
        );
    }
    // All files are checked before the first one is dropped.
    for file in &args.files {
        target.check_name(name_of(file)?)?;
        open(file)?;
    }
    let mut dropped = Vec::new();
    for file in &args.files {
        let one = drop_one(&mut target, file).await.inspect_err(|_| {
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
    some_are_bad(bad, dropped.len())
}

/// The result of a command that has waited for `all` files.
fn some_are_bad(bad: u32, all: usize) -> Result<(), CommandError> {
    match bad {
        0 => Ok(()),
        count => Err(CommandError::new(
            exit::DATA,
            format!("{count} of {all} files were not ingested, or not all of their records"),
        )),
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

/// Copies the file into the drop directory.
async fn drop_one(target: &mut DropTarget<'_>, file: &Path) -> Result<Dropped, CommandError> {
    let name = name_of(file)?;
    let (mut source, bytes) = open(file)?;
    let bar = progress_bar(bytes, &name.to_string_lossy());
    let mut upload = target.begin(name)?;
    let dropped = match copy(&mut source, &mut upload, &bar) {
        Ok(()) => upload.finish().await.map_err(CommandError::from),
        Err(failure) => Err(failure),
    };
    bar.finish_and_clear();
    let dropped = dropped?;
    report_other_name(name, &dropped);
    Ok(dropped)
}

/// Reports that the file was dropped under another name.
fn report_other_name(name: &OsStr, dropped: &Dropped) {
    let target = &dropped.target;
    if target.name() != name {
        let name = name.to_string_lossy();
        eprintln!("{} already exists and is not taken yet: dropped as {target}", Foreign(&name));
    }
}

fn copy(source: &mut impl Read, upload: &mut Upload<'_>, bar: &ProgressBar) -> Result<(), CommandError> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = source.read(&mut buffer).map_err(|error| CommandError::of(exit::IO, &error))?;
        if count == 0 {
            return Ok(());
        }
        upload.write(&buffer[..count])?;
        bar.inc(count as u64);
    }
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
