//! Which request waits for which acknowledgement.
//!
//! The library gives a request its packet identifier only when it writes it. Requests are written in the order in
//! which they were handed over, so the oldest one handed over is the one that is written next.

use std::collections::{HashMap, VecDeque};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Reach;

/// What the broker answers: `Err` holds its reason.
pub(super) type Answer = Result<Reach, String>;

/// Who waits for the acknowledgement of a request.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A caller. The permit bounds how many there are.
    Caller { answer: oneshot::Sender<Answer>, _permit: Option<OwnedSemaphorePermit> },
    /// The connection itself, which is ready when all of these are answered.
    Setup,
}

/// The requests of one kind on one connection.
#[derive(Debug, Default)]
pub(super) struct Pending {
    handed_over: VecDeque<Waiter>,
    written: HashMap<u16, Waiter>,
}

impl Pending {
    pub(super) fn handed_over(&mut self, waiter: Waiter) {
        self.handed_over.push_back(waiter);
    }

    /// The oldest request handed over has been written under the identifier `id`.
    pub(super) fn written(&mut self, id: u16) {
        if let Some(waiter) = self.handed_over.pop_front() {
            self.written.insert(id, waiter);
        }
    }

    /// The broker has answered `id`.
    pub(super) fn answered(&mut self, id: u16) -> Option<Waiter> {
        self.written.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_request_in_any_order() {
        let mut pending = Pending::default();
        let mut receivers = Vec::new();
        for _ in 0..3 {
            let (answer, receiver) = oneshot::channel();
            pending.handed_over(Waiter::Caller { answer, _permit: None });
            receivers.push(receiver);
        }
        pending.written(7);
        pending.written(8);
        assert!(pending.answered(9).is_none(), "not written yet");
        for (id, reason) in [(8, "second"), (7, "first")] {
            match pending.answered(id) {
                Some(Waiter::Caller { answer, .. }) => {
                    answer.send(Err(reason.to_owned())).expect("receiver lives")
                }
                other => panic!("expected a caller at {id}, got {other:?}"),
            }
        }
        let mut answer = |index: usize| receivers[index].try_recv();
        assert_eq!(answer(0), Ok(Err("first".to_owned())));
        assert_eq!(answer(1), Ok(Err("second".to_owned())));
        assert_eq!(answer(2), Err(oneshot::error::TryRecvError::Empty));
    }
}
