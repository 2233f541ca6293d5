//! What a person does: click, type, choose, press keys.

use std::time::Instant;

use fantoccini::Locator;
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::error::{CmdError, ErrorStatus};
use fantoccini::key::Key;
use serde_json::json;

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
        self.until_done(&format!("{selector} is clicked"), async || {
            self.client.find(Locator::Css(selector)).await?.click().await
        });
    }

    /// Replaces the text of an input.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        self.until_done(&format!("{selector} has {text:?}"), async || {
            let input = self.client.find(Locator::Css(selector)).await?;
            input.clear().await?;
            input.send_keys(text).await
        });
    }

    /// Chooses files in an input for files.
    #[track_caller]
    pub fn choose_files(&self, selector: &str, paths: &[&std::path::Path]) {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        self.until_done(&format!("{selector} has {paths:?}"), async || {
            self.client.find(Locator::Css(selector)).await?.send_keys(&paths.join("\n")).await
        });
    }

    /// Chooses an option of a select, as a person does with the mouse.
    #[track_caller]
    pub fn choose(&self, selector: &str, value: &str) {
        self.until_done(&format!("{selector} is {value:?}"), async || {
            self.client.find(Locator::Css(selector)).await?.select_by_value(value).await
        });
    }

    /// Presses and releases keys by their names, such as `Tab`, `Shift+Tab`, `Enter`, `ArrowDown`, or a character.
    #[track_caller]
    pub fn press(&self, key: &str) {
        let mut actions = KeyActions::new("keyboard".to_owned());
        let keys: Vec<char> = key.split('+').map(named_key).collect();
        for value in &keys {
            actions = actions.then(KeyAction::Down { value: *value });
        }
        for value in keys.iter().rev() {
            actions = actions.then(KeyAction::Up { value: *value });
        }
        self.wait(self.client.perform_actions(actions)).unwrap_or_else(|error| panic!("{key}: {error}"));
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
    pub(super) fn until_done<T>(
        &self,
        what: &str,
        mut action: impl AsyncFnMut() -> Result<T, CmdError>,
    ) -> T {
        let started = Instant::now();
        loop {
            match self.wait(action()) {
                Ok(done) => return done,
                Err(CmdError::Standard(error)) if error.error == ErrorStatus::UnexpectedAlertOpen => {
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
    let key = match name {
        "Tab" => Key::Tab,
        "Shift" => Key::Shift,
        "Control" => Key::Control,
        "Enter" => Key::Enter,
        "Escape" => Key::Escape,
        "Space" => Key::Space,
        "ArrowLeft" => Key::Left,
        "ArrowRight" => Key::Right,
        "ArrowUp" => Key::Up,
        "ArrowDown" => Key::Down,
        "Home" => Key::Home,
        "End" => Key::End,
        "PageDown" => Key::PageDown,
        "PageUp" => Key::PageUp,
        _ => {
            let mut characters = name.chars();
            return match (characters.next(), characters.next()) {
                (Some(character), None) => character,
                _ => panic!("unknown key {name:?}"),
            };
        }
    };
    key.into()
}
