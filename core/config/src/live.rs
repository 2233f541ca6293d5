//! The config of a running process: an edit of `config.json` is taken over, or refused, without a restart.
//!
//! A process has two sides of it:
//!
//! 1. [`watch`] reads the file when it has changed or a reload is asked for, and [`judge`]s it:
//!    - the same meaning, such as other white space: nothing happens;
//!    - sound: offered to the process, and a status file says that it runs on it once it does;
//!    - with faults, or with another value of a setting that only counts at the start: refused as a whole, so that
//!      nothing is half old and half new. A WARN and the status file say why, until the file is right again.
//! 2. [`LiveConfig`] is what the process's loop has: it takes an offer between two steps.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mysimbdp_platform::files::{self, Metadata};
use mysimbdp_platform::sign::Sign;
use serde_json::Value;
use tokio::sync::{Notify, watch as channel};

use super::{Config, Faults, validate};
use crate::process_status::ProcessStatus;

/// Costs a look at the file's metadata.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Sections that only count at the start: a connection, a lock or an open file hangs on each of their settings.
const FROM_THE_START: [&str; 4] = ["broker", "coredms", "data_root", "logs"];

/// The config that a process runs on, and the next one when it is offered.
#[derive(Debug)]
pub struct LiveConfig {
    offered: channel::Receiver<Arc<Config>>,
    running: channel::Sender<Arc<Config>>,
}

/// The other side of a [`LiveConfig`]: offers configs, and sees which one the process runs on.
#[derive(Debug)]
pub struct Offers {
    offered: channel::Sender<Arc<Config>>,
    running: channel::Receiver<Arc<Config>>,
}

/// What the file says, compared with what the process runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    None,
    Sound { sections: String },
    Refused { reason: String },
}

impl LiveConfig {
    /// Both sides of a config that begins as `config`.
    pub fn new(config: Arc<Config>) -> (Self, Offers) {
        let (offered, offers) = channel::channel(Arc::clone(&config));
        let (running, runs) = channel::channel(config);
        (Self { offered: offers, running }, Offers { offered, running: runs })
    }

    /// What the process runs on.
    pub fn running(&self) -> Arc<Config> {
        Arc::clone(&self.running.borrow())
    }

    /// Waits for the next offer, for ever if there will be none. May be dropped and called again.
    pub async fn offer(&mut self) -> Arc<Config> {
        match self.offered.changed().await {
            Ok(()) => Arc::clone(&self.offered.borrow_and_update()),
            Err(_) => std::future::pending().await,
        }
    }

    /// What the process runs on, for parts of it that have a loop of their own.
    pub fn follow(&self) -> channel::Receiver<Arc<Config>> {
        self.running.subscribe()
    }

    /// The process runs on this from now on.
    pub fn taken_over(&self, config: &Arc<Config>) {
        self.running.send_replace(Arc::clone(config));
    }
}

/// A config that does not change.
impl From<Arc<Config>> for LiveConfig {
    fn from(config: Arc<Config>) -> Self {
        Self::new(config).0
    }
}

impl Offers {
    /// Offers a config; returns when the process runs on it.
    pub async fn offer(&mut self, config: Arc<Config>) {
        self.offered.send_replace(Arc::clone(&config));
        // It fails only if the process is about to end.
        let _ = self.running.wait_for(|running| Arc::ptr_eq(running, &config)).await;
    }

    fn running(&self) -> Arc<Config> {
        Arc::clone(&self.running.borrow())
    }
}

/// Watches `file` for the process behind `offers`, until it is dropped. `reload` has it read the file at once.
pub async fn watch(
    file: PathBuf,
    mut offers: Offers,
    variable: impl Fn(&str) -> Option<String>,
    reload: Arc<Notify>,
    mut status: ProcessStatus,
    mut notice: Sign,
) -> Infallible {
    let mut told = Edit::None;
    // Not known yet: the file may have been edited before this was called.
    let mut judged: Option<Metadata> = None;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut before: Option<Metadata> = None;
    loop {
        let is_asked = tokio::select! {
            _ = tick.tick() => false,
            () = reload.notified() => true,
        };
        status.goes_on();
        let now = files::metadata(&file).ok();
        // Twice the same: it is not being written at this moment.
        let rests = is_same(now.as_ref(), before.as_ref());
        let is_new = !is_same(now.as_ref(), judged.as_ref());
        before = now;
        if !is_asked && (!rests || !is_new) {
            continue;
        }
        let running = offers.running();
        let (hash, loaded) = match files::read_to_string(&file) {
            Ok(text) => {
                let hash = super::hash_of(&text);
                // Mostly nothing was edited since the start: then the memory for a second config is saved.
                let is_another = hash != running.hash();
                (hash, is_another.then(|| validate::parse(&file, &text, &variable)))
            }
            // What the machine lacks is no fault of the file's: it is looked at again.
            Err(error) if error.is_exhausted() => continue,
            Err(error) => (super::hash_of(""), Some(Err(validate::unreadable(&file, &error)))),
        };
        judged = before.clone();
        let (edit, config) = loaded.map_or((Edit::None, None), |loaded| judge(&running, loaded));
        if edit != told {
            tell(&file, &edit);
            notice.show(edit.notice(&file));
        }
        match &edit {
            Edit::Refused { reason } => status.refuses(hash, reason),
            Edit::None | Edit::Sound { .. } => {
                let config = match config {
                    Some(config) => {
                        let config = Arc::new(config);
                        offers.offer(Arc::clone(&config)).await;
                        config
                    }
                    None => running,
                };
                status.runs_on(&config);
            }
        }
        told = if matches!(edit, Edit::Refused { .. }) { edit } else { Edit::None };
    }
}

fn is_same(one: Option<&Metadata>, other: Option<&Metadata>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => files::unchanged(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// What the loaded config is to a process that runs on `running`, and the config itself unless it is refused.
pub(super) fn judge(running: &Config, loaded: Result<Config, Faults>) -> (Edit, Option<Config>) {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(faults) => {
            let reason = format!("it has faults: {}", faults.to_string().replace('\n', "; "));
            return (Edit::Refused { reason }, None);
        }
    };
    let (old, new) = (written(running), written(&loaded));
    let fixed = fixed_settings_that_differ(&old, &new);
    if !fixed.is_empty() {
        let reason = format!("it needs a restart, as these count from the start only: {}", fixed.join(", "));
        return (Edit::Refused { reason }, None);
    }
    let sections = Vec::from_iter(keys_that_differ(&old, &new)).join(", ");
    let edit = if sections.is_empty() { Edit::None } else { Edit::Sound { sections } };
    (edit, Some(loaded))
}

/// By name, such as `broker.url`.
fn fixed_settings_that_differ(old: &Value, new: &Value) -> Vec<String> {
    let of_section = |section: &str| match (&old[section], &new[section]) {
        (Value::Object(_), Value::Object(_)) => {
            let keys = keys_that_differ(&old[section], &new[section]);
            keys.into_iter().map(|key| format!("{section}.{key}")).collect()
        }
        (old, new) if old != new => vec![section.to_owned()],
        _ => Vec::new(),
    };
    FROM_THE_START.into_iter().flat_map(of_section).collect()
}

fn keys_that_differ<'a>(old: &'a Value, new: &'a Value) -> BTreeSet<&'a str> {
    let keys = |value: &'a Value| value.as_object().into_iter().flat_map(|object| object.keys());
    let all = keys(old).chain(keys(new)).map(String::as_str);
    all.filter(|key| *key != "$schema" && old.get(key) != new.get(key)).collect()
}

/// With all defaults filled in, so that only what it means counts.
fn written(config: &Config) -> Value {
    serde_json::to_value(&config.settings).expect("the settings came from JSON")
}

impl Edit {
    fn notice(&self, file: &Path) -> Option<String> {
        let Self::Refused { reason } = self else { return None };
        Some(format!("{} was edited and is refused, the old config stays: {reason}", file.display()))
    }
}

fn tell(file: &Path, edit: &Edit) {
    let file = file.display();
    match edit {
        Edit::None => tracing::info!(%file, "config file says again what this process runs on"),
        Edit::Sound { sections } => {
            tracing::info!(%file, sections, "config file was edited and is taken over")
        }
        Edit::Refused { reason } => {
            tracing::warn!(%file, reason, "config file was edited and is refused, the old config stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"clients": [{"id": "a", "apps": [{"name": "x", "command": ["x"]}]}]}"#;

    fn config(text: &str) -> Result<Config, Faults> {
        let folder = tempfile::tempdir().expect("temporary directory");
        validate::parse(&folder.path().join("config.json"), text, |_| None)
    }

    fn edit_to(text: &str) -> Edit {
        judge(&config(OLD).expect("a sound config"), config(text)).0
    }

    fn with(section: &str) -> String {
        OLD.replacen('{', &format!("{{{section}, "), 1)
    }

    #[test]
    fn only_what_means_something_else_is_taken_over() {
        assert_eq!(edit_to(&OLD.replace(' ', "\n")), Edit::None);
        assert_eq!(edit_to(&with(r#""fetchdata": {"settle": "1000ms"}"#)), Edit::None);
        let edited = with(r#""rules": {"file_name_bytes_max": 9}, "fetchdata": {"settle": "9s"}"#);
        assert_eq!(edit_to(&edited), Edit::Sound { sections: "fetchdata, rules".to_owned() });
        assert_eq!(edit_to(&OLD.replace("\"a\"", "\"b\"")), Edit::Sound { sections: "clients".to_owned() });
    }

    #[test]
    fn what_counts_from_the_start_only_is_refused_by_name() {
        for (section, name) in [
            (r#""broker": {"url": "mqtt://other:1883"}"#, "broker.url"),
            (r#""broker": {"topic_prefix": "other"}"#, "broker.topic_prefix"),
            (r#""coredms": {"url": "mongodb://other"}"#, "coredms.url"),
            (r#""logs": {"retention": "1d"}"#, "logs.retention"),
            (r#""data_root": ".""#, "data_root"),
        ] {
            let Edit::Refused { reason } = edit_to(&with(section)) else { panic!("{section} is taken over") };
            assert!(reason.contains("needs a restart") && reason.ends_with(name), "{section}: {reason}");
        }
    }

    #[test]
    fn all_faults_are_told_in_one_line() {
        for text in [r#"{"clients": [{"id": "A"}], "rule": {}}"#, "{", ""] {
            let Edit::Refused { reason } = edit_to(text) else { panic!("{text} is taken for sound") };
            assert!(reason.contains("config.json:1:") && !reason.contains('\n'), "{reason}");
        }
    }

    #[tokio::test]
    async fn an_offer_is_done_when_the_process_runs_on_it() {
        let (mut live, mut offers) = LiveConfig::new(Arc::new(config(OLD).expect("a sound config")));
        let next = Arc::new(config(&OLD.replace("\"a\"", "\"b\"")).expect("a sound config"));
        let process = async {
            let offered = live.offer().await;
            assert!(!Arc::ptr_eq(&live.running(), &offered), "it runs on the old one until it says so");
            live.taken_over(&offered);
        };
        tokio::join!(offers.offer(Arc::clone(&next)), process);
        assert!(Arc::ptr_eq(&live.running(), &next));
    }
}
