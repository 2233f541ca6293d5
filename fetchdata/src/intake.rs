//! The loop: walk over the areas of the drop directory, take what has settled, a few files at a time.
//!
//! Level-triggered: events and the clock only say when to look again, and each look starts from what lies there.

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
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

use crate::areas::{Areas, Cost, ROOM_EVERY, Taken};
use crate::inspect::candidate;
use crate::late::Lookout;
use crate::measure::Measure;
use crate::pause::Pause;
use crate::room::{Gate, Level};
use crate::route::Area;
use crate::scan::{self, Walk};
use crate::settle::Ended;
use crate::take::FileIntake;
use crate::waiting::Waiting;
use crate::watch::Watch;
use crate::{Error, set_aside};

/// To measure again and again how much room there is takes at most one part in five of a processor, as walks do.
const MEASURE_REST_FACTOR: u32 = 4;

/// The state of the loop.
pub(crate) struct Intake {
    live: LiveConfig,
    /// What it runs on.
    config: Arc<Config>,
    taker: Arc<FileIntake>,
    watch: Arc<Watch>,
    areas: Areas,
    walks: JoinSet<Walked>,
    tasks: JoinSet<(Taken, Ended)>,
    /// How many of the tasks are of the backfill lane.
    backfilling: usize,
    survey: Survey,
    gate: Gate,
    pause: Pause,
    waiting: Waiting,
}

/// The end of a walk.
struct Walked {
    area: Area,
    /// What it went by.
    config: Arc<Config>,
    walk: Walk,
    cost: Cost,
}

/// What is looked at for all areas together: how much room there is, and originals that may still be written to.
struct Survey {
    /// `None` while it is under way.
    tools: Option<Tools>,
    under_way: JoinSet<(Result<Level, StagingError>, Tools, Duration)>,
    /// Not before.
    rested: Instant,
    /// Also if no walk asks for it.
    at: Option<Instant>,
    /// Whose staging the files in work may come to lie in, and their bytes.
    in_work: HashMap<DropPath, (ClientId, u64)>,
    /// The same of files that have ended since it began.
    left: Vec<(ClientId, u64)>,
}

#[derive(Default)]
struct Tools {
    measure: Measure,
    lookout: Lookout,
}

impl Intake {
    pub(crate) fn new(live: LiveConfig, taker: Arc<FileIntake>, watch: Arc<Watch>) -> Self {
        let (config, now) = (live.running(), Instant::now());
        Self {
            live,
            areas: Areas::new(&config, now),
            gate: Gate::new(&config.settings.fetchdata),
            pause: Pause::new(&config.layout),
            waiting: Waiting::new(&config.layout),
            survey: Survey::new(now),
            config,
            taker,
            watch,
            walks: JoinSet::new(),
            tasks: JoinSet::new(),
            backfilling: 0,
        }
    }

    /// Runs until `shutdown` is true, then finishes the files in work.
    pub(crate) async fn run(&mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), Error> {
        let watch = Arc::clone(&self.watch);
        while !*shutdown.borrow_and_update() {
            self.start_walks();
            self.start_survey();
            self.start_tasks();
            self.tell_shortages();
            let next = self.next();
            tokio::select! {
                changed = shutdown.changed() => if changed.is_err() {
                    break;
                },
                Some(walked) = self.walks.join_next() => self.walked(walked.map_err(Error::Crashed)?),
                Some(surveyed) = self.survey.under_way.join_next() => {
                    let (level, tools, worked) = surveyed.map_err(Error::Crashed)?;
                    self.surveyed(level, tools, worked);
                }
                Some(ended) = self.tasks.join_next() => {
                    let (taken, ended) = ended.map_err(Error::Crashed)?;
                    self.ended(taken, ended);
                }
                woken = watch.woken() => self.areas.wake(&woken, Instant::now()),
                config = self.live.offer() => self.take_over(config).await?,
                () = sleep_until(next) => {}
            }
        }
        self.finish().await
    }

    /// When something is due, unless something ends before.
    fn next(&self) -> Option<Instant> {
        let survey = self.survey.next(self.areas.wants_measuring());
        [self.areas.next_walk(), survey].into_iter().flatten().min()
    }

    /// Goes by another config from now on.
    async fn take_over(&mut self, config: Arc<Config>) -> Result<(), Error> {
        let made = Arc::clone(&config);
        let made = spawn_blocking(move || {
            crate::announce(&made);
            DropDirectory::open(&made.layout).map(|found| crate::make_folders(&made, &found))
        });
        if let Err(error) = made.await.map_err(Error::Crashed)? {
            // Its files are staged as soon as that is possible, as any others.
            tracing::warn!(
                error = mysimbdp_model::error_chain(&error),
                "folders of new clients cannot be prepared"
            );
        }
        self.taker = Arc::new(self.taker.with(Arc::clone(&config)));
        self.gate.limit(&config.settings.fetchdata);
        self.areas.configure(&config, Instant::now());
        self.waiting.keep(|area| self.areas.is_walked(area));
        self.live.taken_over(&config);
        self.config = config;
        Ok(())
    }

    /// Looks at the areas whose time has come.
    fn start_walks(&mut self) {
        for plan in self.areas.begin_walks(Instant::now()) {
            let (config, watch) = (Arc::clone(&self.config), Arc::clone(&self.watch));
            self.walks.spawn_blocking(move || {
                let (started, before) = (Instant::now(), processor_time());
                let walk = scan::walk(&config, Some(&watch), &plan);
                restore_left(&config, &walk.left);
                let worked = processor_time().saturating_sub(before);
                let cost = Cost { worked, lasted: started.elapsed() };
                Walked { area: plan.area, config, walk, cost }
            });
        }
    }

    fn walked(&mut self, walked: Walked) {
        let Walked { area, config, walk, cost } = walked;
        let now = Instant::now();
        // Whose files they are may be another's question by now.
        if !Arc::ptr_eq(&config, &self.config) {
            return self.areas.walked_in_vain(&area, now);
        }
        self.waiting.tell(&area, &walk.faults, self.taker.tell());
        self.areas.walked(&area, walk, cost, now);
    }

    /// Measures how much room there is, if files wait for that.
    fn start_survey(&mut self) {
        if self.survey.next(self.areas.wants_measuring()).is_some_and(|next| next <= Instant::now()) {
            self.areas.begin_measuring();
            self.survey.start(&self.config);
        }
    }

    fn surveyed(&mut self, level: Result<Level, StagingError>, tools: Tools, worked: Duration) {
        let level = level.map_err(|error| mysimbdp_model::error_chain(&error));
        self.gate.measured(level, self.survey.in_work.values().chain(&self.survey.left));
        self.survey.ended(tools, Instant::now() + MEASURE_REST_FACTOR * worked);
        self.areas.measured();
        self.taker.tell().go_on();
    }

    /// One hand is kept from backfill, whose files may be large: a live file need not wait until one is split. With a
    /// single hand there is none to keep.
    fn start_tasks(&mut self) {
        let hands = self.config.settings.fetchdata.files_in_parallel as usize;
        while self.tasks.len() < hands {
            let Some((area, owner)) = self.areas.turn() else { return };
            // Backfill lies behind everything else, so nothing waits behind it.
            if owner.lane == Lane::Backfill && hands > 1 && self.backfilling + 1 >= hands {
                return;
            }
            let Some(ready) = self.areas.next_file(&area, &owner) else { return };
            // What is refused unread goes on: to put it aside needs no room worth speaking of.
            let candidate = candidate(&self.config, &ready.look);
            let bytes = ready.look.stamp.bytes;
            let now = Instant::now();
            if candidate.is_some_and(|client| !self.gate.admit((&area, client), bytes, self.tasks.len(), now))
            {
                self.areas.refused(&area, now);
                continue;
            }
            if let Some(taken) = self.areas.take(&area, &ready) {
                if let Some(client) = candidate {
                    self.survey.in_work.insert(taken.path.clone(), (client.clone(), bytes));
                }
                self.backfilling += usize::from(owner.lane == Lane::Backfill);
                let taker = Arc::clone(&self.taker);
                self.tasks.spawn(async move { (taken, taker.take(ready).await) });
            }
        }
    }

    fn ended(&mut self, taken: Taken, ended: Ended) {
        let now = Instant::now();
        self.backfilling -= usize::from(taken.owner.lane == Lane::Backfill);
        self.survey.has_left(&taken.path);
        match &ended {
            Ended::Gone => self.gate.taken(),
            Ended::Exhausted(error) => self.gate.refused(error.clone(), now),
            _ => {}
        }
        self.areas.ended(taken, ended, now);
    }

    /// Where files wait for room it is measured again soon.
    fn tell_shortages(&mut self) {
        let now = Instant::now();
        self.gate.looked_at(|area| self.areas.is_tried(area));
        if self.areas.all_tried() {
            self.gate.nobody_waits(self.tasks.len(), now);
        }
        let shortages = self.gate.shortages();
        self.pause.tell(&shortages);
        if !shortages.is_empty() {
            self.survey.at.get_or_insert(now + ROOM_EVERY);
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
            rested: now,
            at: None,
            in_work: HashMap::new(),
            left: Vec::new(),
        }
    }

    /// When it is due, unless it is under way.
    fn next(&self, is_wanted: bool) -> Option<Instant> {
        self.tools.as_ref()?;
        let at = if is_wanted { Some(self.rested) } else { self.at };
        at.map(|at| at.max(self.rested))
    }

    fn start(&mut self, config: &Arc<Config>) {
        let Some(mut tools) = self.tools.take() else { return };
        self.at = None;
        let config = Arc::clone(config);
        self.under_way.spawn_blocking(move || {
            let before = processor_time();
            let level = tools.measure.level(&config.layout);
            tools.lookout.look(&config.layout);
            (level, tools, processor_time().saturating_sub(before))
        });
    }

    fn ended(&mut self, tools: Tools, rested: Instant) {
        self.tools = Some(tools);
        self.rested = rested;
        self.left.clear();
    }

    /// The file is not in work any more. What is under way may not have seen where it has come to.
    fn has_left(&mut self, path: &DropPath) {
        if let Some(in_work) = self.in_work.remove(path)
            && self.tools.is_none()
        {
            self.left.push(in_work);
        }
    }
}

/// Without a time it does not end.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn restore_left(config: &Config, left: &[DropPath]) {
    if !left.is_empty()
        && let Ok(drop_directory) = DropDirectory::open(&config.layout)
    {
        set_aside::restore_left(&drop_directory, left);
    }
}

/// How long this thread has had a processor; zero if the kernel does not tell.
fn processor_time() -> Duration {
    let text = files::read_to_string(Path::new("/proc/thread-self/schedstat")).unwrap_or_default();
    let nanos = text.split_ascii_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

#[cfg(test)]
mod tests;
