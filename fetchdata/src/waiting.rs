//! Tells what in the drop directory cannot be taken by whatever is in its way: once each in the log, and all the while in
//! `mysimbdp status`.

use std::collections::BTreeSet;

use mysimbdp_core::client::ClientId;
use mysimbdp_core::io::sign::Sign;
use mysimbdp_core::layout::Layout;

use crate::ROLE;
use crate::scan::ScanFault;
use crate::tell::Tell;

/// So many are named to a person, who may see the others when these are gone; a status file holds no more.
const NAMED_MAX: usize = 5;
/// Of each of them.
const NAMED_CHARS_MAX: usize = 100;

/// For people who wonder why their files stay in the drop directory.
#[derive(Debug)]
pub(crate) struct Waiting {
    sign: Sign,
    told: BTreeSet<String>,
}

impl Waiting {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { sign: Sign::new(layout, ROLE, "drop-directory"), told: BTreeSet::new() }
    }

    /// Takes up what a walk could not look at, and warns of what the one before did not have.
    pub(crate) fn tell(&mut self, faults: &[(Option<ClientId>, ScanFault)], tell: &Tell) {
        let mut found = BTreeSet::new();
        let mut unknown = Vec::new();
        for (client, fault) in faults {
            let text = mysimbdp_core::chain(fault);
            if !self.told.contains(&text) {
                match fault {
                    ScanFault::UnknownFolder(path) => unknown.push(path.name()),
                    _ => tell.unseen(client.as_ref(), fault),
                }
            }
            found.insert(text);
        }
        tell.unknown_folders(&unknown);
        self.told = found;
        self.sign.show(summary(&self.told));
    }
}

/// `None` if nothing waits.
fn summary(faults: &BTreeSet<String>) -> Option<String> {
    let named = faults.iter().take(NAMED_MAX).map(|text| text.chars().take(NAMED_CHARS_MAX).collect());
    let mut texts: Vec<String> = named.collect();
    if faults.len() > NAMED_MAX {
        texts.push(format!("{} more, see the log", faults.len() - NAMED_MAX));
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_named_and_the_others_counted() {
        let faults = |count: usize| (0..count).map(|n| format!("{n}{}", "x".repeat(200))).collect();
        assert_eq!(summary(&faults(0)), None);
        assert!(summary(&faults(5)).is_some_and(|text| !text.contains("more")));
        let text = summary(&faults(8)).expect("a summary");
        assert!(text.ends_with("; 3 more, see the log") && text.len() < 600, "{text}");
    }
}
