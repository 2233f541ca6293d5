//! Which config each of the platform's processes runs on, and whether it runs at all.
//!
//! A process writes a status file, and holds a lock for as long as it works; [`find`] combines the two.

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

/// What a process reports about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningProcess {
    #[serde(rename = "role")]
    pub process_name: String,
    #[serde(flatten)]
    pub process: ProcessId,
    pub started_at: Timestamp,
    pub config: ConfigInUse,
    /// The config file that it follows. Absent from the status of older processes; the embedded broker follows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<PathBuf>,
    /// The same as it was named, with the symlinks on its path. Absent from the status of older processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_path: Option<PathBuf>,
    /// The `up` process that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<ProcessId>,
    /// The edited config file, if this process refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedConfig>,
    /// Time since its last sign of life: normally about a second for fetchdata and the managers. The embedded broker
    /// gives none after its start.
    #[serde(skip)]
    pub silent: Duration,
}

/// The config that a process runs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigInUse {
    /// See [`Config::hash`].
    pub hash: String,
    pub since: Timestamp,
    /// The store's address, without password and options. Absent from the status of older processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coredms: Option<String>,
    /// The broker's address, likewise; `None` for the embedded broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// The platform's own database. Absent from the status of older processes, like `topic_prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_prefix: Option<String>,
}

impl RunningProcess {
    /// Whether it follows this config file, by either of its paths: after a symlink has been exchanged it takes some seconds to
    /// notice where the file is now.
    pub(crate) fn follows(&self, file: &Path) -> bool {
        let is = |known: &Option<PathBuf>, path: Option<PathBuf>| known.is_some() && *known == path;
        self.config_file.is_none()
            || is(&self.config_file, root_note::absolute(file).ok())
            || is(&self.config_path, std::path::absolute(file).ok())
    }

    /// Whether the `up` process that started it has ended. If so, it ends too, once its work is done.
    pub fn is_orphan(&self) -> bool {
        self.supervisor.is_some_and(|supervisor| !supervisor.alive())
    }
}

impl ConfigInUse {
    /// Describes the difference if a process that uses `config` would connect to another store or broker.
    pub fn difference(&self, config: &Config) -> Option<String> {
        // The status of an older process does not say.
        let store = self.coredms.as_deref()?;
        let mine = address::server(&config.coredms_url);
        differs("store", store, &mine, &remedy(COREDMS_VARIABLE, "coredms"))
            .or_else(|| {
                let mine = &config.settings.coredms.database;
                differs("database", self.database.as_ref()?, mine, "set coredms.database to the same value")
            })
            .or_else(|| self.broker_difference(config))
    }

    /// Like [`ConfigInUse::difference`], for the broker and its topics alone.
    pub fn broker_difference(&self, config: &Config) -> Option<String> {
        // The status of an older process names neither store nor broker.
        self.coredms.as_ref()?;
        let other = match (&self.broker, config.broker_url.as_deref().map(address::server)) {
            (None, None) => None,
            (None, Some(mine)) => Some(format!(
                "it uses the embedded broker, but this config names {mine}: unset {BROKER_VARIABLE}, and remove broker.url from the config"
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
                "set broker.topic_prefix to the same value",
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
    (theirs != mine).then(|| format!("it uses the {what} {theirs}, but this config names {mine}: {remedy}"))
}

fn remedy(variable: &str, section: &str) -> String {
    format!("set {variable} to the same value, or {section}.url in the config, which needs a restart")
}

/// A config that a process refuses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusedConfig {
    /// See [`Config::hash`]; the hash of the empty text if the file cannot be read.
    pub hash: String,
    pub since: Timestamp,
    pub reason: String,
}

/// What other processes can tell about a process.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It runs; `None` if it could not write its status, for example on a full disk.
    Running(ProcessId, Option<Box<RunningProcess>>),
    /// Its lock is held by a process on another host, of which this host cannot tell whether it runs.
    OnOtherHost {
        holder: String,
    },
    NotRunning,
}

/// The status file that says what this process runs on. It is removed when this is dropped.
#[derive(Debug)]
pub struct ProcessStatus {
    file: StatusFile,
    status: RunningProcess,
}

impl ProcessStatus {
    /// The status of this process if it is `process_name`, runs on `config` and follows `file`.
    pub fn of_follower(config: &Config, file: &Path, process_name: &str) -> Self {
        let status = Self::begin(config, process_name, Some(file));
        root_note::write(file, &config.layout);
        status
    }

    /// The status of this process if it is `process_name` and runs on `config`.
    pub fn new(config: &Config, process_name: &str) -> Self {
        Self::begin(config, process_name, None)
    }

    fn begin(config: &Config, process_name: &str, file: Option<&Path>) -> Self {
        let mut status = Self {
            file: StatusFile::new(&config.layout, &format!("{process_name}.process")),
            status: RunningProcess {
                process_name: process_name.to_owned(),
                process: ProcessId::current(),
                started_at: clock::now(),
                config: ConfigInUse::of(config),
                config_file: file.and_then(|file| root_note::absolute(file).ok()),
                config_path: file.and_then(|file| std::path::absolute(file).ok()),
                supervisor: supervisor(config),
                refused: None,
                silent: Duration::ZERO,
            },
        };
        status.show();
        keep(config);
        status
    }

    /// Records where the followed file is now, which changes with the symlinks on its path.
    pub fn follow(&mut self, file: &Path) {
        if let Ok(now) = root_note::absolute(file) {
            self.status.config_file = Some(now);
        }
    }

    /// Records that the process runs on this config, which is also the one in the file.
    pub fn set_running(&mut self, config: &Config) {
        self.status.refused = None;
        if self.status.config.hash != config.hash() {
            self.status.config = ConfigInUse::of(config);
            keep(config);
        }
        self.show();
    }

    /// Records that the process refuses the config in the file, which has this hash.
    pub fn set_refused(&mut self, hash: String, reason: &str) {
        let reason = reason.chars().take(TEXT_CHARS_MAX).collect();
        self.status.refused = Some(RefusedConfig { hash, since: clock::now(), reason });
        self.show();
    }

    /// Gives a sign of life. To be called every second.
    pub fn heartbeat(&self) {
        self.file.touch();
    }

    fn show(&mut self) {
        let content = serde_json::to_vec(&self.status);
        self.file.show(content.expect("all keys of a status are strings"));
    }
}

/// The parent of this process, if it is `up` on the same data root.
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
        tracing::debug!(error = mysimbdp_model::error_chain(&error), "cannot write the config in use");
    }
}

/// Finds the process of this kind.
///
/// # Errors
///
/// Its lock or the status files cannot be read, for example by another user.
pub fn find(layout: &Layout, kind: ProcessKind) -> Result<Found, FileError> {
    let pid = match lock::holder(&kind.locked_directory(layout), kind.name())? {
        Holder::Nobody => return Ok(Found::NotRunning),
        Holder::Elsewhere(holder) => return Ok(Found::OnOtherHost { holder }),
        Holder::Here(pid) => pid,
    };
    let Some(process) = ProcessId::of_pid(pid) else { return Ok(Found::NotRunning) };
    let contents = status_file::contents(layout)?;
    let statuses = contents.iter().filter_map(|file| {
        let status = serde_json::from_slice::<RunningProcess>(&file.content).ok()?;
        Some(RunningProcess { silent: age(file.at), ..status })
    });
    let mut statuses: Vec<RunningProcess> =
        statuses.filter(|status| status.process_name == kind.name() && status.process.pid == pid).collect();
    match statuses.iter().position(|status| status.process == process) {
        Some(position) => Ok(Found::Running(process, Some(Box::new(statuses.swap_remove(position))))),
        // The pid of the process that held the lock has been reused by a later one.
        None if !statuses.is_empty() => Ok(Found::NotRunning),
        None => Ok(Found::Running(process, None)),
    }
}

/// Time since `at`; zero if it is unknown, or if the clock was set back since then.
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
    fn a_process_is_found_by_its_lock_and_reports_what_it_runs_on() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let config = config(folder.path());
        let find_now = || find(&config.layout, KIND).expect("readable");
        assert_eq!(find_now(), Found::NotRunning);
        let _lock = Lock::take(&config.layout.staging(), KIND.name()).expect("free lock");
        assert_eq!(find_now(), Found::Running(ProcessId::current(), None));

        let mut status = ProcessStatus::new(&config, KIND.name());
        status.set_refused("0123".to_owned(), &"faults \"\n".repeat(1000));
        let Found::Running(_, Some(found)) = find_now() else { panic!("it runs and reports it") };
        assert_eq!((found.config.hash.as_str(), found.process), (config.hash(), ProcessId::current()));
        let refused = found.refused.expect("refused");
        assert!(refused.hash == "0123" && refused.reason.chars().count() == TEXT_CHARS_MAX, "{refused:?}");
        status.set_running(&config);
        let Found::Running(_, Some(found)) = find_now() else { panic!("it runs and reports it") };
        assert_eq!(found.refused, None);
    }

    #[test]
    fn a_process_that_was_killed_or_is_on_another_host_does_not_count_as_running() {
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
        assert_eq!(found_with(&format!("{holder}\n")), Found::OnOtherHost { holder });
        assert_eq!(found_with(""), Found::NotRunning);

        // Its pid has been reused: the process that held the lock had another start time.
        let mut status = ProcessStatus::new(&config, KIND.name());
        status.status.process.start_time += 1;
        status.show();
        assert_eq!(found_with(&format!("pid {} on {host}\n", std::process::id())), Found::NotRunning);
    }
}
