//! Moves on where a client has more files than its share of a walk and all that are seen of them are taken in vain: those
//! behind them must not wait without end.
//!
//! Pure: what a walk has seen in, where the next one begins out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use mysimbdp_spool::drop_directory::DropPath;

use crate::scan::{Owner, Paths};

/// An owner's window moves no more often than this, so that files which fail for ever are tried at a bounded rate.
const MOVE_EVERY: Duration = Duration::from_secs(60);

/// Where the looks at each owner begin.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    moved: BTreeMap<Owner, Moved>,
}

#[derive(Debug)]
struct Moved {
    at: Instant,
    /// `None`: with the first file.
    start: Option<DropPath>,
}

impl Windows {
    pub(crate) fn starts(&self) -> Paths {
        self.moved.iter().filter_map(|(owner, moved)| Some((owner.clone(), moved.start.clone()?))).collect()
    }

    /// Takes in what a walk has `cut_off`. When all that was seen of an owner is in vain, the next walk begins where this one
    /// has ended, and behind the last file with the first again.
    pub(crate) fn walked(&mut self, cut_off: &Paths, all_in_vain: impl Fn(&Owner) -> bool, now: Instant) {
        let owners: BTreeSet<Owner> = self.moved.keys().chain(cut_off.keys()).cloned().collect();
        for owner in owners {
            let moved = self.moved.get(&owner);
            let is_due = moved.is_none_or(|moved| now.saturating_duration_since(moved.at) >= MOVE_EVERY);
            if !is_due || !all_in_vain(&owner) {
                continue;
            }
            let start = cut_off.get(&owner).cloned();
            if start.is_none() && moved.is_some_and(|moved| moved.start.is_none()) {
                self.moved.remove(&owner);
            } else {
                self.moved.insert(owner, Moved { at: now, start });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::manifest::Lane;

    use super::*;

    #[test]
    fn a_window_moves_when_all_in_it_is_in_vain_and_returns_to_the_first() {
        let owner = Owner { client: Some("aaron".parse().expect("client id")), lane: Lane::Live };
        let at = |name: &str| DropPath::root().join(name.as_ref());
        let cut_off = |name: &str| Paths::from([(owner.clone(), at(name))]);
        let start = |windows: &Windows| windows.starts().get(&owner).cloned();
        let (mut windows, mut now) = (Windows::default(), Instant::now());

        windows.walked(&cut_off("10"), |_| false, now);
        assert_eq!(start(&windows), None, "one is on its way");
        windows.walked(&cut_off("10"), |_| true, now);
        assert_eq!(start(&windows), Some(at("10")));
        windows.walked(&cut_off("20"), |_| true, now + MOVE_EVERY / 2);
        assert_eq!(start(&windows), Some(at("10")), "not so soon");
        now += MOVE_EVERY;
        windows.walked(&cut_off("20"), |_| true, now);
        assert_eq!(start(&windows), Some(at("20")));
        now += MOVE_EVERY;
        windows.walked(&Paths::new(), |_| true, now);
        assert_eq!(start(&windows), None, "behind the last one it begins again");
        now += MOVE_EVERY;
        windows.walked(&Paths::new(), |_| true, now);
        assert!(windows.moved.is_empty(), "nothing is left of it");
    }
}
