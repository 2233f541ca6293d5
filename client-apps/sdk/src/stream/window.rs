//! Detects a broker that sends fewer messages at a time than a batch holds.

/// Consecutive batches of exactly the same size that count as capped: a source that happens to send this many messages at a
/// time would have to do so this often in a row.
const SAME_SIZE_BATCHES: u32 = 100;

/// The smallest size that counts as capped: smaller batches are typical of a slow source.
const WINDOW_MIN: usize = 10;

/// Watches the sizes of batches.
#[derive(Debug, Default)]
pub(crate) struct WindowWatch {
    size: usize,
    times: u32,
    has_warned: bool,
}

impl WindowWatch {
    /// Takes the size of a batch that was closed because no more messages arrived. Returns the size, once, if the
    /// broker's window is the limit. Messages are acknowledged only once stored, so the broker's limit of
    /// unacknowledged messages caps the batch, and the throughput.
    pub(crate) fn record(&mut self, size: usize) -> Option<usize> {
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
    fn a_cap_is_reported_once_and_a_slow_source_is_not_a_cap() {
        let mut watch = WindowWatch::default();
        assert!((0..99).all(|_| watch.record(20).is_none()));
        assert_eq!(watch.record(20), Some(20));
        assert!((0..500).all(|_| watch.record(20).is_none()));
        let mut slow = WindowWatch::default();
        assert!((0..500).all(|_| slow.record(1).is_none()));
        let mut varied = WindowWatch::default();
        assert!((0..500).all(|batch| varied.record(20 + batch % 2).is_none()));
    }
}
