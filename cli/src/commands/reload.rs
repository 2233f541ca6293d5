//! `mysimbdp reload`: makes the running processes read the config file at once, and reports what each did with it.
//!
//! The processes also read the file by themselves whenever it has changed, so a signal only makes it sooner. Whether a
//! process runs with the file's config, or refuses it, is read from its status file.

use std::time::{Duration, Instant};

use mysimbdp_config::Config;
use mysimbdp_config::process_status::{Found, RunningProcess, find};
use mysimbdp_model::exit;
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_platform::process::Signal;
use mysimbdp_query::snapshot::followers;

use crate::error::CommandError;
use crate::output::Foreign;

/// A process switches to another config between two steps, none of which takes long.
const WITHIN: Duration = Duration::from_secs(20);
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// What a process did with the file's config.
enum Answer {
    RunsOnIt,
    Refuses(String),
    /// It has not reported yet.
    Nothing,
    NotRunning,
    /// It has ended, and `up` starts it again.
    StartsAgain,
    Elsewhere(String),
}

pub async fn run(config: &Config) -> Result<(), CommandError> {
    for kind in followers(config) {
        if let Found::Running(process, _) = find(&config.layout, kind)?
            && process.handles_signal(Signal::HUP)
        {
            // This fails only if the process has ended, which is reported below.
            let _ = process.signal(Signal::HUP);
        }
    }
    let deadline = Instant::now() + WITHIN;
    let mut code = None;
    for kind in followers(config) {
        let answer = loop {
            let answer = self::answer(config, kind)?;
            if !matches!(answer, Answer::Nothing) || Instant::now() >= deadline {
                break answer;
            }
            tokio::time::sleep(CHECK_EVERY).await;
        };
        let (text, bad) = describe(&answer, config);
        println!("{}: {}", kind.name(), Foreign(&text));
        code = code.max(bad);
    }
    match code {
        None => Ok(()),
        Some(code) => Err(CommandError::new(code, "not every process runs on this config")),
    }
}

fn answer(config: &Config, kind: ProcessKind) -> Result<Answer, CommandError> {
    Ok(match find(&config.layout, kind)? {
        Found::NotRunning if matches!(find(&config.layout, ProcessKind::Up)?, Found::Running(..)) => {
            Answer::StartsAgain
        }
        Found::NotRunning => Answer::NotRunning,
        Found::OnOtherHost { holder } => Answer::Elsewhere(holder),
        Found::Running(_, None) => Answer::Nothing,
        Found::Running(_, Some(reported)) => {
            let RunningProcess { config: in_use, refused, .. } = *reported;
            match refused {
                Some(refused) if refused.hash == config.hash() => Answer::Refuses(refused.reason),
                None if in_use.hash == config.hash() => Answer::RunsOnIt,
                _ => Answer::Nothing,
            }
        }
    })
}

/// Describes the answer for people. Returns an exit code as well if the process has not done what was requested.
fn describe(answer: &Answer, config: &Config) -> (String, Option<u8>) {
    match answer {
        Answer::RunsOnIt => (format!("runs on config {}", config.hash()), None),
        Answer::Refuses(reason) => {
            (format!("refuses it, the old config stays: {reason}"), Some(exit::CONFIG))
        }
        Answer::Nothing => (format!("has not applied it within {WITHIN:?}"), Some(exit::TEMPORARY)),
        Answer::NotRunning => ("is not running, and will start with it".to_owned(), Some(exit::UNAVAILABLE)),
        Answer::StartsAgain => {
            ("is not running, `mysimbdp up` restarts it".to_owned(), Some(exit::UNAVAILABLE))
        }
        Answer::Elsewhere(holder) => {
            (format!("runs on another host ({holder}), where it applies the file by itself"), None)
        }
    }
}
