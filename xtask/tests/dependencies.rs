//! The third-party dependencies comply with the rules in `deny.toml`, and no advisory affects them.
//!
//! `advisories.tsv` lists the known advisories of each locked package on the date in its first line. A package that is not
//! listed was not looked up, which fails a test.

#![allow(clippy::disallowed_methods, reason = "the I/O adapters are for the platform")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use semver::{Version, VersionReq};
use serde_json::Value;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Clone, Debug, PartialEq, Eq)]
struct Locked {
    name: String,
    version: Version,
    /// `None` for a package in this tree.
    source: Option<String>,
}

#[derive(Debug)]
struct Advisory<'a> {
    package: &'a str,
    id: &'a str,
    kind: &'a str,
    good: Vec<VersionReq>,
}

impl Advisory<'_> {
    fn affects(&self, locked: &Locked) -> bool {
        self.package == locked.name && !self.good.iter().any(|good| good.matches(&locked.version))
    }
}

fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table(name: &str) -> toml::Table {
    file(name).parse().unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn locked() -> Vec<Locked> {
    let lock = table("Cargo.lock");
    let text = |package: &toml::Value, key: &str| {
        package.get(key).and_then(|value| value.as_str().map(str::to_owned))
    };
    let packages = lock["package"].as_array().expect("packages");
    let packages = packages.iter().map(|package| Locked {
        name: text(package, "name").expect("a name"),
        version: text(package, "version").expect("a version").parse().expect("a semantic version"),
        source: text(package, "source"),
    });
    packages.collect()
}

fn advisories(list: &str) -> Vec<Advisory<'_>> {
    let lines = list.lines().filter(|line| !line.starts_with('#') && !line.ends_with("\tnone"));
    let advisories = lines.map(|line| {
        let [package, id, kind, good] = line
            .split('\t')
            .collect::<Vec<_>>()
            .try_into()
            .unwrap_or_else(|_| panic!("four columns: {line:?}"));
        let good = good.split(" | ").filter(|good| !good.is_empty());
        let good =
            good.map(|good| good.parse().unwrap_or_else(|error| panic!("{line:?}: {error}"))).collect();
        Advisory { package, id, kind, good }
    });
    advisories.collect()
}

/// Returns the rule `key` of `section` in `deny.toml`.
fn rule(section: &str, key: &str) -> toml::Value {
    let rules = table("deny.toml");
    rules
        .get(section)
        .and_then(|section| section.get(key))
        .unwrap_or_else(|| panic!("{section}.{key}"))
        .clone()
}

/// Whether an SPDX expression can be met with licences in `allowed` alone. `/` is an old spelling of `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced =
        expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "\0");
    let mut words = spaced.split_whitespace().peekable();
    let is_met = any(&mut words, allowed);
    is_met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut is_met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        is_met |= all(words, allowed);
    }
    is_met
}

fn all(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut is_met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        is_met &= one(words, allowed);
    }
    is_met
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    match words.next() {
        Some("(") => any(words, allowed) & (words.next() == Some(")")),
        Some(licence) => allowed.contains(&licence.replace('\0', " WITH ")),
        None => false,
    }
}

fn allowed_licences() -> BTreeSet<String> {
    let allowed = rule("licenses", "allow");
    let allowed = allowed.as_array().expect("licences").iter();
    allowed.map(|licence| licence.as_str().expect("a licence").to_owned()).collect()
}

/// Returns the packages that are built on this system.
fn packages() -> Vec<Value> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", &target]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

#[test]
fn no_advisory_affects_a_locked_version_except_accepted_ones() {
    let (list, locked) = (file("xtask/advisories.tsv"), locked());
    let advisories = advisories(&list);
    assert!(!advisories.is_empty(), "a list without advisories compares nothing");
    let accepted = rule("advisories", "ignore");
    let mut accepted: BTreeSet<&str> = accepted
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            assert!(entry.get("reason").is_some(), "{entry:?} has no reason");
            entry["id"].as_str().expect("an id")
        })
        .collect();
    let mut found = Vec::new();
    for advisory in &advisories {
        for package in locked.iter().filter(|package| advisory.affects(package)) {
            if !accepted.remove(advisory.id) {
                found.push(format!(
                    "{} {}: {} ({})",
                    package.name, package.version, advisory.id, advisory.kind
                ));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(accepted.is_empty(), "deny.toml accepts advisories that affect no locked version: {accepted:?}");
}

#[test]
fn every_locked_package_was_looked_up() {
    let list = file("xtask/advisories.tsv");
    let looked_up: BTreeSet<&str> = list.lines().filter_map(|line| line.split('\t').next()).collect();
    let others = locked().into_iter().filter(|package| package.source.is_some());
    let missing: Vec<String> =
        others.map(|package| package.name).filter(|name| !looked_up.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "run `cargo xtask advisories <clone of rustsec/advisory-db>`: {missing:?}");
}

#[test]
fn the_advisories_of_an_old_webpki_are_found_and_the_current_one_has_none() {
    let list = file("xtask/advisories.tsv");
    let affecting = |name: &str, version: Version| -> Vec<&str> {
        let locked = Locked { name: name.to_owned(), version, source: None };
        advisories(&list)
            .iter()
            .filter(|advisory| advisory.affects(&locked))
            .map(|advisory| advisory.id)
            .collect()
    };
    let webpki = ["RUSTSEC-2026-0049", "RUSTSEC-2026-0098", "RUSTSEC-2026-0099", "RUSTSEC-2026-0104"];
    assert_eq!(affecting("rustls-webpki", Version::new(0, 102, 8)), webpki);
    assert_eq!(affecting("rustls-webpki", Version::new(0, 103, 16)), [""; 0]);
    assert_eq!(affecting("rustls-pemfile", Version::new(2, 2, 0)), ["RUSTSEC-2025-0134"]);
}

#[test]
fn every_package_comes_from_this_tree_or_from_crates_io() {
    for rule_for_unknown in ["unknown-registry", "unknown-git"] {
        assert_eq!(rule("sources", rule_for_unknown).as_str(), Some("deny"));
    }
    let others = locked()
        .into_iter()
        .filter(|package| package.source.as_deref().is_some_and(|from| from != CRATES_IO));
    assert_eq!(others.collect::<Vec<_>>(), []);
}

#[test]
fn every_licence_was_reviewed() {
    let allowed = allowed_licences();
    let packages = packages();
    assert!(packages.len() > 100, "{} packages", packages.len());
    let refused = packages.iter().filter(|package| {
        let licence = package["license"].as_str().unwrap_or_default();
        !is_allowed(licence, &allowed)
    });
    let refused: Vec<_> =
        refused.map(|package| format!("{}: {}", package["name"], package["license"])).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn no_dependency_of_the_workspace_accepts_any_version() {
    assert_eq!(rule("bans", "wildcards").as_str(), Some("deny"));
    for package in packages().iter().filter(|package| package["source"].is_null()) {
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let accepts_any = dependency["req"] == "*" && dependency["path"].is_null();
            assert!(!accepts_any, "{} accepts any version of {}", package["name"], dependency["name"]);
        }
    }
}

#[test]
fn a_licence_expression_is_met_by_one_alternative_and_by_all_joined_parts() {
    let allowed = ["MIT", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for (expression, is_met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(GPL-3.0 OR MIT) AND Unicode-3.0", true),
        ("MIT OR GPL-3.0 AND Unicode-3.0", true),
        ("GPL-3.0 OR (MIT AND GPL-3.0)", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ("Apache-2.0", false),
        ("(MIT", false),
        ("MIT MIT", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), is_met, "{expression:?}");
    }
}
