//! The protocol `worker`: a process that stays and gets one unit after the other.

use std::pin::pin;
use std::time::{Duration, Instant};

use mysimbdp_model::app::UnitHeader;
use mysimbdp_platform::process::{Child, InputPipe, OutputPipe, ProcessError, Signal};
use mysimbdp_spool::staging::RejectsWriter;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::timeout;

use super::app_report::{Answer, AppReport, Lists, ReportError, ReportReader};
use super::lines::Lines;
use super::program::Program;
use super::stderr::Stderr;
use super::{Verdict, not_fed, stopped, took_too_long, verdict_of};
use crate::feed::{Feed, FeedingError};

/// A worker that has answered has read everything, so the last write only has to return.
const LAST_WRITE_WAIT: Duration = Duration::from_secs(1);

/// A process that waits for a unit.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    stdin: InputPipe,
    lines: Lines<OutputPipe>,
    stderr: Stderr,
    program: Program,
    pub(super) idle_since: Instant,
}

/// The result of a unit, and the worker if it can take another one.
pub(super) struct WorkerResult {
    pub(super) verdict: Verdict,
    pub(super) rejects: RejectsWriter,
    /// `None` if it has ended, or would read the rest of this unit as the next one.
    pub(super) worker: Option<Worker>,
}

/// How the work on a unit ended.
enum UnitEnd {
    Answer(Answer, Result<(), FeedingError>),
    TimedOut,
    Stopped,
}

impl Worker {
    pub(super) async fn start(program: &Program) -> Result<Self, ProcessError> {
        let mut child = program.spawn([]).start().await?;
        let lost = ProcessError::Ended { pid: child.id().pid };
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { return Err(lost) };
        let stderr = Stderr::read(child.stderr.take(), program.log.clone());
        let lines = Lines::new(stdout);
        Ok(Self { child, stdin, lines, stderr, program: program.clone(), idle_since: Instant::now() })
    }

    /// Whether it has not ended yet, as far as is known.
    pub(super) fn is_alive(&self) -> bool {
        !self.child.has_ended()
    }

    /// Runs one unit.
    pub(super) async fn work(
        mut self,
        header: &UnitHeader,
        feed: Feed,
        lists: Lists,
        mut stop: watch::Receiver<bool>,
    ) -> WorkerResult {
        self.stderr.begin_unit(&self.program.log);
        let mut reader = ReportReader::new(header, lists, self.program.log.clone());
        let end = tokio::select! {
            end = feed_and_read(&mut self.child, &mut self.stdin, &mut self.lines, header, feed, &mut reader) => end,
            () = tokio::time::sleep(self.program.timeout) => UnitEnd::TimedOut,
            () = stopped(&mut stop) => UnitEnd::Stopped,
        };
        let (report, rejects) = match end {
            UnitEnd::Stopped => self.last_answer(reader).await,
            UnitEnd::Answer(..) | UnitEnd::TimedOut => reader.finish().await,
        };
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                self.kill().await;
                return WorkerResult {
                    verdict: Verdict::TryLater(mysimbdp_model::error_chain(&error)),
                    rejects,
                    worker: None,
                };
            }
        };
        let verdict = match end {
            UnitEnd::Answer(Answer::Done, Ok(())) => {
                self.idle_since = Instant::now();
                return WorkerResult { verdict: Verdict::Done(report), rejects, worker: Some(self) };
            }
            UnitEnd::Answer(Answer::Failed { retry, reason }, fed) => {
                let reason = format!("app says: {reason}");
                let verdict = if retry { Verdict::TryLater(reason) } else { Verdict::BadData(reason) };
                // If it has not read all of this unit, it would read the rest as the next one.
                let in_step = fed.is_ok();
                self.idle_since = Instant::now();
                let worker = if in_step { Some(self) } else { self.kill().await };
                return WorkerResult { verdict, rejects, worker };
            }
            UnitEnd::Answer(Answer::Done, Err(error)) => not_fed(&error),
            // Its exit status means something only if it ended by itself and was not killed by us.
            UnitEnd::Answer(Answer::End, Err(error @ FeedingError::Read(_))) => not_fed(&error),
            UnitEnd::Answer(Answer::End, _) => match self.child.stop(Duration::ZERO).await {
                Ok(status) => {
                    let last_line = self.stderr.end().await;
                    match verdict_of(status, report, &last_line) {
                        Verdict::Done(_) => {
                            Verdict::Crashed("app ended with 0 in the middle of a unit".to_owned())
                        }
                        other => other,
                    }
                }
                Err(error) => Verdict::Crashed(mysimbdp_model::error_chain(&error)),
            },
            UnitEnd::TimedOut => took_too_long(&self.program),
            UnitEnd::Stopped if report.done.is_some() => Verdict::Done(report),
            UnitEnd::Stopped => Verdict::Stopped,
        };
        self.kill().await;
        WorkerResult { verdict, rejects, worker: None }
    }

    /// Sends SIGTERM and gives the worker its grace to finish the unit.
    async fn last_answer(
        &mut self,
        mut reader: ReportReader,
    ) -> (Result<AppReport, ReportError>, RejectsWriter) {
        let _ = self.child.id().signal_group(Signal::TERM);
        // It answers or ends within the grace; otherwise the caller kills it.
        let _ = timeout(self.program.stop_grace, reader.read_answer(&mut self.lines)).await;
        reader.finish().await
    }

    /// Ends an idle worker: closes its input, then sends SIGTERM, then SIGKILL.
    pub(super) async fn end(self) {
        let Self { mut child, stdin, stderr, program, .. } = self;
        drop(stdin);
        if timeout(program.stop_grace, child.wait()).await.is_err()
            && let Err(error) = child.stop(program.stop_grace).await
        {
            tracing::warn!(program = %program.path.display(), error = mysimbdp_model::error_chain(&error), "a worker does not end");
        }
        drop(stderr);
    }

    /// Returns the worker that is left, which is always none.
    async fn kill(mut self) -> Option<Self> {
        if let Err(error) = self.child.stop(Duration::ZERO).await {
            let program = self.program.path.display();
            tracing::warn!(%program, error = mysimbdp_model::error_chain(&error), "a worker does not end");
        }
        None
    }
}

/// Feeds the worker and reads its report at the same time, until it has answered or ended.
async fn feed_and_read(
    child: &mut Child,
    stdin: &mut InputPipe,
    lines: &mut Lines<OutputPipe>,
    header: &UnitHeader,
    feed: Feed,
    reader: &mut ReportReader,
) -> UnitEnd {
    let length = feed.length();
    let unanswered = Err(FeedingError::Incomplete { fed: 0, length });
    let mut feeding = pin!(async {
        let mut line = serde_json::to_vec(header).expect("a header has no map");
        line.push(b'\n');
        match stdin.write_all(&line).await {
            Ok(()) => feed.write_to(stdin).await,
            Err(_) => Err(FeedingError::Incomplete { fed: 0, length }),
        }
    });
    let mut fed = None;
    let mut has_ended = false;
    let mut reading = pin!(reader.read_answer(lines));
    let answer = loop {
        tokio::select! {
            answer = &mut reading => break answer,
            result = &mut feeding, if fed.is_none() => match result {
                // The worker must not see the end of an incomplete unit: the caller kills it.
                Err(error @ FeedingError::Read(_)) => return UnitEnd::Answer(Answer::End, Err(error)),
                result => fed = Some(result),
            },
            // Once it has ended, `wait` ends stdout too, even if a descendant holds stdout open.
            _ = child.wait(), if !has_ended => has_ended = true,
        }
    };
    let fed = match fed {
        Some(fed) => fed,
        None => timeout(LAST_WRITE_WAIT, feeding).await.unwrap_or(unanswered),
    };
    UnitEnd::Answer(answer, fed)
}
