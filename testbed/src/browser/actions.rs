//! What a person does: click, type, choose, press keys.

use std::time::Instant;

use serde_json::json;

use super::webdriver::Refusal;
use super::{Browser, POLL_EVERY};
use crate::SOON;

impl Browser {
    /// Clicks on the first element that matches the selector, once it can be clicked.
    ///
    /// # Panics
    ///
    /// If it cannot at the deadline: it is not there, not seen, or behind something else.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.until_done(&format!("{selector} is clicked"), || self.session.click(selector));
    }

    /// Replaces the text of an input.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        self.until_done(&format!("{selector} has {text:?}"), || {
            self.session.clear(selector)?;
            self.session.type_into(selector, text)
        });
    }

    /// Chooses files in an input for files.
    #[track_caller]
    pub fn choose_files(&self, selector: &str, paths: &[&std::path::Path]) {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        self.until_done(&format!("{selector} has {paths:?}"), || {
            self.session.type_into(
                selector,
                &paths.join(
                    "
",
                ),
            )
        });
    }

    /// Chooses an option of a select, as a person does with the mouse.
    #[track_caller]
    pub fn choose(&self, selector: &str, value: &str) {
        let option = format!("{selector} option[value={}]", json!(value));
        self.until_done(&format!("{selector} is {value:?}"), || self.session.click(&option));
    }

    /// Presses and releases keys by their names, such as `Tab`, `Shift+Tab`, `Enter`, `ArrowDown`, or a character.
    #[track_caller]
    pub fn press(&self, key: &str) {
        let keys: Vec<char> = key.split('+').map(named_key).collect();
        self.session.press(&keys).unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    /// Presses Tab until an element that matches the selector has the focus.
    ///
    /// # Panics
    ///
    /// If none has after `presses_max`, or the focus cannot be seen on the way.
    #[track_caller]
    pub fn tab_to(&self, selector: &str, presses_max: usize) {
        let is_there = format!("document.activeElement.matches({})", json!(selector));
        for _ in 0..presses_max {
            self.press("Tab");
            let unseen = self.value(UNSEEN_FOCUS);
            assert!(unseen.is_null(), "the focus cannot be seen at {unseen}");
            if self.value(&is_there) == json!(true) {
                return;
            }
        }
        panic!("{selector} is not reached by {presses_max} presses of Tab\n{}", self.shown());
    }

    /// Repeats what fails because the page is not so far yet.
    #[track_caller]
    pub(super) fn until_done<T>(&self, what: &str, mut action: impl FnMut() -> Result<T, Refusal>) -> T {
        let started = Instant::now();
        loop {
            match action() {
                Ok(done) => return done,
                Err(error) if error.is_alert() => {
                    panic!("the page has opened a dialog before: {what}")
                }
                Err(error) if started.elapsed() > SOON => {
                    panic!("waited {SOON:?} in vain until: {what}: {error}\n{}", self.shown())
                }
                Err(_) => std::thread::sleep(POLL_EVERY),
            }
        }
    }
}

/// The element with the focus as text if nothing shows that it has it; null if an outline does. A row's link shows it by
/// `::after`, and what is between the last and the first element of a page is not in it.
const UNSEEN_FOCUS: &str = "(() => {
    const element = document.activeElement;
    if (element === document.body || element === document.documentElement) return null;
    const shows = (pseudo) => {
        const style = getComputedStyle(element, pseudo);
        return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
    };
    const box = element.getBoundingClientRect();
    const isSeen = box.width > 0 && box.height > 0 && (shows(null) || shows('::after'));
    return isSeen ? null : element.outerHTML.slice(0, 300);
})()";

fn named_key(name: &str) -> char {
    // The protocol has a character for each of them.
    match name {
        "Tab" => '\u{e004}',
        "Enter" => '\u{e006}',
        "Shift" => '\u{e008}',
        "Control" => '\u{e009}',
        "Escape" => '\u{e00c}',
        "Space" => ' ',
        "PageUp" => '\u{e00e}',
        "PageDown" => '\u{e00f}',
        "End" => '\u{e010}',
        "Home" => '\u{e011}',
        "ArrowLeft" => '\u{e012}',
        "ArrowUp" => '\u{e013}',
        "ArrowRight" => '\u{e014}',
        "ArrowDown" => '\u{e015}',
        _ => {
            let mut characters = name.chars();
            match (characters.next(), characters.next()) {
                (Some(character), None) => character,
                _ => panic!("unknown key {name:?}"),
            }
        }
    }
}
