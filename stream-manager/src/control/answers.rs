//! Keeps the last answers: a request that is repeated is answered again, not run again.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::RequestOutcome;

/// How many requests are remembered. QoS 1 repeats a message within seconds, people repeat a request within minutes.
const REMEMBERED_MAX: usize = 256;

/// How many repeats may wait for one answer.
const REPEATS_MAX: usize = 16;

/// Requests by id, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    entries: VecDeque<(String, Entry)>,
}

#[derive(Debug)]
enum Entry {
    Awaited(Vec<oneshot::Sender<RequestOutcome>>),
    Given(RequestOutcome),
}

/// Whether a request is to be run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    New,
    /// It has been answered already, or will be together with the first one.
    Before,
    /// Too many requests wait for an answer; this one has been refused.
    TooMany,
}

impl Answers {
    /// Registers `reply` for the answer to request `id`.
    pub(crate) fn register(&mut self, id: &str, reply: oneshot::Sender<RequestOutcome>) -> Seen {
        if let Some((_, entry)) = self.entries.iter_mut().find(|(known, _)| known == id) {
            match entry {
                Entry::Given(outcome) => send(reply, outcome.clone()),
                Entry::Awaited(replies) if replies.len() < REPEATS_MAX => replies.push(reply),
                Entry::Awaited(_) => send(reply, super::Refusal::Busy.into()),
            }
            return Seen::Before;
        }
        if self.entries.len() >= REMEMBERED_MAX {
            let oldest = self.entries.iter().position(|(_, entry)| matches!(entry, Entry::Given(_)));
            match oldest {
                Some(oldest) => drop(self.entries.remove(oldest)),
                None => {
                    send(reply, super::Refusal::Busy.into());
                    return Seen::TooMany;
                }
            }
        }
        self.entries.push_back((id.to_owned(), Entry::Awaited(vec![reply])));
        Seen::New
    }

    /// Sends the answer to everyone who waits for request `id`.
    pub(crate) fn answer(&mut self, id: &str, outcome: RequestOutcome) {
        if let Some((_, entry)) = self.entries.iter_mut().find(|(known, _)| known == id)
            && let Entry::Awaited(replies) = std::mem::replace(entry, Entry::Given(outcome.clone()))
        {
            replies.into_iter().for_each(|reply| send(reply, outcome.clone()));
        }
    }
}

fn send(reply: oneshot::Sender<RequestOutcome>, outcome: RequestOutcome) {
    // The receiver may no longer exist; then nobody needs the answer.
    let _ = reply.send(outcome);
}

#[cfg(test)]
mod tests {
    use super::super::Refusal;
    use super::*;

    #[test]
    fn a_repeat_gets_the_first_answer_whether_it_comes_before_or_after_it() {
        let mut answers = Answers::default();
        let (mut receivers, ask) = (Vec::new(), |answers: &mut Answers| {
            let (reply, receiver) = oneshot::channel();
            (answers.register("1", reply), receiver)
        });
        for expected in [Seen::New, Seen::Before] {
            let (seen, receiver) = ask(&mut answers);
            assert_eq!(seen, expected);
            receivers.push(receiver);
        }
        answers.answer("1", Refusal::Expired.into());
        let (seen, receiver) = ask(&mut answers);
        assert_eq!(seen, Seen::Before);
        receivers.push(receiver);
        for mut receiver in receivers {
            assert_eq!(receiver.try_recv(), Ok(Refusal::Expired.into()));
        }
    }

    #[test]
    fn a_repeat_beyond_the_limit_is_refused_as_busy() {
        let mut answers = Answers::default();
        let ask = |_| {
            let (reply, receiver) = oneshot::channel();
            answers.register("1", reply);
            receiver
        };
        let mut receivers: Vec<_> = (0..=REPEATS_MAX).map(ask).collect();
        assert_eq!(receivers[REPEATS_MAX].try_recv(), Ok(Refusal::Busy.into()));
        answers.answer("1", Refusal::Expired.into());
        assert_eq!(receivers[REPEATS_MAX - 1].try_recv(), Ok(Refusal::Expired.into()));
    }

    #[test]
    fn the_oldest_answers_are_dropped_and_open_requests_never() {
        let mut answers = Answers::default();
        let mut open = Vec::new();
        for number in 0..REMEMBERED_MAX {
            let (reply, receiver) = oneshot::channel();
            assert_eq!(answers.register(&number.to_string(), reply), Seen::New);
            open.push(receiver);
        }
        let (reply, mut refused) = oneshot::channel();
        assert_eq!(answers.register("one more", reply), Seen::TooMany);
        assert_eq!(refused.try_recv(), Ok(Refusal::Busy.into()));

        answers.answer("5", Refusal::Expired.into());
        let (reply, _receiver) = oneshot::channel();
        assert_eq!(answers.register("one more", reply), Seen::New);
        let (reply, _receiver) = oneshot::channel();
        assert_eq!(answers.register("5", reply), Seen::TooMany, "its answer was dropped to free space");
        answers.answer("6", Refusal::Expired.into());
        assert_eq!(open[6].try_recv(), Ok(Refusal::Expired.into()));
    }
}
