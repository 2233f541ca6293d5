//! Matches requests with their acknowledgements.
//!
//! The library assigns the packet identifier of a request only when it writes it. Requests are written in the order in
//! which they were submitted, so the oldest submitted one is written next.

use std::collections::{HashMap, VecDeque};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Reach;

/// The broker's answer; `Err` holds its reason.
pub(super) type Answer = Result<Reach, String>;

/// Who waits for the acknowledgement of a request.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A caller. The permit bounds the number of callers.
    Caller { answer: oneshot::Sender<Answer>, _permit: Option<OwnedSemaphorePermit> },
    /// The connection itself, which is ready when all of these are answered.
    Setup,
}

/// The requests of one kind on one connection.
#[derive(Debug, Default)]
pub(super) struct Pending {
    submitted: VecDeque<Waiter>,
    written: HashMap<u16, Waiter>,
}

impl Pending {
    pub(super) fn submitted(&mut self, waiter: Waiter) {
        self.submitted.push_back(waiter);
    }

    /// The oldest submitted request has been written under the identifier `id`.
    pub(super) fn written(&mut self, id: u16) {
        if let Some(waiter) = self.submitted.pop_front() {
            self.written.insert(id, waiter);
        }
    }

    /// The broker has answered the request `id`; returns who waits for it.
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
            pending.submitted(Waiter::Caller { answer, _permit: None });
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
