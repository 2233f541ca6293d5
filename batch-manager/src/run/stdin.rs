//! The protocol `stdin`: one process per unit.

use std::pin::pin;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use mysimbdp_model::app::UnitHeader;
use mysimbdp_platform::failpoint;
use mysimbdp_platform::process::{Child, InputPipe, ProcessError, ProcessId, Signal};
use tokio::sync::watch;
use tokio::time::timeout;

use super::app_report::{AppReport, Lists, ReportError, ReportReader};
use super::lines::Lines;
use super::program::Program;
use super::stderr::Stderr;
use super::{UnitRun, Verdict, not_fed, not_started, stopped, took_too_long, verdict_of, with_feeding};
use crate::feed::{Feed, FeedingError};

/// A killed process ends at once, unless it hangs in a device.
const KILLED_WAIT: Duration = Duration::from_secs(10);

pub(super) async fn run(
    program: &Program,
    header: &UnitHeader,
    feed: Feed,
    lists: Lists,
    mut stop: watch::Receiver<bool>,
) -> UnitRun {
    let since = Instant::now();
    let mut child = match program.spawn(header.to_env()).start().await {
        Ok(child) => child,
        Err(error) => {
            let verdict = not_started(&error);
            return UnitRun { verdict, rejects: lists.rejects, spawn: since.elapsed() };
        }
    };
    failpoint::hit("batch-manager.app-started");
    let spawn = since.elapsed();
    let mut stderr = Stderr::read(child.stderr.take(), program.log.clone());
    let mut reader = ReportReader::new(header, lists, program.log.clone());
    let id = child.id();
    let ended = {
        let mut work = pin!(feed_and_wait(&mut child, feed, &mut reader));
        tokio::select! {
            ended = &mut work => ProcessEnd::ByItself(ended),
            () = tokio::time::sleep(program.timeout) => ProcessEnd::TimedOut(stop_process(id, program, work).await),
            () = stopped(&mut stop) => ProcessEnd::Stopped(stop_process(id, program, work).await),
        }
    };
    // Dropped first: if even SIGKILL did not end the process, stderr would not end before that.
    drop(child);
    let last_line = stderr.end().await;
    let (report, rejects) = reader.finish().await;
    failpoint::hit("batch-manager.app-ended");
    UnitRun { verdict: verdict(program, ended, report, &last_line), rejects, spawn }
}

type FedAndStatus = (Result<(), FeedingError>, Result<ExitStatus, ProcessError>);

/// How a process ended; `None` if not even SIGKILL ended it.
enum ProcessEnd {
    ByItself(FedAndStatus),
    TimedOut(Option<FedAndStatus>),
    Stopped(Option<FedAndStatus>),
}

/// Feeds the process, reads its report and waits for its end at the same time.
async fn feed_and_wait(child: &mut Child, feed: Feed, reader: &mut ReportReader) -> FedAndStatus {
    let id = child.id();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let reading = async {
        if let Some(stdout) = stdout {
            reader.read_all(&mut Lines::new(stdout)).await;
        }
    };
    let (fed, (), status) = tokio::join!(feed_process(stdin, feed, id), reading, child.wait());
    (fed, status)
}

async fn feed_process(stdin: Option<InputPipe>, feed: Feed, id: ProcessId) -> Result<(), FeedingError> {
    let length = feed.length();
    let Some(mut stdin) = stdin else { return Err(FeedingError::Incomplete { fed: 0, length }) };
    let fed = feed.write_to(&mut stdin).await;
    if let Err(FeedingError::Read(_)) = fed {
        // Kill it before stdin is closed: it must not take incomplete input for the whole.
        let _ = id.signal_group(Signal::KILL);
        id.wait_ended(KILLED_WAIT).await;
    }
    fed
}

/// Sends SIGTERM, and SIGKILL after the grace; meanwhile its output is still read.
async fn stop_process(
    id: ProcessId,
    program: &Program,
    mut work: std::pin::Pin<&mut impl Future<Output = FedAndStatus>>,
) -> Option<FedAndStatus> {
    // An error means that it has ended meanwhile, which `work` returns.
    let _ = id.signal_group(Signal::TERM);
    if let Ok(ended) = timeout(program.stop_grace, &mut work).await {
        return Some(ended);
    }
    let _ = id.signal_group(Signal::KILL);
    timeout(KILLED_WAIT, work).await.ok()
}

fn verdict(
    program: &Program,
    ended: ProcessEnd,
    report: Result<AppReport, ReportError>,
    last_line: &str,
) -> Verdict {
    let report = match report {
        Ok(report) => report,
        Err(error) => return Verdict::TryLater(mysimbdp_model::error_chain(&error)),
    };
    let of = |(fed, status): FedAndStatus| match status {
        _ if matches!(fed, Err(FeedingError::Read(_))) => {
            fed.map_or_else(|error| not_fed(&error), |()| Verdict::Stopped)
        }
        Err(error) => Verdict::Crashed(mysimbdp_model::error_chain(&error)),
        Ok(status) => with_feeding(verdict_of(status, report.clone(), last_line), fed),
    };
    // A unit that was done in spite of the signal counts as done.
    let unless_done = |work: Option<FedAndStatus>, otherwise: Verdict| match work.map(of) {
        Some(Verdict::Done(report)) if report.done.is_some() => Verdict::Done(report),
        _ => otherwise,
    };
    match ended {
        ProcessEnd::ByItself(work) => of(work),
        ProcessEnd::TimedOut(work) => unless_done(work, took_too_long(program)),
        ProcessEnd::Stopped(work) => unless_done(work, Verdict::Stopped),
    }
}
