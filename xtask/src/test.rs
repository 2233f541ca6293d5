//! `cargo xtask test`: everything that has to pass, starting from a bare machine.
//!
//! The steps run one after the other. The first one that fails ends the command with its exit code.

use std::process::Command;
use std::time::Instant;

use crate::dependencies::deny;
use crate::machine::cache;
use crate::run::{Failure, built, cargo, run, succeeds, workspace};
use crate::setup::{self, setup};

/// With this feature, tests can make processes die between two steps. Only the workspace's own crates have it, so the other
/// crates are compiled once for both the tests and the demo, which is built without it.
const FEATURES: &str = "--features=failpoints";

type Step = (&'static str, fn() -> Result<(), Failure>);

const STEPS: [Step; 9] = [
    ("setup", setup),
    ("formatting", || run(&mut cargo(&["fmt", "--all", "--check"]))),
    ("lints", || {
        let clippy = ["clippy", "--locked", "--workspace", "--all-targets", FEATURES, "--", "-D", "warnings"];
        run(&mut cargo(&clippy))
    }),
    ("dependencies", deny),
    ("functions of the dashboard", dashboard),
    ("programs", || run(&mut cargo(&["build", "--locked", "--workspace", "--bins", FEATURES]))),
    ("tests", tests),
    ("examples in the documentation", || {
        run(&mut cargo(&["test", "--locked", "--workspace", "--doc", "--quiet", FEATURES]))
    }),
    ("documentation", documentation),
];

pub(crate) fn test() -> Result<(), Failure> {
    let started = Instant::now();
    let mut passed = Vec::new();
    for (name, step) in STEPS {
        println!("==> {name}");
        let step_started = Instant::now();
        let result = step();
        let took = format!("{name} {:.1} s", step_started.elapsed().as_secs_f64());
        if let Err(Failure { code, message }) = result {
            let message = format!("{message}\nFAILED: {took} (passed: {})", passed.join(", "));
            return Err(Failure { code, message });
        }
        println!("    {took}");
        passed.push(took);
    }
    println!("PASSED: {} in {:.1} s", passed.join(", "), started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs what the dashboard decides without a browser.
fn dashboard() -> Result<(), Failure> {
    run(Command::new("node").arg("--test").current_dir(workspace().join("serving/dashboard")))
}

/// Runs all tests, with one mongod and one mosquitto for all of them, which `testbed-run` starts and stops.
fn tests() -> Result<(), Failure> {
    // nextest runs each test as a process with a time limit; cargo's own runner has no such limit.
    let runner = if succeeds(&mut cargo(&["nextest", "--version"])) {
        cargo(&["nextest", "run", "--locked", "--workspace", FEATURES])
    } else {
        cargo(&["test", "--locked", "--workspace", "--lib", "--bins", "--tests", FEATURES])
    };
    let mut tests = Command::new(built("testbed-run")?);
    tests.arg(runner.get_program()).args(runner.get_args());
    for (name, value) in runner.get_envs() {
        match value {
            Some(value) => tests.env(name, value),
            None => tests.env_remove(name),
        };
    }
    if let Some(directory) = runner.get_current_dir() {
        tests.current_dir(directory);
    }
    let cache = cache()?;
    tests.env("MYSIMBDP_TEST_PYTHON", setup::python(&cache));
    tests.env("MYSIMBDP_TEST_AXE", setup::axe(&cache));
    // Should the disk be full, what fails then is of no use without this.
    run(Command::new("df").arg("-h").arg(std::env::temp_dir()).arg("."))?;
    // The tests configure their servers themselves.
    run(tests.env_remove("MYSIMBDP_BROKER").env_remove("MYSIMBDP_COREDMS"))
}

fn documentation() -> Result<(), Failure> {
    let mut doc = cargo(&["doc", "--locked", "--workspace", "--no-deps", "--quiet"]);
    // A crate's documentation begins with a list of its modules, for readers of the source; most of them are private.
    run(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"))
}
