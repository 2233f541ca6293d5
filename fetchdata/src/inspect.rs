//! Inspects one settled file by itself: opens, validates and splits it. It reads, and changes nothing.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mysimbdp_config::{App, Client, Config};
use mysimbdp_model::app::Ids;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::manifest::{self, Format, Manifest, MicroBatch};
use mysimbdp_model::reason::Objection;
use mysimbdp_platform::clock;
use mysimbdp_platform::files::FileError;
use mysimbdp_platform::lease::{self, Writers};
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath, FileKind, FileStatus};
use mysimbdp_telemetry::timing::{Stage, Timing};

use crate::file_identity::FileIdentity;
use crate::openers::{ClosedEvidence, OpenState};
use crate::scan::FileSnapshot;
use crate::settle::Ready;
use crate::split::{self, Split, SplitError};
use crate::watch::Watch;
use crate::{route, validate};

/// How many times at once this process has a file open while it inspects and stages it.
const OURS: u32 = 1;

/// What a file by itself allows to decide.
pub(crate) enum Inspection {
    /// It is open for writing, or has changed.
    Busy,
    /// Neither the kernel nor the events tell whether it is open for writing: it has to settle longer first.
    WritersUnknown,
    /// It breaks rules, for these reasons.
    Refused(Vec<Objection>),
    Accepted(Box<Accepted>),
}

/// A file that breaks no rule.
pub(crate) struct Accepted {
    pub(crate) snapshot: FileSnapshot,
    pub(crate) file: File,
    pub(crate) client: ClientId,
    pub(crate) split: Split,
    pub(crate) closed: ClosedEvidence,
    /// When it arrived at the path where it was dropped.
    pub(crate) received_at: Timestamp,
    pub(crate) taken_at: Timestamp,
    format: Format,
    app: String,
}

/// The client to whose staging the file may go; `None` if its kind, name or size exclude it unread.
pub(crate) fn candidate<'a>(config: &'a Config, snapshot: &FileSnapshot) -> Option<&'a ClientId> {
    let name = snapshot.path.name();
    let client = route::client(config, &snapshot.origin, name).ok()?;
    let reasons = validate::objections(&config.rules, client, name, snapshot.kind, snapshot.identity.bytes);
    reasons.is_empty().then_some(&client.id)
}

/// Inspects the file; one that its kind, name or size already exclude is not read.
///
/// # Errors
///
/// It cannot be opened or read; that is not a fault of the file, and decides nothing about it.
pub(crate) fn inspect(config: &Config, watch: &Watch, ready: &Ready) -> Result<Inspection, FileError> {
    let snapshot = &ready.snapshot;
    let taken_at = clock::now();
    let name = snapshot.path.name();
    let client = match route::client(config, &snapshot.origin, name) {
        Ok(client) => client,
        Err(why) => {
            if snapshot.kind == FileKind::File
                && let Opened::Not(inspection) = open_complete(config, watch, ready)?
            {
                return Ok(inspection);
            }
            let reasons = validate::objections_unrouted(
                &config.rules,
                name,
                snapshot.kind,
                snapshot.identity.bytes,
                why,
            );
            return Ok(Inspection::Refused(reasons));
        }
    };
    let started = Instant::now();
    let reasons = validate::objections(&config.rules, client, name, snapshot.kind, snapshot.identity.bytes);
    let validated = started.elapsed();
    if snapshot.kind != FileKind::File {
        return Ok(Inspection::Refused(reasons));
    }
    let (file, closed) = match open_complete(config, watch, ready)? {
        Opened::Complete(file, closed) => (file, closed),
        Opened::Not(inspection) => return Ok(inspection),
    };
    let (true, Some(name)) = (reasons.is_empty(), name.to_str()) else {
        return Ok(Inspection::Refused(reasons));
    };
    let Some(app) = client.app_for(name) else {
        return Ok(Inspection::Refused(vec![validate::no_app(client)]));
    };
    let format = app.format_of(name);
    let started = Instant::now();
    let split = split::split(&file, &rules(client, app, format, snapshot.identity.bytes));
    let took = started.elapsed();
    // Checked only after the split: a file that a writer was in the middle of must be neither staged nor refused.
    if !is_untouched(snapshot, &file)? || !is_still_closed(watch, &snapshot.path, closed) {
        return Ok(Inspection::Busy);
    }
    let split = match split {
        Ok(split) => split,
        Err(SplitError::Content(reasons)) => return Ok(Inspection::Refused(reasons)),
        Err(SplitError::Read(source)) => {
            return Err(error("read", &snapshot.path)(source));
        }
    };
    let (snapshot, client, app) = (snapshot.clone(), client.id.clone(), app.name.clone());
    let received_at = snapshot.identity.received_at(taken_at);
    let accepted = Accepted { snapshot, file, client, split, closed, received_at, taken_at, format, app };
    accepted.log_timing(Stage::Settle, ready.settled_for);
    accepted.log_timing(Stage::Validate, validated);
    accepted.log_timing(Stage::Split, took);
    Ok(Inspection::Accepted(Box::new(accepted)))
}

/// The file of a snapshot, opened for reading, or why it is too early for that.
enum Opened {
    Complete(File, ClosedEvidence),
    Not(Inspection),
}

/// Opens the file if it is unchanged since the snapshot, and complete.
fn open_complete(config: &Config, watch: &Watch, ready: &Ready) -> Result<Opened, FileError> {
    let path = &ready.snapshot.path;
    let file = match DropDirectory::open(&config.layout)?.open_file(path) {
        Err(error) if error.is_busy() => return Ok(Opened::Not(Inspection::Busy)),
        file => file?,
    };
    if FileIdentity::of(&FileStatus::of(&file).map_err(error("read the status of", path))?)
        != ready.snapshot.identity
    {
        return Ok(Opened::Not(Inspection::Busy));
    }
    Ok(match lease::writers(&file).map_err(error("read the status of", path))? {
        Writers::Some => Opened::Not(Inspection::Busy),
        Writers::None => Opened::Complete(file, ClosedEvidence::KernelOrSender),
        Writers::Unknown if ready.snapshot.sentinel.is_some() => {
            Opened::Complete(file, ClosedEvidence::KernelOrSender)
        }
        Writers::Unknown => match watch.open_state(path, OURS) {
            OpenState::Open => Opened::Not(Inspection::Busy),
            OpenState::Closed => Opened::Complete(file, ClosedEvidence::Events),
            OpenState::Unknown if !ready.settles_longer => Opened::Not(Inspection::WritersUnknown),
            OpenState::Unknown => Opened::Complete(file, ClosedEvidence::SettledLonger),
        },
    })
}

/// Whether what was known of the file's writers still holds; also after the file has been moved away and nobody else
/// can open it.
pub(crate) fn is_still_closed(watch: &Watch, path: &DropPath, closed: ClosedEvidence) -> bool {
    closed != ClosedEvidence::Events || watch.open_state(path, OURS) == OpenState::Closed
}

/// Whether nothing has been written since the file was opened, and no writer has it open.
fn is_untouched(snapshot: &FileSnapshot, file: &File) -> Result<bool, FileError> {
    let same = FileIdentity::of(&FileStatus::of(file).map_err(error("read the status of", &snapshot.path))?)
        == snapshot.identity;
    Ok(same && lease::writers(file).map_err(error("read the status of", &snapshot.path))? != Writers::Some)
}

fn error(action: &'static str, path: &DropPath) -> impl FnOnce(io::Error) -> FileError {
    let path = PathBuf::from(path.to_string());
    move |source| FileError { action, path, source }
}

fn rules<'a>(client: &'a Client, app: &App, format: Format, bytes: u64) -> split::SplitRules<'a> {
    split::SplitRules {
        client: &client.id,
        format,
        encoding: client.settings.files.encoding,
        block_bytes_max: client.block_bytes_max,
        header: client.settings.files.header.as_deref(),
        is_read: app.settings.ids != Ids::Object,
        bytes,
    }
}

impl Accepted {
    pub(crate) fn name(&self) -> &str {
        self.snapshot.path.name().to_str().unwrap_or_default()
    }

    /// The name of the app that the file goes to.
    pub(crate) fn app(&self) -> &str {
        &self.app
    }

    /// The manifest of the file, as one that is moved to staging whole.
    pub(crate) fn manifest(&self) -> Manifest {
        let file = self.name().to_owned();
        let micro_batch = |(index, range): (usize, &split::MicroBatchRange)| MicroBatch {
            index: index as u32,
            path: file.clone(),
            offset: range.offset,
            length: range.length,
            first_record: range.first_record,
            records: range.records,
            xxh3: format!("{:016x}", range.xxh3),
        };
        Manifest {
            version: manifest::VERSION,
            ingestion: self.split.ingestion,
            client: self.client.clone(),
            lane: route::lane(&self.snapshot.origin),
            bytes: self.split.bytes,
            records: self.split.records,
            blake3: self.split.blake3.clone(),
            format: self.format,
            prefix: self.split.prefix,
            app: self.app.clone(),
            received_at: self.received_at,
            taken_at: Some(self.taken_at),
            staged_at: clock::now(),
            micro_batches: self.split.ranges.iter().enumerate().map(micro_batch).collect(),
            columns: self.split.columns.clone(),
            replace: false,
            file,
        }
    }

    pub(crate) fn log_timing(&self, stage: Stage, took: Duration) {
        Timing {
            stage,
            client: self.client.as_str(),
            ingestion: &self.split.ingestion.to_string(),
            file: self.name(),
            bytes: self.split.bytes,
            records: self.split.records,
            took,
        }
        .log();
    }
}
