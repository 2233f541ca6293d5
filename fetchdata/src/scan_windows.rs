//! The window of an owner is the part of its files that a walk scans, if it has more of them than its share. It moves
//! on if all files in it are retries: the files after them must not wait for ever.
//!
//! Pure: takes what a walk has seen, and returns where the next one begins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mysimbdp_spool::drop_directory::DropPath;

use crate::scan::{Owner, Paths};

/// An owner's window moves no more often than this, so that files that always fail are tried at a bounded rate.
const MOVE_EVERY: Duration = Duration::from_secs(60);

/// Where the next walk begins with each owner's files.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    by_owner: BTreeMap<Owner, Window>,
}

#[derive(Debug)]
struct Window {
    moved_at: Instant,
    /// `None`: at the first file.
    start: Option<DropPath>,
}

impl Windows {
    pub(crate) fn starts(&self) -> Paths {
        self.by_owner
            .iter()
            .filter_map(|(owner, window)| Some((owner.clone(), window.start.clone()?)))
            .collect()
    }

    /// Records what a walk has `left_out`. If all files of an owner are retries, the next walk begins where this one
    /// has ended, and after the last file at the first again.
    pub(crate) fn walked(
        &mut self,
        left_out: &Paths,
        all_are_retries: impl Fn(&Owner) -> bool,
        now: Instant,
    ) {
        let owners: BTreeSet<Owner> = self.by_owner.keys().chain(left_out.keys()).cloned().collect();
        for owner in owners {
            let window = self.by_owner.get(&owner);
            let is_due =
                window.is_none_or(|window| now.saturating_duration_since(window.moved_at) >= MOVE_EVERY);
            if !is_due || !all_are_retries(&owner) {
                continue;
            }
            let start = left_out.get(&owner).cloned();
            if start.is_none() && window.is_some_and(|window| window.start.is_none()) {
                self.by_owner.remove(&owner);
            } else {
                self.by_owner.insert(owner, Window { moved_at: now, start });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::manifest::Lane;

    use super::*;

    #[test]
    fn a_window_moves_when_all_its_files_are_retries_and_returns_to_the_first_file() {
        let owner = Owner { client: Some("aaron".parse().expect("client id")), lane: Lane::Live };
        let at = |name: &str| DropPath::root().join(name.as_ref());
        let left_out = |name: &str| Paths::from([(owner.clone(), at(name))]);
        let start = |windows: &Windows| windows.starts().get(&owner).cloned();
        let (mut windows, mut now) = (Windows::default(), Instant::now());

        windows.walked(&left_out("10"), |_| false, now);
        assert_eq!(start(&windows), None, "one file is not a retry");
        windows.walked(&left_out("10"), |_| true, now);
        assert_eq!(start(&windows), Some(at("10")));
        windows.walked(&left_out("20"), |_| true, now + MOVE_EVERY / 2);
        assert_eq!(start(&windows), Some(at("10")), "not before MOVE_EVERY has passed");
        now += MOVE_EVERY;
        windows.walked(&left_out("20"), |_| true, now);
        assert_eq!(start(&windows), Some(at("20")));
        now += MOVE_EVERY;
        windows.walked(&Paths::new(), |_| true, now);
        assert_eq!(start(&windows), None, "after the last one it begins again");
        now += MOVE_EVERY;
        windows.walked(&Paths::new(), |_| true, now);
        assert!(windows.by_owner.is_empty(), "nothing of it is kept");
    }
}
