//! Examines the platform's processes, by their locks and status files.

use std::time::Duration;

use mysimbdp_config::Config;
use mysimbdp_config::process_status::{Found, RunningProcess, find};
use mysimbdp_model::error_chain;
use mysimbdp_model::process_kind::ProcessKind;

use super::{Condition, Part, PartKind, ProcessDetails};

/// The processes that follow the config renew their status files every second; on a busy machine that may be late.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Returns a part for each process that the config requires; the embedded broker only if the config names no other.
pub fn processes(config: &Config) -> Vec<Part> {
    let broker = config.broker_url.is_none().then_some(ProcessKind::Broker);
    broker.into_iter().chain(followers(config)).map(|kind| part(config, kind)).collect()
}

/// The processes that follow the config file: those of the pipeline, and the HTTP server if it runs, or if `up` runs, which
/// starts it too.
pub fn followers(config: &Config) -> impl Iterator<Item = ProcessKind> {
    let runs = |kind| !matches!(find(&config.layout, kind), Ok(Found::NotRunning));
    let serves = runs(ProcessKind::Serve) || runs(ProcessKind::Up);
    ProcessKind::FOLLOWERS.into_iter().filter(move |kind| *kind != ProcessKind::Serve || serves)
}

fn part(config: &Config, kind: ProcessKind) -> Part {
    let part = |condition, text: String| Part::new(PartKind::Process, kind.name(), condition, text);
    match find(&config.layout, kind) {
        Err(error) => part(Condition::Unknown, format!("its state cannot be read: {}", error_chain(&error))),
        Ok(Found::NotRunning) => {
            part(Condition::Missing, format!("is not running; {}", who_starts(config, kind)))
        }
        Ok(Found::OnOtherHost { holder }) => part(Condition::Unknown, format!("on another host: {holder}")),
        Ok(Found::Running(process, reported)) => {
            let text = match &reported {
                Some(reported) => describe(config, reported),
                None => "its status, with the config that it runs on, is unknown".to_owned(),
            };
            let silent = reported.as_ref().and_then(|reported| hangs(kind, reported.silent));
            let details = ProcessDetails {
                pid: process.pid,
                started_at: reported.as_ref().map(|reported| reported.started_at),
                config: reported.as_ref().map(|reported| reported.config.clone()),
                refused: reported.and_then(|reported| reported.refused),
            };
            let pid = process.pid;
            let part = match silent.or_else(|| details.config.as_ref()?.difference(config)) {
                None => part(Condition::Good, format!("pid {pid}, {text}")),
                Some(trouble) => part(Condition::Waits, format!("pid {pid}, {trouble}; {text}")),
            };
            Part { process: Some(details), ..part }
        }
    }
}

/// Says who starts a process that is not running.
fn who_starts(config: &Config, kind: ProcessKind) -> String {
    match find(&config.layout, ProcessKind::Up) {
        Ok(Found::Running(up, Some(reported)))
            if kind == ProcessKind::Broker && reported.config.broker.is_some() =>
        {
            let broker = reported.config.broker.unwrap_or_default();
            format!(
                "`mysimbdp up` (pid {}) uses the broker {broker}, which this config does not name",
                up.pid
            )
        }
        Ok(Found::Running(up, _)) => format!("`mysimbdp up` (pid {}) restarts it", up.pid),
        _ => format!("`mysimbdp up` or `mysimbdp {}` starts it", kind.name()),
    }
}

/// Describes the silence of a process that has reported nothing for too long.
fn hangs(kind: ProcessKind, silent: Duration) -> Option<String> {
    let hangs = ProcessKind::FOLLOWERS.contains(&kind) && silent > SILENCE_MAX;
    hangs.then(|| format!("it hangs or is ending: its last heartbeat was {} s ago", silent.as_secs()))
}

fn describe(config: &Config, reported: &RunningProcess) -> String {
    let RunningProcess { started_at, config: in_use, refused, .. } = reported;
    let runs = format!("since {started_at:.0}, on config {} of {:.0}", in_use.hash, in_use.since);
    match refused {
        Some(refused) => format!("{runs}; the edited file is refused: {}", refused.reason),
        // The broker does not use the other settings.
        None if in_use.hash != config.hash() && reported.process_name != ProcessKind::Broker.name() => {
            format!("{runs}; the file has changed and is not applied yet")
        }
        None => runs,
    }
}
