//! When the waiting messages were accepted: to a second, or to a 500th of the longest wait.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

/// Messages that are accepted within this time count as accepted together.
const GROUP_FIRST: Duration = Duration::from_secs(1);
/// If there are more, each becomes twice as long.
const GROUPS_MAX: usize = 1024;

/// When the waiting messages were accepted.
#[derive(Debug)]
pub struct AcceptTimes {
    groups: VecDeque<Group>,
    /// How long a group is.
    group: Duration,
}

#[derive(Debug)]
struct Group {
    /// The number of its last message.
    last: u64,
    /// When its first message was accepted.
    since: SystemTime,
}

impl Default for AcceptTimes {
    fn default() -> Self {
        Self { groups: VecDeque::new(), group: GROUP_FIRST }
    }
}

impl AcceptTimes {
    /// All messages after those of the last call, and through this one, were accepted at this time.
    pub fn accepted(&mut self, last: u64, at: SystemTime) {
        match self.groups.back_mut() {
            Some(group) if at.duration_since(group.since).is_ok_and(|passed| passed < self.group) => {
                group.last = last;
            }
            _ => self.groups.push_back(Group { last, since: at }),
        }
        if self.groups.len() > GROUPS_MAX {
            self.join_neighbours();
        }
    }

    /// No message through this one waits any longer.
    pub fn release(&mut self, through: u64) {
        while self.groups.front().is_some_and(|group| group.last <= through) {
            self.groups.pop_front();
        }
        if self.groups.is_empty() {
            self.group = GROUP_FIRST;
        }
    }

    /// When the oldest message that waits was accepted; `None` if there is none.
    pub fn oldest(&self) -> Option<SystemTime> {
        self.groups.front().map(|group| group.since)
    }

    fn join_neighbours(&mut self) {
        self.group *= 2;
        let groups = self.groups.make_contiguous().chunks(2);
        self.groups = groups
            .filter_map(|two| Some(Group { last: two.last()?.last, since: two.first()?.since }))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_oldest_message_is_the_first_that_is_not_released() {
        let mut times = AcceptTimes::default();
        assert_eq!(times.oldest(), None);
        times.accepted(3, at(10));
        times.accepted(5, at(10) + GROUP_FIRST / 2);
        times.accepted(6, at(12));
        // The clock was set back.
        times.accepted(7, at(5));
        let mut oldest = |through| {
            times.release(through);
            times.oldest()
        };
        assert_eq!([oldest(0), oldest(4)], [Some(at(10)); 2]);
        assert_eq!((oldest(5), oldest(6), oldest(7)), (Some(at(12)), Some(at(5)), None));
    }

    #[test]
    fn memory_is_bounded_and_no_message_seems_younger_than_it_is() {
        let mut times = AcceptTimes::default();
        let count = 86_400;
        for number in 1..=count {
            times.accepted(number, at(number));
        }
        assert!(times.groups.len() <= GROUPS_MAX);
        for through in (0..count).step_by(997) {
            times.release(through);
            let oldest = times.oldest().expect("some wait");
            let too_old = at(through + 1).duration_since(oldest).expect("not younger").as_secs();
            assert!(too_old <= count / 500, "{through}: {too_old} s");
        }
        times.release(count);
        assert_eq!(times.oldest(), None);
    }
}
