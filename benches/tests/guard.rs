//! The cheap cases beside their yardsticks.

#![allow(clippy::disallowed_methods, reason = "it is not part of the platform and needs no I/O adapters")]

use std::process::Command;

/// Wide margins, and ratios within one run: no figure of this is about time.
#[test]
fn heavy_no_path_has_fallen_far_behind_what_bounds_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_benches")).arg("--guard").output().expect("run benches");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}{stderr}");
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_eq!(stdout.lines().filter(|line| line.contains("of its yardstick")).count(), 3, "{stdout}");
}
