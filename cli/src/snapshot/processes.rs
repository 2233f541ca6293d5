//! The platform's processes, by their locks and by what they say about themselves.

use mysimbdp_core::chain;
use mysimbdp_core::config::Config;
use mysimbdp_core::io::process_status::{Found, RunningProcess, find};
use mysimbdp_core::process_kind::ProcessKind;

use super::{Condition, Kind, Part, ProcessDetails};

/// A part for each process that the config demands: the embedded broker only if it names no other.
pub fn processes(config: &Config) -> Vec<Part> {
    let broker = config.broker_url.is_none().then_some(ProcessKind::Broker);
    broker.into_iter().chain(ProcessKind::STAGES).map(|kind| part(config, kind)).collect()
}

fn part(config: &Config, kind: ProcessKind) -> Part {
    let part = |condition, text: String| Part::new(Kind::Process, kind.name(), condition, text);
    match find(&config.layout, kind) {
        Err(error) => part(Condition::Unknown, format!("cannot be looked at: {}", chain(&error))),
        Ok(Found::NotRunning) => {
            let text = format!("does not run; `mysimbdp up` or `mysimbdp {}` starts it", kind.name());
            part(Condition::Missing, text)
        }
        Ok(Found::Elsewhere { holder }) => part(Condition::Unknown, format!("on another host: {holder}")),
        Ok(Found::Running(process, said)) => {
            let text = match &said {
                Some(said) => describe(config, said),
                None => "it could not say which config it runs on".to_owned(),
            };
            let details = ProcessDetails {
                pid: process.pid,
                started_at: said.as_ref().map(|said| said.started_at),
                config: said.as_ref().map(|said| said.config.clone()),
                refused: said.and_then(|said| said.refused),
            };
            let elsewhere = details.config.as_ref().and_then(|in_use| in_use.elsewhere(config));
            let pid = process.pid;
            let part = match elsewhere {
                None => part(Condition::Good, format!("pid {pid}, {text}")),
                Some(elsewhere) => part(Condition::Waits, format!("pid {pid}, {elsewhere}; {text}")),
            };
            Part { process: Some(details), ..part }
        }
    }
}

fn describe(config: &Config, said: &RunningProcess) -> String {
    let RunningProcess { started_at, config: in_use, refused, .. } = said;
    let runs = format!("since {started_at:.0}, on config {} of {:.0}", in_use.hash, in_use.since);
    match refused {
        Some(refused) => format!("{runs}; the edited file is refused: {}", refused.reason),
        // The broker has no use for what else stands there.
        None if in_use.hash != config.hash() && said.role != ProcessKind::Broker.name() => {
            format!("{runs}; the file is another by now, and not taken over yet")
        }
        None => runs,
    }
}
