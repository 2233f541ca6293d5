//! The config of a running process: an edit of `config.json` is applied, or refused, without a restart.
//!
//! There are two sides:
//!
//! 1. [`watch`] reads the file when it has changed or a reload is requested, and [`compare`]s it:
//!    - the same semantics, such as an edit of white space: nothing happens;
//!    - valid: it is offered to the process, and the status file says that the process runs on it once it does;
//!    - with faults, or with a new value of a setting that is read only at the start: it is refused as a whole, so that
//!      nothing is half old and half new. A WARN and the status file give the reason, until the file is valid again.
//! 2. [`LiveConfig`] belongs to the process's loop, which takes an offer between two steps.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_platform::files::{self, Metadata};
use mysimbdp_platform::notice::NoticeFile;
use serde_json::Value;
use tokio::sync::{Notify, watch as channel};

use super::{Config, Faults, in_use, root_note, validate};
use crate::process_status::ProcessStatus;

/// Each check reads the file's metadata, and nothing else.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Sections that are read only at the start: a connection, a lock or an open file depends on each of their settings.
const FIXED_SECTIONS: [&str; 5] = ["broker", "coredms", "data_root", "logs", "serving"];

/// The config that a process runs on, and the next one once it is offered.
#[derive(Debug)]
pub struct LiveConfig {
    offered: channel::Receiver<Arc<Config>>,
    running: channel::Sender<Arc<Config>>,
}

/// The other side of a [`LiveConfig`]: offers configs, and knows which one the process runs on.
#[derive(Debug)]
pub struct ConfigOffers {
    offered: channel::Sender<Arc<Config>>,
    running: channel::Receiver<Arc<Config>>,
}

/// How the config in the file differs from the one that the process runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    None,
    Valid { sections: String },
    Refused { reason: String },
}

impl LiveConfig {
    /// Returns both sides; the process runs on `config` at first.
    pub fn new(config: Arc<Config>) -> (Self, ConfigOffers) {
        let (offered, offers) = channel::channel(Arc::clone(&config));
        let (running, runs) = channel::channel(config);
        (Self { offered: offers, running }, ConfigOffers { offered, running: runs })
    }

    /// The config that the process runs on.
    pub fn running(&self) -> Arc<Config> {
        Arc::clone(&self.running.borrow())
    }

    /// Waits for the next offer, for ever if there is none. Cancel safe.
    pub async fn offer(&mut self) -> Arc<Config> {
        match self.offered.changed().await {
            Ok(()) => Arc::clone(&self.offered.borrow_and_update()),
            Err(_) => std::future::pending().await,
        }
    }

    /// The config that the process runs on, for parts of it that have a loop of their own.
    pub fn follow(&self) -> channel::Receiver<Arc<Config>> {
        self.running.subscribe()
    }

    /// Records that the process runs on this config from now on.
    pub fn set_running(&self, config: &Arc<Config>) {
        self.running.send_replace(Arc::clone(config));
    }
}

/// A config that does not change.
impl From<Arc<Config>> for LiveConfig {
    fn from(config: Arc<Config>) -> Self {
        Self::new(config).0
    }
}

impl ConfigOffers {
    /// Offers a config; returns once the process runs on it.
    pub async fn offer(&mut self, config: Arc<Config>) {
        self.offered.send_replace(Arc::clone(&config));
        // Fails only if the process is about to end.
        let _ = self.running.wait_for(|running| Arc::ptr_eq(running, &config)).await;
    }

    fn running(&self) -> Arc<Config> {
        Arc::clone(&self.running.borrow())
    }
}

/// Watches `file` for the process behind `offers`, until this future is dropped. `reload` makes it read the file at once.
pub async fn watch(
    file: PathBuf,
    mut offers: ConfigOffers,
    variable: impl Fn(&str) -> Option<String>,
    reload: Arc<Notify>,
    mut status: ProcessStatus,
    mut notice: NoticeFile,
) -> Infallible {
    let mut reported = Edit::None;
    // `None` at first: the file may have been edited before this was called.
    let mut last_read: Option<Metadata> = None;
    let mut tick = tokio::time::interval(CHECK_EVERY);
    let mut previous: Option<Metadata> = None;
    loop {
        let is_requested = tokio::select! {
            _ = tick.tick() => false,
            () = reload.notified() => true,
        };
        status.heartbeat();
        let now = files::metadata(&file).ok();
        // The same twice in a row: it is not being written at the moment.
        let is_stable = is_same(now.as_ref(), previous.as_ref());
        let is_new = !is_same(now.as_ref(), last_read.as_ref());
        previous = now;
        if !is_requested && (!is_stable || !is_new) {
            continue;
        }
        let running = offers.running();
        status.follow(&file);
        let (hash, loaded) = match files::read_to_string(&file) {
            Ok(text) => {
                let hash = super::hash_of(&text);
                // The file has usually not been edited since the start: this saves the memory for a second config.
                // The same text in another folder may name another data root.
                let is_different = hash != running.hash()
                    || in_use::data_root(&file).as_deref() != Some(running.layout.root());
                (hash, is_different.then(|| validate::parse(&file, &text, &variable)))
            }
            // A lack of resources is not a fault of the file: it is read again at the next check.
            Err(error) if error.is_exhausted() => continue,
            Err(error) => (super::hash_of(""), Some(Err(validate::unreadable(&file, &error)))),
        };
        last_read = previous.clone();
        let (edit, config) = loaded.map_or((Edit::None, None), |loaded| compare(&running, loaded));
        if edit != reported {
            log_edit(&file, &edit);
            notice.show(edit.notice(&file));
        }
        // The file may be in another directory by now, if one on its path is a symlink.
        root_note::write(&file, &running.layout);
        match &edit {
            Edit::Refused { reason } => status.set_refused(hash, reason),
            Edit::None | Edit::Valid { .. } => {
                let config = match config {
                    Some(config) => {
                        let config = Arc::new(config);
                        offers.offer(Arc::clone(&config)).await;
                        config
                    }
                    None => running,
                };
                status.set_running(&config);
            }
        }
        reported = if matches!(edit, Edit::Refused { .. }) { edit } else { Edit::None };
    }
}

fn is_same(one: Option<&Metadata>, other: Option<&Metadata>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => files::unchanged(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// Compares the loaded config with the one that the process runs on; also returns it, unless it is refused.
pub(super) fn compare(running: &Config, loaded: Result<Config, Faults>) -> (Edit, Option<Config>) {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(faults) => {
            let reason = format!("it has faults: {}", faults.to_string().replace('\n', "; "));
            return (Edit::Refused { reason }, None);
        }
    };
    let (old, new) = (as_json(running), as_json(&loaded));
    let mut fixed = fixed_settings_that_differ(&old, &new);
    // It depends on the folder of the file, too, which changes if a symlink on its path does.
    if running.layout.root() != loaded.layout.root() && !fixed.iter().any(|name| name == "data_root") {
        fixed.push("data_root".to_owned());
    }
    if !fixed.is_empty() {
        let reason =
            format!("it needs a restart, because these are read only at the start: {}", fixed.join(", "));
        return (Edit::Refused { reason }, None);
    }
    let sections = Vec::from_iter(keys_that_differ(&old, &new)).join(", ");
    let edit = if sections.is_empty() { Edit::None } else { Edit::Valid { sections } };
    (edit, Some(loaded))
}

/// The names of settings, such as `broker.url`, that differ and are read only at the start.
fn fixed_settings_that_differ(old: &Value, new: &Value) -> Vec<String> {
    let of_section = |section: &str| match (&old[section], &new[section]) {
        (Value::Object(_), Value::Object(_)) => {
            let keys = keys_that_differ(&old[section], &new[section]);
            keys.into_iter().map(|key| format!("{section}.{key}")).collect()
        }
        (old, new) if old != new => vec![section.to_owned()],
        _ => Vec::new(),
    };
    FIXED_SECTIONS.into_iter().flat_map(of_section).collect()
}

fn keys_that_differ<'a>(old: &'a Value, new: &'a Value) -> BTreeSet<&'a str> {
    let keys = |value: &'a Value| value.as_object().into_iter().flat_map(|object| object.keys());
    let all = keys(old).chain(keys(new)).map(String::as_str);
    all.filter(|key| *key != "$schema" && old.get(key) != new.get(key)).collect()
}

/// The settings as JSON, with all defaults filled in, so that only their semantics count.
fn as_json(config: &Config) -> Value {
    serde_json::to_value(&config.settings).expect("the settings came from JSON")
}

impl Edit {
    fn notice(&self, file: &Path) -> Option<String> {
        let Self::Refused { reason } = self else { return None };
        Some(format!("{} was edited and is refused, the old config stays: {reason}", file.display()))
    }
}

fn log_edit(file: &Path, edit: &Edit) {
    let file = file.display();
    match edit {
        Edit::None => tracing::info!(%file, "config file matches the running config again"),
        Edit::Valid { sections } => {
            tracing::info!(%file, sections, "config file was edited and is applied")
        }
        Edit::Refused { reason } => {
            tracing::warn!(%file, reason, "config file was edited and is refused, the old config stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use tempfile::TempDir;

    use super::*;

    const OLD: &str = r#"{"clients": [{"id": "a", "apps": [{"name": "x", "command": ["x"]}]}]}"#;

    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("temporary directory"));

    fn config(text: &str) -> Result<Config, Faults> {
        validate::parse(&FOLDER.path().join("config.json"), text, |_| None)
    }

    fn edit_to(text: &str) -> Edit {
        compare(&config(OLD).expect("a valid config"), config(text)).0
    }

    fn with(section: &str) -> String {
        OLD.replacen('{', &format!("{{{section}, "), 1)
    }

    #[test]
    fn only_a_change_of_semantics_is_applied() {
        assert_eq!(edit_to(&OLD.replace(' ', "\n")), Edit::None);
        assert_eq!(edit_to(&with(r#""fetchdata": {"settle": "1000ms"}"#)), Edit::None);
        let edited = with(r#""rules": {"file_name_bytes_max": 9}, "fetchdata": {"settle": "9s"}"#);
        assert_eq!(edit_to(&edited), Edit::Valid { sections: "fetchdata, rules".to_owned() });
        assert_eq!(edit_to(&OLD.replace("\"a\"", "\"b\"")), Edit::Valid { sections: "clients".to_owned() });
    }

    #[test]
    fn a_setting_that_is_read_only_at_the_start_is_refused_by_name() {
        for (section, name) in [
            (r#""broker": {"url": "mqtt://other:1883"}"#, "broker.url"),
            (r#""broker": {"topic_prefix": "other"}"#, "broker.topic_prefix"),
            (r#""coredms": {"url": "mongodb://other"}"#, "coredms.url"),
            (r#""logs": {"retention": "1d"}"#, "logs.retention"),
            (r#""data_root": ".""#, "data_root"),
        ] {
            let Edit::Refused { reason } = edit_to(&with(section)) else { panic!("{section} is applied") };
            assert!(reason.contains("needs a restart") && reason.ends_with(name), "{section}: {reason}");
        }
    }

    #[test]
    fn the_same_text_in_another_folder_is_refused_if_it_then_has_another_data_root() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let edit = |text: &str| {
            let moved = validate::parse(&folder.path().join("config.json"), text, |_| None);
            compare(&config(text).expect("a valid config"), moved).0
        };
        let Edit::Refused { reason } = edit(OLD) else { panic!("it is applied") };
        assert!(reason.contains("needs a restart") && reason.ends_with("data_root"), "{reason}");
        let fixed = format!(r#"{{"data_root": {:?}, {}"#, FOLDER.path(), &OLD[1..]);
        assert_eq!(edit(&fixed), Edit::None);
    }

    #[test]
    fn all_faults_are_reported_in_one_line() {
        for text in [r#"{"clients": [{"id": "A"}], "rule": {}}"#, "{", ""] {
            let Edit::Refused { reason } = edit_to(text) else { panic!("{text} is accepted") };
            assert!(reason.contains("config.json:1:") && !reason.contains('\n'), "{reason}");
        }
    }

    #[tokio::test]
    async fn an_offer_completes_when_the_process_runs_on_it() {
        let (mut live, mut offers) = LiveConfig::new(Arc::new(config(OLD).expect("a valid config")));
        let next = Arc::new(config(&OLD.replace("\"a\"", "\"b\"")).expect("a valid config"));
        let process = async {
            let offered = live.offer().await;
            assert!(
                !Arc::ptr_eq(&live.running(), &offered),
                "it runs on the old one until it reports the new one"
            );
            live.set_running(&offered);
        };
        tokio::join!(offers.offer(Arc::clone(&next)), process);
        assert!(Arc::ptr_eq(&live.running(), &next));
    }
}
