//! Looks whether `config.json` has been edited while a process runs on what it was before.
//!
//! A process goes on with the config that it started with, whatever becomes of the file: nothing is half old and half
//! new. What it says depends on the edit:
//!
//! - one with faults: a warning with all of them, once, and a sign, until the file is right again;
//! - a sound one that means something else: that a restart is needed, and for which sections;
//! - one that means the same, such as other white space: nothing.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::{Config, Faults, validate};
use crate::io::files::{self, Metadata};
use crate::io::sign::Sign;

/// Costs a look at the file's metadata.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the file says, compared with what the process runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Edit {
    None,
    Sound { sections: String },
    Faulty(String),
}

/// Watches `file` for the process that runs on `running`, until it is dropped.
pub async fn watch(
    file: PathBuf,
    running: Arc<Config>,
    variable: impl Fn(&str) -> Option<String>,
    mut sign: Sign,
) -> Infallible {
    let mut told = Edit::None;
    // Not known yet: the file may have been edited before this was called.
    let mut judged: Option<Metadata> = None;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut before: Option<Metadata> = None;
    loop {
        tick.tick().await;
        let now = files::metadata(&file).ok();
        // Twice the same: it is not being written at this moment.
        let rests = is_same(now.as_ref(), before.as_ref());
        let is_new = !is_same(now.as_ref(), judged.as_ref());
        before = now;
        if !rests || !is_new {
            continue;
        }
        let loaded = match files::read_to_string(&file) {
            // Mostly nothing was edited since the start: then the memory for a second config is saved.
            Ok(text) if xxh3_64(text.as_bytes()) == running.text_xxh3 => None,
            Ok(text) => Some(validate::parse(&file, &text, &variable)),
            // What the machine lacks is no fault of the file's: it is looked at again.
            Err(error) if error.is_exhausted() => continue,
            Err(error) => Some(Err(validate::unreadable(&file, &error))),
        };
        judged = before.clone();
        let edit = loaded.map_or(Edit::None, |loaded| compare(&running, loaded));
        if edit != told {
            tell(&file, &edit);
            sign.show(edit.text(&file));
            told = edit;
        }
    }
}

fn is_same(one: Option<&Metadata>, other: Option<&Metadata>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => files::unchanged(one, other),
        (None, None) => true,
        _ => false,
    }
}

fn compare(running: &Config, loaded: Result<Config, Faults>) -> Edit {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(faults) => return Edit::Faulty(faults.to_string().replace('\n', "; ")),
    };
    let (Value::Object(old), Value::Object(new)) = (written(running), written(&loaded)) else {
        return Edit::None;
    };
    let differs = |key: &&String| old.get(*key) != new.get(*key);
    let mut sections: Vec<&str> = old
        .keys()
        .chain(new.keys())
        .filter(differs)
        .map(String::as_str)
        .filter(|key| *key != "$schema")
        .collect();
    sections.sort_unstable();
    sections.dedup();
    match sections.is_empty() {
        true => Edit::None,
        false => Edit::Sound { sections: sections.join(", ") },
    }
}

/// With all defaults filled in, so that only what it means counts.
fn written(config: &Config) -> Value {
    serde_json::to_value(&config.settings).expect("the settings came from JSON")
}

fn tell(file: &Path, edit: &Edit) {
    let file = file.display();
    match edit {
        Edit::None => tracing::info!(%file, "config file says again what this process runs on"),
        Edit::Sound { sections } => {
            tracing::info!(%file, sections, "config file was edited, a restart is needed for it to count");
        }
        Edit::Faulty(faults) => {
            tracing::warn!(%file, faults, "config file was edited and has faults, this process goes on with the old one");
        }
    }
}

impl Edit {
    fn text(&self, file: &Path) -> Option<String> {
        let file = file.display();
        match self {
            Self::None => None,
            Self::Sound { sections } => {
                Some(format!("{file} was edited ({sections}), a restart is needed for it to count"))
            }
            Self::Faulty(faults) => Some(format!("{file} has faults, the old config stays: {faults}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"clients": [{"id": "a", "apps": [{"name": "x", "command": ["x"]}]}]}"#;

    fn edit_to(text: &str) -> Edit {
        let folder = tempfile::tempdir().expect("temporary directory");
        let file = folder.path().join("config.json");
        let load = |text: &str| {
            files::write_atomic(&file, text.as_bytes()).expect("config can be written");
            Config::load(&file, |_| None)
        };
        let running = load(OLD).expect("a sound config");
        compare(&running, load(text))
    }

    #[test]
    fn only_what_means_something_else_needs_a_restart() {
        assert_eq!(edit_to(&OLD.replace(' ', "\n")), Edit::None);
        assert_eq!(edit_to(&OLD.replacen('{', r#"{"fetchdata": {"settle": "1000ms"}, "#, 1)), Edit::None);
        assert_eq!(
            edit_to(&OLD.replacen('{', r#"{"logs": {"level": "debug"}, "fetchdata": {"settle": "9s"}, "#, 1)),
            Edit::Sound { sections: "fetchdata, logs".to_owned() }
        );
    }

    #[test]
    fn all_faults_are_told_in_one_line() {
        for text in [r#"{"clients": [{"id": "A"}], "rule": {}}"#, "{", ""] {
            let Edit::Faulty(faults) = edit_to(text) else { panic!("{text} is taken for sound") };
            assert!(faults.contains("config.json:1:") && !faults.contains('\n'), "{faults}");
        }
    }
}
