//! The list of all metrics, for `docs/metrics.md`.

use std::fmt::Write;

use super::{Definition, Metrics, PlatformMetrics};

/// All families, those of every process first.
pub fn all() -> Vec<Definition> {
    let platform = PlatformMetrics::default().registrar.definitions;
    Metrics::new().registrar.definitions.into_iter().chain(platform).collect()
}

/// The table of all families, as Markdown.
pub fn reference() -> String {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for Definition { name, kind, labels, help } in all() {
        // A string accepts everything.
        let _ = writeln!(table, "| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", "));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Kind;

    #[test]
    fn names_follow_the_conventions() {
        let all = all();
        for Definition { name, kind, labels, help } in &all {
            assert!(name.starts_with("mysimbdp_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(!help.ends_with('.') && !help.contains('|'), "{name}: {help}");
            let known = [
                "client",
                "app",
                "stream",
                "source",
                "state",
                "code",
                "stage",
                "process",
                "lane",
                "result",
                "outcome",
                "contract",
                "direction",
                "version",
            ];
            assert!(labels.iter().all(|label| known.contains(label)), "{name}: {labels:?}");
        }
        let mut names: Vec<&str> = all.iter().map(|definition| definition.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
