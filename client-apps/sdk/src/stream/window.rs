//! Notices a broker that sends fewer messages at a time than a batch holds.

/// Batches in a row of exactly the same size. A source that happens to send as many at a time would have to do so
/// this often in a row.
const SAME_SIZE_BATCHES: u32 = 100;

/// Smaller ones are what a slow source looks like.
const WINDOW_MIN: usize = 10;

/// Watches the sizes of batches.
#[derive(Debug, Default)]
pub(crate) struct WindowWatch {
    size: usize,
    times: u32,
    has_warned: bool,
}

impl WindowWatch {
    /// Looks at the size of a batch that was closed because no more came. Says once that the broker's window is the
    /// limit: with acknowledgement after the store it caps each batch, and so the throughput.
    pub(crate) fn note(&mut self, size: usize) -> Option<usize> {
        if size != self.size {
            self.size = size;
            self.times = 0;
        }
        self.times += 1;
        let is_capped = size >= WINDOW_MIN && self.times >= SAME_SIZE_BATCHES && !self.has_warned;
        self.has_warned |= is_capped;
        is_capped.then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_said_once_and_a_slow_source_is_none() {
        let mut watch = WindowWatch::default();
        assert!((0..99).all(|_| watch.note(20).is_none()));
        assert_eq!(watch.note(20), Some(20));
        assert!((0..500).all(|_| watch.note(20).is_none()));
        let mut slow = WindowWatch::default();
        assert!((0..500).all(|_| slow.note(1).is_none()));
        let mut varied = WindowWatch::default();
        assert!((0..500).all(|batch| varied.note(20 + batch % 2).is_none()));
    }
}
