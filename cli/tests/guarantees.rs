//! Each test that `docs/guarantees.md` names exists in the file that it gives.

#![allow(clippy::disallowed_methods)]

use std::path::Path;

#[test]
fn each_test_that_the_guarantees_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/guarantees.md")).expect("the guarantees");
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains(".rs` `"));
    let mut named = 0;
    for test in rows.flat_map(|row| row.rsplit("| ").next().into_iter().flat_map(|cell| cell.split("<br>"))) {
        let words: Vec<&str> =
            test.split('`').filter(|word| !word.trim().is_empty() && *word != " |").collect();
        let [file, function] = words[..] else { panic!("{test:?} does not name a file and a function") };
        let path = if file.contains("/tests/") || file.contains("/src/") {
            file.to_owned()
        } else {
            format!("cli/tests/e2e/{file}")
        };
        let source = std::fs::read_to_string(root.join(&path)).unwrap_or_default();
        assert!(source.contains(&format!("fn {function}(")), "{path} has no test {function}");
        named += 1;
    }
    assert!(named > 50, "only {named} tests are named");
}
