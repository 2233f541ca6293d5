//! The protocol `stdin`: one process per unit.

use std::pin::pin;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use mysimbdp_model::app::UnitHeader;
use mysimbdp_platform::failpoint;
use mysimbdp_platform::process::{Child, InputPipe, ProcessError, ProcessId, Signal};
use tokio::sync::watch;
use tokio::time::timeout;

use super::app_report::{AppReport, ClaimError, Hearing, Lists};
use super::lines::Lines;
use super::program::Program;
use super::stderr::Stderr;
use super::{Ran, Verdict, not_fed, not_started, stopped, took_too_long, verdict_of, with_feeding};
use crate::feed::{Feed, FeedingError};

/// A killed process is gone at once, unless it hangs in a device.
const KILLED_WAIT: Duration = Duration::from_secs(10);

pub(super) async fn run(
    program: &Program,
    header: &UnitHeader,
    feed: Feed,
    lists: Lists,
    mut stop: watch::Receiver<bool>,
) -> Ran {
    let since = Instant::now();
    let mut child = match program.spawn(header.to_env()).start().await {
        Ok(child) => child,
        Err(error) => {
            let verdict = not_started(&error);
            return Ran { verdict, rejects: lists.rejects, spawn: since.elapsed() };
        }
    };
    failpoint::hit("batch-manager.app-started");
    let spawn = since.elapsed();
    let mut stderr = Stderr::read(child.stderr.take(), program.log.clone());
    let mut hearing = Hearing::new(header, lists, program.log.clone());
    let id = child.id();
    let ended = {
        let mut work = pin!(work(&mut child, feed, &mut hearing));
        tokio::select! {
            ended = &mut work => Ended::Itself(ended),
            () = tokio::time::sleep(program.timeout) => Ended::Late(stop_it(id, program, work).await),
            () = stopped(&mut stop) => Ended::Stopped(stop_it(id, program, work).await),
        }
    };
    // Before stderr is read to its end, which would not come while a process that not even SIGKILL ended holds it.
    drop(child);
    let last_words = stderr.end().await;
    let (report, rejects) = hearing.finish().await;
    failpoint::hit("batch-manager.app-ended");
    Ran { verdict: verdict(program, ended, report, &last_words), rejects, spawn }
}

type Work = (Result<(), FeedingError>, Result<ExitStatus, ProcessError>);

/// How a process ended; `None` where not even SIGKILL ended it.
enum Ended {
    Itself(Work),
    Late(Option<Work>),
    Stopped(Option<Work>),
}

/// Feeds, listens and waits at the same time, until the process has ended.
async fn work(child: &mut Child, feed: Feed, hearing: &mut Hearing) -> Work {
    let id = child.id();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let listening = async {
        if let Some(stdout) = stdout {
            hearing.all(&mut Lines::new(stdout)).await;
        }
    };
    let (fed, (), status) = tokio::join!(feed_it(stdin, feed, id), listening, child.wait());
    (fed, status)
}

async fn feed_it(stdin: Option<InputPipe>, feed: Feed, id: ProcessId) -> Result<(), FeedingError> {
    let length = feed.length();
    let Some(mut stdin) = stdin else { return Err(FeedingError::Refused { fed: 0, length }) };
    let fed = feed.write_to(&mut stdin).await;
    if let Err(FeedingError::Read(_)) = fed {
        // Killed before stdin is closed: it must not take a short input for a whole one.
        let _ = id.signal_group(Signal::KILL);
        id.wait_gone(KILLED_WAIT).await;
    }
    fed
}

/// SIGTERM, after the grace SIGKILL; all the while it is read from.
async fn stop_it(
    id: ProcessId,
    program: &Program,
    mut work: std::pin::Pin<&mut impl Future<Output = Work>>,
) -> Option<Work> {
    // An error means that it has ended meanwhile, which `work` tells.
    let _ = id.signal_group(Signal::TERM);
    if let Ok(ended) = timeout(program.stop_grace, &mut work).await {
        return Some(ended);
    }
    let _ = id.signal_group(Signal::KILL);
    timeout(KILLED_WAIT, work).await.ok()
}

fn verdict(
    program: &Program,
    ended: Ended,
    report: Result<AppReport, ClaimError>,
    last_words: &str,
) -> Verdict {
    let report = match report {
        Ok(report) => report,
        Err(error) => return Verdict::TryLater(mysimbdp_model::error_chain(&error)),
    };
    let of = |(fed, status): Work| match status {
        _ if matches!(fed, Err(FeedingError::Read(_))) => {
            fed.map_or_else(|error| not_fed(&error), |()| Verdict::Stopped)
        }
        Err(error) => Verdict::Crashed(mysimbdp_model::error_chain(&error)),
        Ok(status) => with_feeding(verdict_of(status, report.clone(), last_words), fed),
    };
    // What was done in spite of the signal is done.
    let unless_done = |work: Option<Work>, otherwise: Verdict| match work.map(of) {
        Some(Verdict::Done(report)) if report.done.is_some() => Verdict::Done(report),
        _ => otherwise,
    };
    match ended {
        Ended::Itself(work) => of(work),
        Ended::Late(work) => unless_done(work, took_too_long(program)),
        Ended::Stopped(work) => unless_done(work, Verdict::Stopped),
    }
}
