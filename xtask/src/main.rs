//! `cargo xtask <command>`: what a developer, a new user and CI run, each as one command.
//!
//! - [`demo`] builds the platform and runs the demo;
//! - [`chaos`] makes everything fail at random, under load;
//! - [`mod@bench`] measures the platform next to the limits of the machine and its servers;
//! - [`setup`] installs what the tests need and is missing;
//! - [`dependencies`] checks the third-party dependencies;
//! - [`mod@test`] runs `setup`, then checks formatting, lints, dependencies, tests and documentation.

#![allow(clippy::disallowed_methods, reason = "the I/O adapters are for the platform")]

mod bench;
mod chaos;
mod demo;
mod dependencies;
mod machine;
mod run;
mod setup;
mod test;

use std::ffi::OsString;
use std::process::ExitCode;

use run::Failure;

const USAGE: &str = "\
usage: cargo xtask <command>

  demo [arguments…]  build the platform and run `mysimbdp demo`
  setup              install what the tests need: mosquitto, mongod, and Python packages
  chaos [arguments…] make everything fail at random under load, for `--cycles` and `--minutes`; see `--help`
  bench [arguments…] measure everything against what limits it, in a release build; see `--help` and `--list`
  advisories <clone> write xtask/advisories.tsv from a clone of https://github.com/rustsec/advisory-db
  test               setup, then formatting, lints, all tests and documentation";

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let command = words.next().unwrap_or_default();
    let arguments: Vec<OsString> = words.collect();
    let result = match (command.to_str(), arguments.is_empty()) {
        (Some("demo"), _) => demo::demo(&arguments),
        (Some("chaos"), _) => chaos::chaos(&arguments),
        (Some("bench"), _) => bench::bench(&arguments),
        (Some("setup"), true) => setup::setup(),
        (Some("advisories"), false) if arguments.len() == 1 => {
            dependencies::advisories(arguments[0].as_ref())
        }
        (Some("test"), true) => test::test(),
        (Some("help" | "--help" | "-h"), _) => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(Failure { code: 64, message: USAGE.to_owned() }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}
