//! Runs a client's program on one work unit.
//!
//! 1. [`Program`] is the command that the config names; `stdin` runs it once per unit, `worker` keeps it for many;
//! 2. the unit is fed while `app_report` reads the program's report on stdout (and `keys` looks up the keys in it)
//!    and `stderr` logs the rest, all at the same time, so neither side can block the other for long;
//! 3. how the program ended becomes a [`Verdict`]. Whether its report is believed is decided elsewhere.

mod app_report;
mod keys;
mod lines;
mod pool;
mod program;
mod stderr;
mod stdin;
mod worker;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use mysimbdp_model::app::{Protocol, UnitHeader};
use mysimbdp_model::exit;
use mysimbdp_platform::process::ProcessError;
use mysimbdp_spool::staging::RejectsWriter;
use tokio::sync::watch;

pub use app_report::{AppReport, Done, ListedRejects, Lists};
pub use keys::{KeyCheck, Keys};
pub use pool::Workers;
pub use program::{AppLog, Program};

use crate::feed::{Feed, FeedingError};

/// How a program ended with a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ended with 0, or a worker reported that it is done.
    Done(AppReport),
    /// Exit 65: the data is bad, and will stay so.
    BadData(String),
    /// Exit 75: it may work later.
    TryLater(String),
    /// Anything else: it ended otherwise, took too long, or did not keep the contract.
    Crashed(String),
    /// The platform is being shut down.
    Stopped,
}

/// One run of a program on one unit.
#[derive(Debug)]
pub struct UnitRun {
    pub verdict: Verdict,
    /// The records that it rejected; they count only with [`Verdict::Done`].
    pub rejects: RejectsWriter,
    /// How long it took until the process could be fed; zero if it was running already.
    pub spawn: Duration,
}

/// Runs `program` on a unit. A worker is started for it and ended after it; [`Workers`] keeps workers for more units.
///
/// The program is ended as at shutdown when `stop` becomes true.
pub async fn run_unit(
    program: &Program,
    header: &UnitHeader,
    feed: Feed,
    lists: Lists,
    stop: watch::Receiver<bool>,
) -> UnitRun {
    match program.protocol {
        Protocol::Stdin => stdin::run(program, header, feed, lists, stop).await,
        Protocol::Worker => {
            let workers = Workers::default();
            let ran = workers.run("only", program, header, feed, lists, stop).await;
            workers.end_all().await;
            ran
        }
    }
}

/// Returns what the exit status of a program means, if it was not stopped.
fn verdict_of(status: ExitStatus, report: AppReport, last_line: &str) -> Verdict {
    let reason = if last_line.is_empty() { String::new() } else { format!(": {last_line}") };
    match (status.code().map(u8::try_from), status.signal()) {
        (Some(Ok(exit::OK)), _) => Verdict::Done(report),
        (Some(Ok(exit::DATA)), _) => Verdict::BadData(format!("app says that the data is bad{reason}")),
        (Some(Ok(exit::TEMPORARY)), _) => {
            Verdict::TryLater(format!("app asks to be run again later{reason}"))
        }
        (Some(Ok(exit::OS_ERROR)), _) => {
            Verdict::TryLater(format!("the system refuses the app threads or processes{reason}"))
        }
        (_, Some(signal)) => Verdict::Crashed(format!("app was ended by signal {signal}{reason}")),
        _ => Verdict::Crashed(format!("app ended with {}{reason}", status.code().unwrap_or(-1))),
    }
}

/// Returns the verdict on a program that has ended or answered successfully: it must also have read all of its input.
fn with_feeding(verdict: Verdict, fed: Result<(), FeedingError>) -> Verdict {
    match (verdict, fed) {
        (Verdict::Done(_), Err(error)) => not_fed(&error),
        (verdict, _) => verdict,
    }
}

fn not_fed(error: &FeedingError) -> Verdict {
    let text = mysimbdp_model::error_chain(error);
    match error {
        FeedingError::Read(_) => Verdict::TryLater(text),
        FeedingError::Incomplete { .. } => Verdict::Crashed(format!("app says it is done, but {text}")),
    }
}

fn not_started(error: &ProcessError) -> Verdict {
    let text = mysimbdp_model::error_chain(error);
    if error.is_exhausted() { Verdict::TryLater(text) } else { Verdict::Crashed(text) }
}

fn took_too_long(program: &Program) -> Verdict {
    Verdict::Crashed(format!("app took longer than {} s and was stopped", program.timeout.as_secs_f64()))
}

/// Waits until `stop` becomes true; for ever if its sender is dropped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exit_status_has_its_meaning() {
        let of = |raw| verdict_of(ExitStatus::from_raw(raw), AppReport::default(), "last words");
        assert_eq!(of(0), Verdict::Done(AppReport::default()));
        assert!(matches!(of(65 << 8), Verdict::BadData(reason) if reason.ends_with(": last words")));
        assert!(matches!(of(75 << 8), Verdict::TryLater(_)));
        assert!(matches!(of(1 << 8), Verdict::Crashed(reason) if reason.contains("with 1")));
        assert!(matches!(of(11), Verdict::Crashed(reason) if reason.contains("signal 11")));
    }

    #[test]
    fn a_machine_without_descriptors_is_not_the_fault_of_the_program() {
        let source = std::io::Error::from_raw_os_error;
        let error = |code| ProcessError::Spawn { program: "app".into(), source: source(code) };
        // Linux: EMFILE and EACCES.
        assert!(matches!(not_started(&error(24)), Verdict::TryLater(_)));
        assert!(matches!(not_started(&error(13)), Verdict::Crashed(_)));
    }

    #[test]
    fn done_without_having_read_everything_is_a_crash() {
        let refused = || Err(FeedingError::Incomplete { fed: 1, length: 9 });
        let verdict = with_feeding(Verdict::Done(AppReport::default()), refused());
        assert!(matches!(verdict, Verdict::Crashed(reason) if reason.contains("1 of 9 bytes")));
        let bad = Verdict::BadData("bad".to_owned());
        assert_eq!(
            with_feeding(bad.clone(), refused()),
            bad,
            "an app may stop reading at the first bad byte"
        );
    }
}
