//! Which config each of the platform's processes runs on, and whether it runs at all.
//!
//! A process says it in a status file and holds a lock for as long as it is at work; [`find`] puts the two together.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_platform::clock;
use mysimbdp_platform::files::{self, FileError};
use mysimbdp_platform::lock::{self, Holder};
use mysimbdp_platform::process::ProcessId;
use mysimbdp_platform::status_file::{self, StatusFile, TEXT_CHARS_MAX};
use serde::{Deserialize, Serialize};

use super::address;
use crate::{BROKER_VARIABLE, COREDMS_VARIABLE, Config, root_note};

/// What a process says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningProcess {
    pub role: String,
    #[serde(flatten)]
    pub process: ProcessId,
    pub started_at: Timestamp,
    pub config: ConfigInUse,
    /// The file that it follows. Absent in what older processes say, and the embedded broker follows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<PathBuf>,
    /// The `up` that has started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<ProcessId>,
    /// The config file has been edited, and this process does not take it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedConfig>,
    /// How long nothing was heard of it. Of a stage that is a second; the embedded broker says nothing after its start.
    #[serde(skip)]
    pub silent: Duration,
}

/// The config that a process runs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigInUse {
    /// See [`Config::hash`].
    pub hash: String,
    pub since: Timestamp,
    /// Where the store is, without password and options. Absent in what older processes say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coredms: Option<String>,
    /// The same of a broker that is not the embedded one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// Its own database. Absent in what older processes say, as the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_prefix: Option<String>,
}

impl RunningProcess {
    /// Whether the `up` that has started it has ended. Then it ends, too, when its work is done.
    pub fn is_orphan(&self) -> bool {
        self.supervisor.is_some_and(|supervisor| !supervisor.alive())
    }
}

impl ConfigInUse {
    /// What differs, in words, if whoever goes by `config` would talk to another store or broker.
    pub fn elsewhere(&self, config: &Config) -> Option<String> {
        // An older process says nothing.
        let store = self.coredms.as_deref()?;
        let mine = address::server(&config.coredms_url);
        differs("store", store, &mine, &remedy(COREDMS_VARIABLE, "coredms"))
            .or_else(|| {
                let mine = &config.settings.coredms.database;
                differs("database", self.database.as_ref()?, mine, "set coredms.database as it is there")
            })
            .or_else(|| self.other_broker(config))
    }

    /// The same, of the broker and the topics there alone.
    pub fn other_broker(&self, config: &Config) -> Option<String> {
        // An older process says nothing, of the store neither.
        self.coredms.as_ref()?;
        let other = match (&self.broker, config.broker_url.as_deref().map(address::server)) {
            (None, None) => None,
            (None, Some(mine)) => Some(format!(
                "it uses the embedded broker, and not {mine} as here: unset {BROKER_VARIABLE}, and remove broker.url from the config"
            )),
            (Some(theirs), mine) => {
                let mine = mine.as_deref().unwrap_or("the embedded one");
                differs("broker", theirs, mine, &remedy(BROKER_VARIABLE, "broker"))
            }
        };
        other.or_else(|| {
            let mine = &config.settings.broker.topic_prefix;
            differs(
                "topic prefix",
                self.topic_prefix.as_ref()?,
                mine,
                "set broker.topic_prefix as it is there",
            )
        })
    }

    fn of(config: &Config) -> Self {
        Self {
            hash: config.hash().to_owned(),
            since: clock::now(),
            coredms: Some(address::server(&config.coredms_url)),
            broker: config.broker_url.as_deref().map(address::server),
            database: Some(config.settings.coredms.database.clone()),
            topic_prefix: Some(config.settings.broker.topic_prefix.clone()),
        }
    }
}

fn differs(what: &str, theirs: &str, mine: &str, remedy: &str) -> Option<String> {
    (theirs != mine).then(|| format!("it uses the {what} {theirs}, and not {mine} as here: {remedy}"))
}

fn remedy(variable: &str, section: &str) -> String {
    format!("set {variable} as it is set there, or {section}.url in the config, which takes a restart")
}

/// A config that a process refuses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedConfig {
    /// See [`Config::hash`]; of no bytes if the file cannot be read.
    pub hash: String,
    pub since: Timestamp,
    pub reason: String,
}

/// What is known of a process from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// `None`: it runs, and could not say more, such as on a full disk.
    Running(ProcessId, Option<Box<RunningProcess>>),
    /// Its lock is held on another host, from where nobody can tell whether it runs.
    Elsewhere {
        holder: String,
    },
    NotRunning,
}

/// Shows what this process runs on. Taken down when dropped.
#[derive(Debug)]
pub struct ProcessStatus {
    file: StatusFile,
    status: RunningProcess,
}

impl ProcessStatus {
    /// This process is `role`, runs on `config` and follows `file`.
    pub fn of_follower(config: &Config, file: &Path, role: &str) -> Self {
        let mut status = Self::new(config, role);
        status.status.config_file = root_note::absolute(file).ok();
        status.show();
        root_note::write(file, &config.layout);
        status
    }

    /// This process is `role` and runs on `config`.
    pub fn new(config: &Config, role: &str) -> Self {
        let now = clock::now();
        let mut status = Self {
            file: StatusFile::new(&config.layout, &format!("{role}.process")),
            status: RunningProcess {
                role: role.to_owned(),
                process: ProcessId::current(),
                started_at: now,
                config: ConfigInUse::of(config),
                config_file: None,
                supervisor: supervisor(config),
                refused: None,
                silent: Duration::ZERO,
            },
        };
        status.show();
        keep(config);
        status
    }

    /// It runs on this config, which is also what the file says.
    pub fn runs_on(&mut self, config: &Config) {
        self.status.refused = None;
        if self.status.config.hash != config.hash() {
            self.status.config = ConfigInUse::of(config);
            keep(config);
        }
        self.show();
    }

    /// It does not take over what the file says, whose hash is this.
    pub fn refuses(&mut self, hash: String, reason: &str) {
        let reason = reason.chars().take(TEXT_CHARS_MAX).collect();
        self.status.refused = Some(RefusedConfig { hash, since: clock::now(), reason });
        self.show();
    }

    /// It goes on. To be called every second.
    pub fn goes_on(&self) {
        self.file.touch();
    }

    fn show(&mut self) {
        let content = serde_json::to_vec(&self.status);
        self.file.show(content.expect("a status has no map with keys other than text"));
    }
}

/// The parent of this process, if that is `up` on the same data root.
fn supervisor(config: &Config) -> Option<ProcessId> {
    let parent = ProcessId::of_pid(std::os::unix::process::parent_id())?;
    match find(&config.layout, ProcessKind::Up) {
        Ok(Found::Running(up, _)) if up == parent => Some(parent),
        _ => None,
    }
}

/// Keeps the text that this process runs on: see [`crate::Config::in_use`].
fn keep(config: &Config) {
    let path = config.layout.config_in_use();
    let is_kept = files::read_to_string(&path).is_ok_and(|kept| *kept == *config.text);
    if !is_kept && let Err(error) = files::write_atomic(&path, config.text.as_bytes()) {
        tracing::debug!(error = mysimbdp_model::error_chain(&error), "the config in use cannot be kept");
    }
}

/// Looks for the process of this kind.
///
/// # Errors
///
/// Its lock or the status files cannot be read, as by another user.
pub fn find(layout: &Layout, kind: ProcessKind) -> Result<Found, FileError> {
    let pid = match lock::holder(&kind.locked_directory(layout), kind.name())? {
        Holder::Nobody => return Ok(Found::NotRunning),
        Holder::Elsewhere(holder) => return Ok(Found::Elsewhere { holder }),
        Holder::Here(pid) => pid,
    };
    let Some(process) = ProcessId::of_pid(pid) else { return Ok(Found::NotRunning) };
    let said = status_file::contents(layout)?;
    let said = said.iter().filter_map(|said| {
        let process = serde_json::from_slice::<RunningProcess>(&said.content).ok()?;
        Some(RunningProcess { silent: age(said.at), ..process })
    });
    let mut said: Vec<RunningProcess> =
        said.filter(|said| said.role == kind.name() && said.process.pid == pid).collect();
    match said.iter().position(|said| said.process == process) {
        Some(position) => Ok(Found::Running(process, Some(Box::new(said.swap_remove(position))))),
        // A later process has the pid of the one that held the lock.
        None if !said.is_empty() => Ok(Found::NotRunning),
        None => Ok(Found::Running(process, None)),
    }
}

/// None, if the clock was set back since.
fn age(at: Option<SystemTime>) -> Duration {
    let at = at.and_then(|at| Timestamp::try_from(at).ok());
    let age = at.map(|at| clock::now().duration_since(at));
    age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mysimbdp_platform::lock::Lock;

    use super::*;

    const KIND: ProcessKind = ProcessKind::BatchManager;

    fn config(folder: &std::path::Path) -> Config {
        let file = folder.join("config.json");
        let text = r#"{"clients": [{"id": "a", "streams": [{"command": ["x"]}]}]}"#;
        files::write_atomic(&file, text.as_bytes()).expect("config can be written");
        Config::load(&file, |_| None).expect("a valid config")
    }

    #[test]
    fn a_process_is_known_by_its_lock_and_says_what_it_runs_on() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let config = config(folder.path());
        let look = || find(&config.layout, KIND).expect("readable");
        assert_eq!(look(), Found::NotRunning);
        let _lock = Lock::take(&config.layout.staging(), KIND.name()).expect("free lock");
        assert_eq!(look(), Found::Running(ProcessId::current(), None));

        let mut status = ProcessStatus::new(&config, KIND.name());
        status.refuses("0123".to_owned(), &"faults \"\n".repeat(1000));
        let Found::Running(_, Some(said)) = look() else { panic!("it runs and says so") };
        assert_eq!((said.config.hash.as_str(), said.process), (config.hash(), ProcessId::current()));
        let refused = said.refused.expect("refused");
        assert!(refused.hash == "0123" && refused.reason.chars().count() == TEXT_CHARS_MAX, "{refused:?}");
        status.runs_on(&config);
        let Found::Running(_, Some(said)) = look() else { panic!("it runs and says so") };
        assert_eq!(said.refused, None);
    }

    #[test]
    fn what_was_killed_or_is_elsewhere_does_not_count_as_running() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let config = config(folder.path());
        let lock = config.layout.staging().join(".batch-manager.lock");
        files::create_dir_all(&config.layout.staging()).expect("directory");
        let found_with = |holder: &str| {
            files::write_atomic(&lock, holder.as_bytes()).expect("a lock that was left");
            find(&config.layout, KIND).expect("readable")
        };
        let host = lock::host();
        assert_eq!(found_with(&format!("pid 4294967295 on {host}\n")), Found::NotRunning);
        let holder = "pid 1 on a-host-that-is-no-more".to_owned();
        assert_eq!(found_with(&format!("{holder}\n")), Found::Elsewhere { holder });
        assert_eq!(found_with(""), Found::NotRunning);

        // Its pid is in use again: the one that held the lock had another start time.
        let mut status = ProcessStatus::new(&config, KIND.name());
        status.status.process.start_time += 1;
        status.show();
        assert_eq!(found_with(&format!("pid {} on {host}\n", std::process::id())), Found::NotRunning);
    }
}
