//! Decides whether there is capacity for one more file, and reports why not.
//!
//! Pure: measurements in, answers out. The config sets two limits: how much waits in staging, and how much of a disk
//! stays free. The machine sets the third, when it refuses space or descriptors in the middle of a file's steps. The
//! limits of the config have hysteresis: the intake resumes only after usage has fallen below a second, stricter line,
//! so it does not flap. After a refusal by the machine there is a wait.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mysimbdp_config::settings;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::units::ByteSize;
use mysimbdp_platform::space::Space;

use crate::route::Area;

/// Files that a file system must still be able to create: the units, outcomes and logs of what is staged already.
const FREE_FILES_MIN: u64 = 1_000;

/// Wait after the machine has refused something; doubles with each further refusal.
const EXHAUSTED_FIRST: Duration = Duration::from_secs(1);
const EXHAUSTED_MAX: Duration = Duration::from_secs(10);

/// How full staging and the disks are.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiskUsage {
    /// Bytes in staging.
    pub(crate) staged: BTreeMap<ClientId, u64>,
    /// Clients whose staged bytes are unknown, and why.
    pub(crate) unknown: BTreeMap<ClientId, String>,
    pub(crate) disks: Vec<Disk>,
}

/// The file system of one of the platform's directories.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) directory: PathBuf,
    pub(crate) space: Space,
}

/// Why a file is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Shortage {
    #[error(
        "staging holds {staged} bytes, {client} would add {bytes}, the limit is {allowed} (staged_bytes_max {max})"
    )]
    Staged { client: ClientId, staged: u64, bytes: u64, allowed: u64, max: ByteSize },
    #[error("disk of {} has {free} bytes free, {needed} are needed (free_space_min {min})", directory.display())]
    Bytes { directory: PathBuf, free: u64, needed: u64, min: ByteSize },
    #[error("disk of {} can take {free} more files, {needed} are needed", directory.display())]
    Files { directory: PathBuf, free: u64, needed: u64 },
    #[error("{0}")]
    Failed(String),
}

/// Admits files while there is capacity.
#[derive(Debug)]
pub(crate) struct AdmissionControl {
    staged_bytes_max: ByteSize,
    free_space_min: ByteSize,
    usage: DiskUsage,
    /// Why no client's files are admitted, as measured.
    full: Option<Shortage>,
    /// What the machine refused to the last file that was tried.
    exhausted: Option<Exhaustion>,
    /// Clients whose next file does not fit, since the last measurement.
    waiting: BTreeMap<(Area, ClientId), Shortage>,
    /// The same from before that measurement, until all files of the area have been tried again.
    waited: BTreeMap<(Area, ClientId), Shortage>,
}

#[derive(Debug)]
struct Exhaustion {
    error: String,
    /// Consecutive refusals.
    times: u32,
    until: Instant,
}

impl AdmissionControl {
    pub(crate) fn new(settings: &settings::Fetchdata) -> Self {
        Self {
            staged_bytes_max: settings.staged_bytes_max,
            free_space_min: settings.free_space_min,
            usage: DiskUsage::default(),
            full: None,
            exhausted: None,
            waiting: BTreeMap::new(),
            waited: BTreeMap::new(),
        }
    }

    /// Changes the limits, from the next measurement on.
    pub(crate) fn set_limits(&mut self, settings: &settings::Fetchdata) {
        self.staged_bytes_max = settings.staged_bytes_max;
        self.free_space_min = settings.free_space_min;
    }

    /// Records how full everything is; `in_progress` are files that the measurement may not include yet. What could not
    /// be measured counts as full.
    pub(crate) fn measured<'a>(
        &mut self,
        usage: Result<DiskUsage, String>,
        in_progress: impl Iterator<Item = &'a (ClientId, u64)>,
    ) {
        self.waited.append(&mut self.waiting);
        match usage {
            Ok(usage) => {
                self.full = usage.disks.iter().find_map(|disk| self.shortage_of(disk));
                self.usage = usage;
                in_progress.for_each(|(client, bytes)| self.usage.add(client, *bytes));
            }
            Err(error) => self.full = Some(Shortage::Failed(error)),
        }
    }

    /// Whether this file may be processed while `in_progress` others are. If so, it counts from now on.
    pub(crate) fn admit(
        &mut self,
        (area, client): (&Area, &ClientId),
        bytes: u64,
        in_progress: usize,
        now: Instant,
    ) -> bool {
        if self.full.is_some()
            || self.exhausted.as_ref().is_some_and(|exhausted| !exhausted.may_try(in_progress, now))
        {
            return false;
        }
        // Smaller files of the client do not overtake the one that waits, which might otherwise wait for ever.
        let key = (area.clone(), client.clone());
        if self.waiting.contains_key(&key) {
            return false;
        }
        if let Some(why) = self.usage.unknown.get(client) {
            self.waiting.insert(key, Shortage::Failed(format!("staging of {client}: {why}")));
            return false;
        }
        let staged = self.usage.staged.values().fold(0u64, |sum, bytes| sum.saturating_add(*bytes));
        let max = self.staged_bytes_max.as_u64();
        let allowed = if self.waited.contains_key(&key) { max - max / 8 } else { max };
        // One file of each client is admitted past `staged_bytes_max`, whatever its size and whatever others have
        // staged.
        let is_alone = self.usage.staged.get(client).is_none_or(|own| *own == 0);
        if !is_alone && staged.saturating_add(bytes) > allowed {
            let shortage = Shortage::Staged {
                client: client.clone(),
                staged,
                bytes,
                allowed,
                max: self.staged_bytes_max,
            };
            self.waiting.insert(key, shortage);
            return false;
        }
        self.usage.add(client, bytes);
        true
    }

    /// The machine ran out of something while a file was processed.
    pub(crate) fn exhausted(&mut self, error: String, now: Instant) {
        let times = match &self.exhausted {
            // Other files that were in progress report the same shortage.
            Some(exhausted) if now < exhausted.until => return,
            Some(exhausted) => exhausted.times.saturating_add(1),
            None => 0,
        };
        let until = now + EXHAUSTED_FIRST.saturating_mul(1 << times.min(6)).min(EXHAUSTED_MAX);
        self.exhausted = Some(Exhaustion { error, times, until });
    }

    /// A file has left the drop directory, so what the last one lacked is assumed to be available. If the sender took
    /// the file back, that proves nothing; then the next file finds out.
    pub(crate) fn succeeded(&mut self) {
        self.exhausted = None;
    }

    /// All files in these areas have been tried since the last measurement.
    pub(crate) fn tried(&mut self, is_tried: impl Fn(&Area) -> bool) {
        self.waited.retain(|(area, _), _| !is_tried(area));
    }

    /// No file waits, and `in_progress` files are being processed.
    pub(crate) fn no_file_waits(&mut self, in_progress: usize, now: Instant) {
        if in_progress == 0 && self.exhausted.as_ref().is_some_and(|exhausted| exhausted.may_try(0, now)) {
            // No file is left to try it with.
            self.exhausted = None;
        }
    }

    /// Why files wait: for all clients (`None`) and for single ones.
    pub(crate) fn shortages(&self) -> BTreeMap<Option<ClientId>, Shortage> {
        let exhausted = self.exhausted.as_ref().map(|exhausted| Shortage::Failed(exhausted.error.clone()));
        let all = self.full.clone().or(exhausted).map(|shortage| (None, shortage));
        let single = self.waited.iter().chain(&self.waiting);
        all.into_iter().chain(single.map(|((_, client), why)| (Some(client.clone()), why.clone()))).collect()
    }

    fn shortage_of(&self, disk: &Disk) -> Option<Shortage> {
        let directory = || disk.directory.clone();
        let (was_full, min) = (self.full.is_some(), self.free_space_min);
        let wider = |line: u64| if was_full { line.saturating_add(line / 8) } else { line };
        let (free, needed) = (disk.space.free_bytes, wider(min.as_u64()));
        if free < needed {
            return Some(Shortage::Bytes { directory: directory(), free, needed, min });
        }
        let needed = wider(FREE_FILES_MIN);
        let free = disk.space.free_files.filter(|free| *free < needed && min.as_u64() > 0)?;
        Some(Shortage::Files { directory: directory(), free, needed })
    }
}

impl DiskUsage {
    pub(crate) fn add(&mut self, client: &ClientId, bytes: u64) {
        let own = self.staged.entry(client.clone()).or_default();
        // An empty file counts too.
        *own = own.saturating_add(bytes.max(1));
    }
}

impl Exhaustion {
    /// After the wait, one file at a time tries again.
    fn may_try(&self, in_progress: usize, now: Instant) -> bool {
        now >= self.until && in_progress == 0
    }
}

#[cfg(test)]
mod tests;
