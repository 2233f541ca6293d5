//! The main loop: walks over the areas of the drop directory and processes settled files, a few at a time.
//!
//! Level-triggered: events and the clock only decide when to walk again, and each walk starts from what is there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysimbdp_config::Config;
use mysimbdp_config::live::LiveConfig;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::manifest::Lane;
use mysimbdp_platform::files;
use mysimbdp_spool::drop_directory::{DropDirectory, DropPath};
use mysimbdp_spool::staging::StagingError;
use tokio::task::{JoinSet, spawn_blocking};

use crate::admission::{AdmissionControl, DiskUsage};
use crate::areas::{Areas, CAPACITY_RETRY_EVERY, Cost, FileInProgress};
use crate::disk_usage::UsageMeter;
use crate::file_intake::FileIntake;
use crate::inspect::candidate;
use crate::intake_status::IntakeStatus;
use crate::late::LateOriginals;
use crate::route::Area;
use crate::scan::{self, Walk};
use crate::scan_status::ScanStatus;
use crate::settle::Ended;
use crate::watch::Watch;
use crate::{Error, set_aside};

/// Repeated measurements of the disk usage take at most one part in five of a processor, as walks do.
const USAGE_COOLDOWN_FACTOR: u32 = 4;

/// The state of the loop.
pub(crate) struct Intake {
    live: LiveConfig,
    /// The config in use.
    config: Arc<Config>,
    file_intake: Arc<FileIntake>,
    watch: Arc<Watch>,
    areas: Areas,
    walks: JoinSet<Walked>,
    tasks: JoinSet<(FileInProgress, Ended)>,
    /// How many of the tasks process files of the backfill lane.
    backfilling: usize,
    survey: Survey,
    admission: AdmissionControl,
    intake_status: IntakeStatus,
    scan_status: ScanStatus,
}

/// The end of a walk.
struct Walked {
    area: Area,
    /// The config that it was made under.
    config: Arc<Config>,
    walk: Walk,
    cost: Cost,
}

/// Surveys of all areas together: each is a measurement of the disk usage, and a check of the originals that may still
/// be written to.
struct Survey {
    /// `None` while a survey is under way.
    tools: Option<Tools>,
    under_way: JoinSet<(Result<DiskUsage, StagingError>, Tools, Duration)>,
    /// The earliest time of the next survey.
    cooldown_until: Instant,
    /// When a survey is due even if no walk asks for it.
    at: Option<Instant>,
    /// For each file in progress, the client to whose staging it may go, and its bytes.
    in_progress: HashMap<DropPath, (ClientId, u64)>,
    /// The same for files that have ended since the current survey began.
    recently_ended: Vec<(ClientId, u64)>,
}

#[derive(Default)]
struct Tools {
    meter: UsageMeter,
    late_originals: LateOriginals,
}

impl Intake {
    pub(crate) fn new(live: LiveConfig, file_intake: Arc<FileIntake>, watch: Arc<Watch>) -> Self {
        let (config, now) = (live.running(), Instant::now());
        Self {
            live,
            areas: Areas::new(&config, now),
            admission: AdmissionControl::new(&config.settings.fetchdata),
            intake_status: IntakeStatus::new(&config.layout),
            scan_status: ScanStatus::new(&config.layout),
            survey: Survey::new(now),
            config,
            file_intake,
            watch,
            walks: JoinSet::new(),
            tasks: JoinSet::new(),
            backfilling: 0,
        }
    }

    /// Runs until `shutdown` is true, then finishes the files in progress.
    pub(crate) async fn run(
        &mut self,
        mut shutdown: tokio::sync::watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let watch = Arc::clone(&self.watch);
        while !*shutdown.borrow_and_update() {
            self.start_walks();
            self.start_survey();
            self.start_tasks();
            self.report_shortages();
            let next = self.next();
            tokio::select! {
                changed = shutdown.changed() => if changed.is_err() {
                    break;
                },
                Some(walked) = self.walks.join_next() => self.walked(walked.map_err(Error::Crashed)?),
                Some(surveyed) = self.survey.under_way.join_next() => {
                    let (usage, tools, worked) = surveyed.map_err(Error::Crashed)?;
                    self.surveyed(usage, tools, worked);
                }
                Some(ended) = self.tasks.join_next() => {
                    let (file, ended) = ended.map_err(Error::Crashed)?;
                    self.ended(file, ended);
                }
                woken = watch.woken() => self.areas.wake(&woken, Instant::now()),
                config = self.live.offer() => self.take_over(config).await?,
                () = sleep_until(next) => {}
            }
        }
        self.finish().await
    }

    /// When the next walk or survey is due, unless something ends before.
    fn next(&self) -> Option<Instant> {
        let survey = self.survey.next(self.areas.needs_measurement());
        [self.areas.next_walk(), survey].into_iter().flatten().min()
    }

    /// Switches to another config.
    async fn take_over(&mut self, config: Arc<Config>) -> Result<(), Error> {
        let made = Arc::clone(&config);
        let made = spawn_blocking(move || {
            crate::announce(&made);
            DropDirectory::open(&made.layout).map(|found| crate::make_folders(&made, &found))
        });
        if let Err(error) = made.await.map_err(Error::Crashed)? {
            // The clients' files are staged as soon as that is possible, as any others.
            tracing::warn!(
                error = mysimbdp_model::error_chain(&error),
                "folders of new clients cannot be prepared"
            );
        }
        self.file_intake = Arc::new(self.file_intake.with(Arc::clone(&config)));
        self.admission.set_limits(&config.settings.fetchdata);
        self.areas.configure(&config, Instant::now());
        self.scan_status.retain(|area| self.areas.is_walked(area));
        self.live.set_running(&config);
        self.config = config;
        Ok(())
    }

    /// Starts the walks that are due.
    fn start_walks(&mut self) {
        for plan in self.areas.begin_walks(Instant::now()) {
            let (config, watch) = (Arc::clone(&self.config), Arc::clone(&self.watch));
            self.walks.spawn_blocking(move || {
                let (started, before) = (Instant::now(), processor_time());
                let walk = scan::walk(&config, Some(&watch), &plan);
                restore_left_behind(&config, &walk.left_behind);
                let worked = processor_time().saturating_sub(before);
                let cost = Cost { worked, lasted: started.elapsed() };
                Walked { area: plan.area, config, walk, cost }
            });
        }
    }

    fn walked(&mut self, walked: Walked) {
        let Walked { area, config, walk, cost } = walked;
        let now = Instant::now();
        // Under the new config the files may belong to other clients.
        if !Arc::ptr_eq(&config, &self.config) {
            return self.areas.walk_outdated(&area, now);
        }
        self.scan_status.update(&area, &walk.faults, self.file_intake.log());
        self.areas.walked(&area, walk, cost, now);
    }

    /// Starts a survey if one is due: after each walk, and while the intake pauses.
    fn start_survey(&mut self) {
        if self.survey.next(self.areas.needs_measurement()).is_some_and(|next| next <= Instant::now()) {
            self.areas.begin_measuring();
            self.survey.start(&self.config);
        }
    }

    fn surveyed(&mut self, usage: Result<DiskUsage, StagingError>, tools: Tools, worked: Duration) {
        let usage = usage.map_err(|error| mysimbdp_model::error_chain(&error));
        self.admission.measured(usage, self.survey.in_progress.values().chain(&self.survey.recently_ended));
        self.survey.ended(tools, Instant::now() + USAGE_COOLDOWN_FACTOR * worked);
        self.areas.measured();
        self.file_intake.log().log_due();
    }

    /// One worker slot is kept free of backfill, whose files may be large: a live file need not wait until one is
    /// split. A single slot takes backfill too.
    fn start_tasks(&mut self) {
        let worker_slots = self.config.settings.fetchdata.files_in_parallel as usize;
        while self.tasks.len() < worker_slots {
            let Some((area, owner)) = self.areas.turn() else { return };
            // The turn of backfill comes after everything else, so nothing waits behind it.
            if owner.lane == Lane::Backfill && worker_slots > 1 && self.backfilling + 1 >= worker_slots {
                return;
            }
            let Some(ready) = self.areas.next_file(&area, &owner) else { return };
            // A file that is refused unread needs no admission: to put it aside takes hardly any space.
            let candidate = candidate(&self.config, &ready.snapshot);
            let bytes = ready.snapshot.identity.bytes;
            let now = Instant::now();
            if candidate
                .is_some_and(|client| !self.admission.admit((&area, client), bytes, self.tasks.len(), now))
            {
                self.areas.postpone(&area, now);
                continue;
            }
            if let Some(file) = self.areas.mark_in_progress(&area, &ready) {
                if let Some(client) = candidate {
                    self.survey.in_progress.insert(file.path.clone(), (client.clone(), bytes));
                }
                self.backfilling += usize::from(owner.lane == Lane::Backfill);
                let file_intake = Arc::clone(&self.file_intake);
                self.tasks.spawn(async move { (file, file_intake.process(ready).await) });
            }
        }
    }

    fn ended(&mut self, file: FileInProgress, ended: Ended) {
        let now = Instant::now();
        self.backfilling -= usize::from(file.owner.lane == Lane::Backfill);
        self.survey.file_ended(&file.path);
        match &ended {
            Ended::Removed => self.admission.succeeded(),
            Ended::Exhausted(error) => self.admission.exhausted(error.clone(), now),
            _ => {}
        }
        self.areas.ended(file, ended, now);
    }

    /// Reports why files wait for capacity, and makes the next survey due soon while they do.
    fn report_shortages(&mut self) {
        let now = Instant::now();
        self.admission.tried(|area| self.areas.is_tried(area));
        if self.areas.all_tried() {
            self.admission.no_file_waits(self.tasks.len(), now);
        }
        let shortages = self.admission.shortages();
        self.intake_status.update(&shortages);
        if !shortages.is_empty() {
            self.survey.at.get_or_insert(now + CAPACITY_RETRY_EVERY);
        }
    }

    /// Each file's steps are bounded in time, so this is too.
    async fn finish(&mut self) -> Result<(), Error> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(Error::Crashed)?;
        }
        while let Some(walked) = self.walks.join_next().await {
            walked.map_err(Error::Crashed)?;
        }
        while let Some(surveyed) = self.survey.under_way.join_next().await {
            drop(surveyed.map_err(Error::Crashed)?);
        }
        Ok(())
    }
}

impl Survey {
    fn new(now: Instant) -> Self {
        Self {
            tools: Some(Tools::default()),
            under_way: JoinSet::new(),
            cooldown_until: now,
            at: None,
            in_progress: HashMap::new(),
            recently_ended: Vec::new(),
        }
    }

    /// When it is due, unless it is under way.
    fn next(&self, is_needed: bool) -> Option<Instant> {
        self.tools.as_ref()?;
        let at = if is_needed { Some(self.cooldown_until) } else { self.at };
        at.map(|at| at.max(self.cooldown_until))
    }

    fn start(&mut self, config: &Arc<Config>) {
        let Some(mut tools) = self.tools.take() else { return };
        self.at = None;
        let config = Arc::clone(config);
        self.under_way.spawn_blocking(move || {
            let before = processor_time();
            let usage = tools.meter.update(&config.layout);
            tools.late_originals.check(&config.layout);
            (usage, tools, processor_time().saturating_sub(before))
        });
    }

    fn ended(&mut self, tools: Tools, cooldown_until: Instant) {
        self.tools = Some(tools);
        self.cooldown_until = cooldown_until;
        self.recently_ended.clear();
    }

    /// The file is no longer in progress. A survey under way may not have counted it where it is now.
    fn file_ended(&mut self, path: &DropPath) {
        if let Some(in_progress) = self.in_progress.remove(path)
            && self.tools.is_none()
        {
            self.recently_ended.push(in_progress);
        }
    }
}

/// Waits for ever if `at` is `None`.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn restore_left_behind(config: &Config, left_behind: &[DropPath]) {
    if !left_behind.is_empty()
        && let Ok(drop_directory) = DropDirectory::open(&config.layout)
    {
        set_aside::restore_left_behind(&drop_directory, left_behind);
    }
}

/// The processor time of this thread; zero if the kernel does not report it.
fn processor_time() -> Duration {
    let text = files::read_to_string(Path::new("/proc/thread-self/schedstat")).unwrap_or_default();
    let nanos = text.split_ascii_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

#[cfg(test)]
mod tests;
