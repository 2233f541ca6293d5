//! The config that the running processes keep while they refuse the file, for commands that have to work meanwhile.
//!
//! Each process keeps the text that it runs on in `state/`; all of them run on the same one, apart from brief
//! transitions. The text is read only if a process runs, so a leftover one does no harm.

use std::path::{Path, PathBuf};

use mysimbdp_model::layout::Layout;
use mysimbdp_platform::files;
use serde_json::Value;

use super::{Config, Faults, follower, live, validate};

/// Loads the config of the running processes that follow `file`, or else of those on the data root that it names; `None` if
/// none of them runs.
pub(super) fn load(file: &Path, variable: impl Fn(&str) -> Option<String>) -> Option<Config> {
    let by_the_file = || follower::running(&Layout::new(data_root(file)?), |_| true);
    let follower = follower::follower(file).or_else(by_the_file)?;
    parse_kept(&follower.layout, variable)
}

/// Loads the config of a restarted process: `file`, or the config in use on `data_root` if the processes that run on it
/// refuse `file`.
pub(super) fn load_for_restart(
    file: &Path,
    data_root: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Config, Faults> {
    let from_file = validate::load(file, &variable);
    match parse_kept(&Layout::new(data_root.to_owned()), variable) {
        Some(running) => Ok(live::compare(&running, from_file).1.unwrap_or(running)),
        None => from_file,
    }
}

fn parse_kept(layout: &Layout, variable: impl Fn(&str) -> Option<String>) -> Option<Config> {
    let text = files::read_to_string(&layout.config_in_use()).ok()?;
    validate::parse_in_use(&text, layout.root(), variable)
}

/// The data root that the file names, as far as it can be read, whatever else is wrong there.
pub(super) fn data_root(file: &Path) -> Option<PathBuf> {
    let text = files::read_to_string(file).unwrap_or_default();
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = text.split_once("\"data_root\"").and_then(|(_, rest)| {
        let value = rest.trim_start().strip_prefix(':')?;
        serde_json::Deserializer::from_str(value).into_iter::<Value>().next()?.ok()
    });
    let written = written.as_ref().and_then(Value::as_str).unwrap_or_default();
    files::canonical(&folder.join(written)).ok()
}
