//! The config that the running processes keep while they refuse the file, for commands that have to work meanwhile.
//!
//! Each process keeps the text that it runs on in `state/`; all of them run on the same one, apart from brief
//! transitions. The text is read only if a process runs, so a leftover one does no harm.

use std::path::{Path, PathBuf};

use mysimbdp_model::layout::Layout;
use mysimbdp_platform::files;
use serde_json::Value;

use super::{Config, Faults, live, root_note, validate};

/// Loads the config of the running processes that were started with `file`; `None` if none of them runs.
pub(super) fn load(file: &Path, variable: impl Fn(&str) -> Option<String>) -> Option<Config> {
    let by_the_file = || root_note::running(&Layout::new(data_root(file)?), |_| true);
    let follower = root_note::follower(file).or_else(by_the_file)?;
    parse_kept(file, &follower.layout.config_in_use(), variable)
}

/// Loads the config of a restarted process: `file`, or the config kept in `in_use` if the processes that run on it
/// refuse `file`.
pub(super) fn load_again(
    file: &Path,
    in_use: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Config, Faults> {
    let from_file = validate::load(file, &variable);
    match parse_kept(file, in_use, variable) {
        Some(running) => Ok(live::compare(&running, from_file).1.unwrap_or(running)),
        None => from_file,
    }
}

fn parse_kept(file: &Path, in_use: &Path, variable: impl Fn(&str) -> Option<String>) -> Option<Config> {
    let text = files::read_to_string(in_use).ok()?;
    validate::parse(file, &text, variable).ok()
}

/// The data root that the file names, as far as it can be read, whatever else is wrong there.
fn data_root(file: &Path) -> Option<PathBuf> {
    let text = files::read_to_string(file).unwrap_or_default();
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = text.split_once("\"data_root\"").and_then(|(_, rest)| {
        let value = rest.trim_start().strip_prefix(':')?;
        serde_json::Deserializer::from_str(value).into_iter::<Value>().next()?.ok()
    });
    let written = written.as_ref().and_then(Value::as_str).unwrap_or_default();
    files::canonical(&folder.join(written)).ok()
}
