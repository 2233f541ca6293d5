//! Checks of accessibility with axe-core.

use serde_json::{Value, json};

use super::Browser;
use crate::program::axe;

/// What it found, as lines: rule, element, what is wrong.
const RUN: &str = "
    const done = arguments[arguments.length - 1];
    axe.run(document, {resultTypes: ['violations']})
        .then(({violations}) => done(violations.flatMap(({id, help, nodes}) =>
            nodes.map((node) => `${id}: ${help}: ${node.target.join(' ')}: ${node.html.slice(0, 200)}: ${(node.any[0] ?? node.all[0] ?? node.none[0])?.message ?? ''}`))),
            (error) => done([String(error)]));";

impl Browser {
    /// Returns what hinders people who cannot see, or not well, or who use no mouse, in what is shown now.
    ///
    /// # Panics
    ///
    /// If axe-core is not installed.
    #[track_caller]
    pub fn inaccessible(&self) -> Vec<String> {
        if self.value("typeof axe") == json!("undefined") {
            let source = std::fs::read_to_string(axe()).expect("read axe-core");
            self.session.run(&source, false).expect("axe-core runs");
        }
        // What slides in is judged as it is in the end.
        self.until_still();
        let found = self.session.run(RUN, true).expect("axe-core answers");
        let lines = |found: &Value| found.as_array().cloned().unwrap_or_default();
        lines(&found).iter().filter_map(|line| line.as_str().map(str::to_owned)).collect()
    }
}
