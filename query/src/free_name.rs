//! Names of dropped files: which ones fetchdata never takes, and an unused one if the name is in use.

use std::ffi::{OsStr, OsString};

use mysimbdp_config::Client;
use mysimbdp_platform::files::FileError;
use mysimbdp_spool::drop_directory::{Directory, TEMPORARY_SUFFIXES, is_receipt, is_temporary};

use crate::error::QueryError;

/// More files of one name than ever wait at a time.
const NAMES_MAX: usize = 1000;

/// Returns why fetchdata would never take a file of this name; `None` if it may take it.
pub fn never_taken(client: &Client, name: &OsStr) -> Option<String> {
    if is_temporary(name) {
        return Some(format!(
            "a name with a leading dot, or with {} at the end, means that the file is still being written",
            TEMPORARY_SUFFIXES.join(", ")
        ));
    }
    if is_receipt(name) {
        return Some("it is the name of a receipt".to_owned());
    }
    let suffix = client.settings.files.sentinel.as_ref()?;
    let is_sentinel = name.as_encoded_bytes().ends_with(suffix.as_bytes());
    is_sentinel.then(|| "it is the name of a sentinel, which comes with its file".to_owned())
}

/// Where a file is to be dropped.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    pub folder: &'a Directory,
    /// The client, if its rules are known.
    pub client: Option<&'a Client>,
    /// Whether the file is routed by its name, which it must then keep.
    pub keeps_name: bool,
}

/// Moves a file to the first free name: its own, then `name-2.csv`, `name-3.csv` and so on, but only to names that the
/// client's rules treat alike. Returns the name.
///
/// `move_to` moves the file to a name, and fails if that is in use. If the client requires a sentinel, it is beside the
/// file when this returns.
pub fn first_free(
    destination: Destination,
    name: &OsStr,
    mut move_to: impl FnMut(&OsStr) -> Result<(), FileError>,
) -> Result<OsString, QueryError> {
    for number in 1..=NAMES_MAX {
        let other = if number == 1 { name.to_owned() } else { numbered(name, number) };
        let is_same = || destination.client.is_some_and(|client| are_alike(client, name, &other));
        if number > 1 && (destination.keeps_name || !is_same()) {
            let problem = format!(
                "{} already exists, and the rules would treat {} differently: try again when it has been taken",
                name.display(),
                other.display()
            );
            return Err(QueryError::TryLater(problem));
        }
        let sentinel = destination.sentinel(&other);
        // It belongs to another file, and intake will remove it with that one.
        if sentinel.as_ref().is_some_and(|sentinel| destination.folder.status(sentinel).is_ok()) {
            continue;
        }
        match move_to(&other) {
            Err(error) if error.already_exists() => continue,
            moved => moved?,
        }
        if let Some(sentinel) = sentinel {
            match destination.folder.create(&sentinel) {
                Err(error) if error.already_exists() => {}
                created => drop(created?),
            }
            destination.folder.sync()?;
        }
        return Ok(other);
    }
    let problem = format!("{NAMES_MAX} files of the name {} already exist", name.display());
    Err(QueryError::TryLater(problem))
}

impl Destination<'_> {
    /// The name of the sentinel that a file of this name needs; `None` if it needs none.
    fn sentinel(&self, name: &OsStr) -> Option<OsString> {
        let mut sentinel = name.to_owned();
        sentinel.push(self.client?.settings.files.sentinel.as_ref()?);
        Some(sentinel)
    }
}

/// Adds the number before the extension, because the extension may decide the format.
fn numbered(name: &OsStr, number: usize) -> OsString {
    let path = std::path::Path::new(name);
    let mut other = path.file_stem().unwrap_or(name).to_owned();
    other.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        other.push(".");
        other.push(extension);
    }
    other
}

/// Whether the client's rules treat both names alike, and route them to the same app.
fn are_alike(client: &Client, one: &OsStr, other: &OsStr) -> bool {
    let rules = |name: &OsStr| {
        let text = name.to_string_lossy();
        let app = client.app_for(&text).map(|app| &app.name);
        let matches = client.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&text));
        (client.globs.is_match(name), matches, app)
    };
    // A sentinel keeps its name: it is named after its file.
    let is_sentinel = |suffix: &String| one.to_string_lossy().ends_with(suffix);
    rules(one) == rules(other) && !client.settings.files.sentinel.as_ref().is_some_and(is_sentinel)
}

#[cfg(test)]
mod tests {
    use std::io;

    use mysimbdp_config::Config;

    use super::*;

    fn client(settings: &str) -> Client {
        let folder = tempfile::tempdir().expect("temporary directory");
        let file = folder.path().join("config.json");
        let text = format!(
            r#"{{"clients": [{{"id": "a", {settings} "apps": [{{"name": "one", "files": ["exact.csv"], "command": ["x"]}},
                {{"name": "rest", "command": ["x"]}}]}}]}}"#
        );
        mysimbdp_platform::files::write_atomic(&file, text.as_bytes()).expect("config can be written");
        let config = Config::load(&file, |_| None).unwrap_or_else(|faults| panic!("{faults}"));
        config.clients.into_values().next().expect("a client")
    }

    /// Returns the name that a file gets if the names `in_use` exist.
    fn called(client: &Client, name: &str, in_use: &[&str]) -> Result<String, String> {
        let move_to = |name: &OsStr| match in_use.iter().any(|used| OsStr::new(used) == name) {
            true => Err(FileError {
                action: "move",
                path: name.into(),
                source: io::Error::from(io::ErrorKind::AlreadyExists),
            }),
            false => Ok(()),
        };
        let folder = tempfile::tempdir().expect("temporary directory");
        let folder = Directory::open_platform(folder.path()).expect("directory");
        let destination = Destination { folder: &folder, client: Some(client), keeps_name: false };
        first_free(destination, OsStr::new(name), move_to)
            .map(|name| name.display().to_string())
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_name_that_is_in_use_gets_a_number_and_keeps_its_extension() {
        let client = client("");
        for (name, in_use, expected) in [
            ("a.csv", &[][..], "a.csv"),
            ("a.csv", &["a.csv"], "a-2.csv"),
            ("a.csv", &["a.csv", "a-2.csv"], "a-3.csv"),
            ("a.b.csv", &["a.b.csv"], "a.b-2.csv"),
            ("a", &["a"], "a-2"),
        ] {
            assert_eq!(called(&client, name, in_use).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_name_that_the_rules_treat_differently_is_not_used_instead() {
        let client = client(r#""files": {"pattern": "[a-z.0-9]+", "sentinel": ".done"},"#);
        for name in ["exact.csv", "other.csv", "other.csv.done"] {
            let refused = called(&client, name, &[name]).expect_err(name);
            assert!(refused.contains("try again when it has been taken"), "{refused}");
        }
    }

    #[test]
    fn names_that_would_wait_forever_are_known() {
        let client = client("");
        for name in [".a.csv", "a.part", "a.csv~", "a.csv.receipt.json"] {
            assert!(never_taken(&client, OsStr::new(name)).is_some(), "{name}");
        }
        assert_eq!(never_taken(&client, OsStr::new("a.csv")), None);
    }
}
