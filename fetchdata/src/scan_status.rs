//! Reports what in the drop directory cannot be processed because something is in its way: once each in the log, and
//! continuously in `mysimbdp status`.

use std::collections::{BTreeMap, BTreeSet};

use mysimbdp_model::layout::Layout;
use mysimbdp_platform::notice::{DROP_DIRECTORY, NoticeFile, TEXT_CHARS_MAX};

use crate::PROCESS_NAME;
use crate::burst_log::BurstLog;
use crate::route::Area;
use crate::scan::ScanFault;

/// This many faults are named to a person, who may see the others when these are removed.
const NAMED_MAX: usize = 5;
/// For each of them: its beginning says what it is about, its end what to do.
const NAMED_CHARS_MAX: usize = 250;
/// For all of them; the rest of a notice is for the count of the others.
const CHARS_MAX: usize = TEXT_CHARS_MAX - 50;
const SEPARATOR: &str = "; ";

/// For people who wonder why their files stay in the drop directory.
#[derive(Debug)]
pub(crate) struct ScanStatus {
    notice_file: NoticeFile,
    reported: BTreeMap<Area, BTreeSet<String>>,
}

impl ScanStatus {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { notice_file: NoticeFile::new(layout, PROCESS_NAME, DROP_DIRECTORY), reported: BTreeMap::new() }
    }

    /// Records what a walk over an area could not scan, and warns of what is new.
    pub(crate) fn update(&mut self, area: &Area, faults: &[ScanFault], log: &BurstLog) {
        let mut found = BTreeSet::new();
        let mut unknown = Vec::new();
        for fault in faults {
            let text = mysimbdp_model::error_chain(fault);
            // A fault that affects several areas is logged once.
            if !self.reported.values().any(|reported| reported.contains(&text)) {
                match fault {
                    ScanFault::UnknownFolder(path) => unknown.push(path.name()),
                    _ => log.not_scanned(area.client(), fault),
                }
            }
            found.insert(text);
        }
        log.unknown_folders(&unknown);
        self.reported.insert(area.clone(), found);
        self.write();
    }

    /// Forgets areas that are no longer walked.
    pub(crate) fn retain(&mut self, is_walked: impl Fn(&Area) -> bool) {
        self.reported.retain(|area, _| is_walked(area));
        self.write();
    }

    fn write(&mut self) {
        let all: BTreeSet<&str> = self.reported.values().flatten().map(String::as_str).collect();
        self.notice_file.show(summary(&all));
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
    fn a_few_faults_are_named_with_their_remedy_and_the_others_counted() {
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
