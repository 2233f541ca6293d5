//! A headless Chromium, driven as a person would use it.
//!
//! [`Browser::start`] starts a chromedriver of its own and a browser with an empty profile; both end with the test. All waits are for
//! conditions in the page. [`Browser::finish`] checks what no page may do: errors in the console, violations of its policy, requests
//! to another host.

mod actions;
mod axe;
mod driver;
mod traffic;
mod webdriver;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::SOON;
use driver::Driver;
use traffic::Traffic;
use webdriver::Session;

/// Long enough that a page which works does not wait for the test, short enough not to load the machine.
const POLL_EVERY: Duration = Duration::from_millis(40);

/// In each script: the first element of a selector, and all of them.
const PRELUDE: &str = "const $ = (s, in_ = document) => in_.querySelector(s), $$ = (s, in_ = document) => [...in_.querySelectorAll(s)];";

/// Elements that end beyond the right edge and are not in something that scrolls.
const TOO_WIDE: &str = "(() => {
    const isClipped = (element) => {
        for (let one = element.parentElement; one; one = one.parentElement) {
            if (getComputedStyle(one).overflowX !== 'visible') return true;
        }
        return false;
    };
    const wide = $$('body *').filter((element) => {
        const {right, width} = element.getBoundingClientRect();
        return width > 0 && right > innerWidth + 1 && !isClipped(element);
    });
    const {scrollWidth} = document.documentElement;
    return [...(scrollWidth > innerWidth ? [`the page is ${scrollWidth} wide`] : []), ...wide.map((element) => element.outerHTML.slice(0, 200))];
})()";

/// A page in a browser of its own. Dropping it kills all of the browser's processes.
#[derive(Debug)]
pub struct Browser {
    session: Session,
    driver: Driver,
    traffic: RefCell<Traffic>,
}

/// What a page is looked at with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub is_dark: bool,
}

impl Screen {
    pub const DESK: Self = Self { width: 1280, height: 800, is_dark: false };
    pub const PHONE: Self = Self { width: 360, height: 740, is_dark: false };

    #[must_use]
    pub const fn dark(self) -> Self {
        Self { is_dark: true, ..self }
    }
}

impl Browser {
    /// Starts a browser with an empty page of 1280 x 800.
    ///
    /// # Panics
    ///
    /// If Chromium or chromedriver is not installed, or does not start.
    #[track_caller]
    pub fn start() -> Self {
        let (driver, session) = Driver::start();
        let browser = Self { session, driver, traffic: RefCell::default() };
        let downloads = browser.downloads();
        std::fs::create_dir(&downloads).expect("create the directory for downloads");
        browser.devtools(
            "Browser.setDownloadBehavior",
            json!({"behavior": "allow", "downloadPath": downloads, "eventsEnabled": false}),
        );
        browser.look_with(Screen::DESK);
        // What the browser itself shows and asks for at its start is no page's.
        browser.open("about:blank");
        browser.read_logs();
        browser.traffic.take();
        browser
    }

    /// Goes to an address and waits until it is loaded. A change of the fragment alone loads nothing.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.until_done(&format!("{url} is open"), || self.session.go(url));
    }

    /// Loads the page again.
    #[track_caller]
    pub fn reload(&self) {
        self.until_done("the page is loaded again", || self.session.reload());
    }

    /// Changes the size of the page and whether the person prefers dark colours.
    #[track_caller]
    pub fn look_with(&self, screen: Screen) {
        let Screen { width, height, is_dark } = screen;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"media": "", "features": features}));
        let what = format!("the page is {width} x {height} and {scheme}");
        self.until(
            &what,
            &format!("innerWidth === {width} && matchMedia('(prefers-color-scheme: {scheme})').matches"),
        );
        self.until_still();
    }

    /// Waits until nothing moves or changes its colour, except what does so all the time.
    #[track_caller]
    pub fn until_still(&self) {
        let finite =
            "document.getAnimations().filter((one) => one.effect?.getTiming().iterations !== Infinity)";
        self.until("nothing moves", &format!("{finite}.length === 0"));
    }

    /// Shows no scroll bars, as on a phone.
    #[track_caller]
    pub fn hide_scroll_bars(&self) {
        self.devtools("Emulation.setScrollbarsHidden", json!({"hidden": true}));
    }

    /// What is wider than the page, so that one has to scroll sideways to see it: the width of the page's content if it is, and the
    /// elements.
    #[track_caller]
    pub fn too_wide(&self) -> Vec<String> {
        self.until_still();
        let found = self.value(TOO_WIDE);
        found.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    /// Returns the value of an expression in JavaScript. `$` and `$$` find elements; a promise is awaited.
    #[track_caller]
    pub fn value(&self, expression: &str) -> Value {
        self.try_value(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until an expression in JavaScript is true; one that fails is not.
    ///
    /// # Panics
    ///
    /// If it is not true at the deadline. The message has what the page shows.
    #[track_caller]
    pub fn until(&self, what: &str, expression: &str) {
        let started = Instant::now();
        loop {
            let found = self.try_value(expression);
            if matches!(found, Ok(Value::Bool(true))) {
                return;
            }
            assert!(
                started.elapsed() < SOON,
                "waited {SOON:?} in vain until: {what} ({expression} is {found:?})\n{}",
                self.shown()
            );
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// Waits until an element that matches the selector contains a text.
    #[track_caller]
    pub fn until_text(&self, selector: &str, text: &str) {
        let (quoted, part) = (json!(selector), json!(text));
        self.until(
            &format!("{selector} has {text:?}"),
            &format!("$$({quoted}).some((element) => element.textContent.includes({part}))"),
        );
    }

    /// The texts of all elements that match the selector.
    #[track_caller]
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let found = self.value(&format!("$$({}).map((element) => element.textContent)", json!(selector)));
        found.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    /// How many elements match the selector.
    #[track_caller]
    pub fn count(&self, selector: &str) -> u64 {
        self.value(&format!("$$({}).length", json!(selector))).as_u64().expect("a number")
    }

    /// Where the browser saves files.
    pub fn downloads(&self) -> PathBuf {
        self.driver.directory().join("downloads")
    }

    /// A picture of what can be seen, as PNG.
    #[track_caller]
    pub fn picture(&self) -> Vec<u8> {
        self.session.picture().expect("a picture")
    }

    /// Writes a picture of what can be seen.
    #[track_caller]
    pub fn save_picture(&self, path: &Path) {
        std::fs::write(path, self.picture()).expect("write the picture");
    }

    /// From now on errors in the console that contain this are expected.
    pub fn expect_errors(&self, part: &str) {
        self.traffic.borrow_mut().expect_errors(part);
    }

    /// Ends the browser.
    ///
    /// # Panics
    ///
    /// If the page did what no page may do: errors in the console that are not expected, violations of its policy, or requests to
    /// another host than `host`.
    #[track_caller]
    pub fn finish(self, host: &str) {
        self.read_logs();
        let problems = self.traffic.borrow().problems(host);
        assert!(problems.is_empty(), "the page did what no page may do:\n{}", problems.join("\n"));
    }

    /// What the browser has logged since it was last asked; it forgets what it has told.
    fn read_logs(&self) {
        for kind in ["browser", "performance"] {
            let entries = self.session.log(kind).expect("a log");
            self.traffic.borrow_mut().add(kind, &entries);
        }
    }

    #[track_caller]
    fn devtools(&self, command: &str, parameters: Value) -> Value {
        let answer = self.session.devtools(command, &parameters);
        answer.unwrap_or_else(|error| panic!("{command} {parameters}: {error}"))
    }

    fn try_value(&self, expression: &str) -> Result<Value, String> {
        let script = format!(
            "{PRELUDE} const done = arguments[arguments.length - 1]; \
             (async () => ({expression}))().then((value) => done({{value}}), (error) => done({{error: String(error)}}));"
        );
        let answer = self.session.run(&script, true);
        let mut answer = answer.map_err(|error| error.to_string())?;
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer["value"].take()),
        }
    }

    /// What a failed test needs: the address, the text of the page, its errors.
    fn shown(&self) -> String {
        let page = self.try_value("`${location.href}\\n${document.body.innerText.slice(0, 4000)}`");
        self.read_logs();
        let page = page.map_or_else(|error| error, |page| page.as_str().unwrap_or_default().to_owned());
        let path = std::env::temp_dir().join(format!("mysimbdp-failed-{}.png", std::process::id()));
        let picture = match self.session.picture() {
            Ok(picture) if std::fs::write(&path, &picture).is_ok() => path.display().to_string(),
            _ => "none".to_owned(),
        };
        format!("{page}\npicture: {picture}\n{}", self.traffic.borrow().errors().join("\n"))
    }
}
