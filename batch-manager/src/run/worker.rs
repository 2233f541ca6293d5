//! The protocol `worker`: the process stays and gets unit after unit.

use std::pin::pin;
use std::time::{Duration, Instant};

use mysimbdp_model::app::UnitHeader;
use mysimbdp_platform::process::{Child, InputPipe, OutputPipe, ProcessError, Signal};
use mysimbdp_spool::staging::RejectsWriter;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::timeout;

use super::app_report::{AppReport, ClaimError, Heard, Hearing, Lists};
use super::lines::Lines;
use super::program::Program;
use super::stderr::Stderr;
use super::{Verdict, not_fed, stopped, took_too_long, verdict_of};
use crate::feed::{Feed, FeedingError};

/// Who has answered has read everything, so the last write only has to be noticed.
const NOTICE_WAIT: Duration = Duration::from_secs(1);

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

/// What became of a unit, and of the worker.
pub(super) struct Worked {
    pub(super) verdict: Verdict,
    pub(super) rejects: RejectsWriter,
    /// `None` where it has ended, or is out of step.
    pub(super) worker: Option<Worker>,
}

/// How a worker answered.
enum Answered {
    Heard(Heard, Result<(), FeedingError>),
    Late,
    Stopped,
}

impl Worker {
    pub(super) async fn start(program: &Program) -> Result<Self, ProcessError> {
        let mut child = program.spawn([]).start().await?;
        let gone = ProcessError::Gone { pid: child.id().pid };
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { return Err(gone) };
        let stderr = Stderr::read(child.stderr.take(), program.log.clone());
        let lines = Lines::new(stdout);
        Ok(Self { child, stdin, lines, stderr, program: program.clone(), idle_since: Instant::now() })
    }

    /// Whether it still waits, as far as can be told.
    pub(super) fn is_alive(&self) -> bool {
        !self.child.has_ended()
    }

    /// Does one unit.
    pub(super) async fn work(
        mut self,
        header: &UnitHeader,
        feed: Feed,
        lists: Lists,
        mut stop: watch::Receiver<bool>,
    ) -> Worked {
        self.stderr.begin_unit(&self.program.log);
        let mut hearing = Hearing::new(header, lists, self.program.log.clone());
        let answered = tokio::select! {
            answered = answer(&mut self.child, &mut self.stdin, &mut self.lines, header, feed, &mut hearing) => answered,
            () = tokio::time::sleep(self.program.timeout) => Answered::Late,
            () = stopped(&mut stop) => Answered::Stopped,
        };
        let (report, rejects) = match answered {
            Answered::Stopped => self.last_answer(hearing).await,
            Answered::Heard(..) | Answered::Late => hearing.finish().await,
        };
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                self.kill().await;
                return Worked {
                    verdict: Verdict::TryLater(mysimbdp_model::error_chain(&error)),
                    rejects,
                    worker: None,
                };
            }
        };
        let verdict = match answered {
            Answered::Heard(Heard::Done, Ok(())) => {
                self.idle_since = Instant::now();
                return Worked { verdict: Verdict::Done(report), rejects, worker: Some(self) };
            }
            Answered::Heard(Heard::Failed { retry, reason }, fed) => {
                let reason = format!("app says: {reason}");
                let verdict = if retry { Verdict::TryLater(reason) } else { Verdict::BadData(reason) };
                // Bytes of this unit that it has not read would be the next one's.
                let in_step = fed.is_ok();
                self.idle_since = Instant::now();
                let worker = if in_step { Some(self) } else { self.kill().await };
                return Worked { verdict, rejects, worker };
            }
            Answered::Heard(Heard::Done, Err(error)) => not_fed(&error),
            // Killed by us, or ended by itself: only then its exit status means something.
            Answered::Heard(Heard::End, Err(error @ FeedingError::Read(_))) => not_fed(&error),
            Answered::Heard(Heard::End, _) => match self.child.stop(Duration::ZERO).await {
                Ok(status) => {
                    let last_words = self.stderr.end().await;
                    match verdict_of(status, report, &last_words) {
                        Verdict::Done(_) => {
                            Verdict::Crashed("app ended with 0 in the middle of a unit".to_owned())
                        }
                        other => other,
                    }
                }
                Err(error) => Verdict::Crashed(mysimbdp_model::error_chain(&error)),
            },
            Answered::Late => took_too_long(&self.program),
            Answered::Stopped if report.done.is_some() => Verdict::Done(report),
            Answered::Stopped => Verdict::Stopped,
        };
        self.kill().await;
        Worked { verdict, rejects, worker: None }
    }

    /// Gives the grace to finish the unit after SIGTERM.
    async fn last_answer(&mut self, mut hearing: Hearing) -> (Result<AppReport, ClaimError>, RejectsWriter) {
        let _ = self.child.id().signal_group(Signal::TERM);
        // Either it answers, or it ends; else it is killed.
        let _ = timeout(self.program.stop_grace, hearing.answer(&mut self.lines)).await;
        hearing.finish().await
    }

    /// Ends an idle worker: the end of its input, then SIGTERM, then SIGKILL.
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

    async fn kill(mut self) -> Option<Self> {
        if let Err(error) = self.child.stop(Duration::ZERO).await {
            let program = self.program.path.display();
            tracing::warn!(%program, error = mysimbdp_model::error_chain(&error), "a worker does not end");
        }
        None
    }
}

/// Feeds and listens at the same time, until the unit is answered or the process has ended.
async fn answer(
    child: &mut Child,
    stdin: &mut InputPipe,
    lines: &mut Lines<OutputPipe>,
    header: &UnitHeader,
    feed: Feed,
    hearing: &mut Hearing,
) -> Answered {
    let length = feed.length();
    let unanswered = Err(FeedingError::Refused { fed: 0, length });
    let mut feeding = pin!(async {
        let mut line = serde_json::to_vec(header).expect("a header has no map");
        line.push(b'\n');
        match stdin.write_all(&line).await {
            Ok(()) => feed.write_to(stdin).await,
            Err(_) => Err(FeedingError::Refused { fed: 0, length }),
        }
    });
    let mut fed = None;
    let mut has_ended = false;
    let mut listening = pin!(hearing.answer(lines));
    let heard = loop {
        tokio::select! {
            heard = &mut listening => break heard,
            result = &mut feeding, if fed.is_none() => match result {
                // No end of a unit that is not whole: the caller kills it.
                Err(error @ FeedingError::Read(_)) => return Answered::Heard(Heard::End, Err(error)),
                result => fed = Some(result),
            },
            // Its end ends stdout, even if a descendant holds that open.
            _ = child.wait(), if !has_ended => has_ended = true,
        }
    };
    let fed = match fed {
        Some(fed) => fed,
        None => timeout(NOTICE_WAIT, feeding).await.unwrap_or(unanswered),
    };
    Answered::Heard(heard, fed)
}
