//! Tells what in the drop directory cannot be taken by whatever is in its way: once each in the log, and all the while in
//! `mysimbdp status`.

use std::collections::BTreeSet;

use mysimbdp_core::client::ClientId;
use mysimbdp_core::io::sign::{DROP_DIRECTORY, Sign, TEXT_CHARS_MAX};
use mysimbdp_core::layout::Layout;

use crate::ROLE;
use crate::scan::ScanFault;
use crate::tell::Tell;

/// So many are named to a person, who may see the others when these are gone.
const NAMED_MAX: usize = 5;
/// Of each of them: its beginning says what it is about, and its end what to do.
const NAMED_CHARS_MAX: usize = 250;
/// Of all of them; with the count of the others a notice has room for it.
const CHARS_MAX: usize = TEXT_CHARS_MAX - 50;
const SEPARATOR: &str = "; ";

/// For people who wonder why their files stay in the drop directory.
#[derive(Debug)]
pub(crate) struct Waiting {
    sign: Sign,
    told: BTreeSet<String>,
}

impl Waiting {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { sign: Sign::new(layout, ROLE, DROP_DIRECTORY), told: BTreeSet::new() }
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
    let mut texts: Vec<String> = Vec::new();
    let mut chars = 0;
    for text in faults.iter().take(NAMED_MAX).map(|text| without_middle(text)) {
        chars += text.chars().count() + SEPARATOR.len();
        if chars > CHARS_MAX {
            break;
        }
        texts.push(text);
    }
    if faults.len() > texts.len() {
        texts.push(format!("{} more, see the log", faults.len() - texts.len()));
    }
    (!texts.is_empty()).then(|| texts.join(SEPARATOR))
}

fn without_middle(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= NAMED_CHARS_MAX {
        return text.to_owned();
    }
    let half = NAMED_CHARS_MAX / 2;
    let (begin, end) = (&chars[..half], &chars[chars.len() - half..]);
    [begin, &['…'], end].concat().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_named_with_what_to_do_and_the_others_counted() {
        let faults = |count: usize, long: usize| {
            (0..count).map(|n| format!("{n}{} remedy {n}", "x".repeat(long))).collect()
        };
        assert_eq!(summary(&faults(0, 0)), None);
        assert!(summary(&faults(5, 90)).is_some_and(|text| !text.contains("more")));
        for (count, long, named) in [(8, 10, 5), (8, 200, 2), (2, 5000, 2), (1, 5000, 1)] {
            let text = summary(&faults(count, long)).expect("a summary");
            assert!(text.chars().count() <= TEXT_CHARS_MAX, "{text}");
            let remedies = (0..count).filter(|n| text.contains(&format!("x remedy {n}"))).count();
            assert_eq!(remedies, named, "{text}");
            let others = format!("; {} more, see the log", count - named);
            assert_eq!(text.ends_with(&others), count > named, "{text}");
        }
    }
}
