//! Tells what in the drop directory cannot be taken by whatever is in its way: once each in the log, and all the while in
//! `mysimbdp status`.

use std::collections::{BTreeMap, BTreeSet};

use mysimbdp_model::layout::Layout;
use mysimbdp_platform::sign::{DROP_DIRECTORY, Sign, TEXT_CHARS_MAX};

use crate::ROLE;
use crate::route::Area;
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
    told: BTreeMap<Area, BTreeSet<String>>,
}

impl Waiting {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { sign: Sign::new(layout, ROLE, DROP_DIRECTORY), told: BTreeMap::new() }
    }

    /// Takes up what a walk over an area could not look at, and warns of what is new.
    pub(crate) fn tell(&mut self, area: &Area, faults: &[ScanFault], tell: &Tell) {
        let mut found = BTreeSet::new();
        let mut unknown = Vec::new();
        for fault in faults {
            let text = mysimbdp_model::error_chain(fault);
            // What is in the way of several areas is told once.
            if !self.told.values().any(|told| told.contains(&text)) {
                match fault {
                    ScanFault::UnknownFolder(path) => unknown.push(path.name()),
                    _ => tell.unseen(area.client(), fault),
                }
            }
            found.insert(text);
        }
        tell.unknown_folders(&unknown);
        self.told.insert(area.clone(), found);
        self.show();
    }

    /// Forgets areas that are walked no more.
    pub(crate) fn keep(&mut self, is_walked: impl Fn(&Area) -> bool) {
        self.told.retain(|area, _| is_walked(area));
        self.show();
    }

    fn show(&mut self) {
        let all: BTreeSet<&str> = self.told.values().flatten().map(String::as_str).collect();
        self.sign.show(summary(&all));
    }
}

/// `None` if nothing waits.
fn summary(faults: &BTreeSet<&str>) -> Option<String> {
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
        let summary = |count: usize, long: usize| {
            let faults: Vec<_> = (0..count).map(|n| format!("{n}{} remedy {n}", "x".repeat(long))).collect();
            summary(&faults.iter().map(String::as_str).collect())
        };
        assert_eq!(summary(0, 0), None);
        assert!(summary(5, 90).is_some_and(|text| !text.contains("more")));
        for (count, long, named) in [(8, 10, 5), (8, 200, 2), (2, 5000, 2), (1, 5000, 1)] {
            let text = summary(count, long).expect("a summary");
            assert!(text.chars().count() <= TEXT_CHARS_MAX, "{text}");
            let remedies = (0..count).filter(|n| text.contains(&format!("x remedy {n}"))).count();
            assert_eq!(remedies, named, "{text}");
            let others = format!("; {} more, see the log", count - named);
            assert_eq!(text.ends_with(&others), count > named, "{text}");
        }
    }
}
