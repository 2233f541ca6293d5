//! Each process dies between any two steps, once, as if by kill -9; started again, it loses and duplicates nothing.
//!
//! The tests walk the list of failpoints itself, so a point that is added is tested, and one that is never reached fails.

mod arrivals;
mod batch;
mod edge;
mod late;
mod replace;
mod stream;

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use mysimbdp_platform::failpoint::POINTS;
use mysimbdp_testbed::{Daemon, Signal, until};

use crate::support::{Platform, SOON};

/// Platforms that run at the same time: mostly they wait for a file to settle or for the next scan.
const AT_A_TIME: usize = 4;

/// The environment variable that names the point at which a process dies.
const VARIABLE: &str = "FAILPOINTS";

/// Exactly one test walks each point.
#[test]
fn every_failpoint_has_a_test() {
    let tested = [
        batch::FETCHDATA,
        batch::BATCH_MANAGER,
        batch::BATCH_APP,
        late::LATE,
        replace::REPLACE,
        stream::MANAGER,
        stream::APP,
        edge::EDGE,
        arrivals::ARRIVALS,
    ];
    for point in POINTS {
        let tests = tested.iter().filter(|prefixes| of(prefixes).contains(point)).count();
        assert_eq!(tests, 1, "{point} belongs to {tests} tests");
    }
}

/// The points whose names begin with one of the prefixes.
fn of(prefixes: &[&str]) -> Vec<&'static str> {
    let is_one = |point: &&&str| prefixes.iter().any(|prefix| point.starts_with(prefix));
    POINTS.iter().filter(is_one).copied().collect()
}

/// Runs a case for each of the points, a few at a time.
fn walk<F: Future<Output = ()>>(prefixes: &[&str], case: fn(&'static str) -> F) {
    let points = Mutex::new(of(prefixes).into_iter());
    let failed = Mutex::new(Vec::new());
    let run_cases = || {
        while let Some(point) = points.lock().expect("no test panics with the lock").next() {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            // The panic prints what went wrong.
            if catch_unwind(AssertUnwindSafe(|| runtime.block_on(case(point)))).is_err() {
                failed.lock().expect("no test panics with the lock").push(point);
            }
        }
    };
    std::thread::scope(|scope| (0..AT_A_TIME).for_each(|_| drop(scope.spawn(run_cases))));
    let failed = failed.into_inner().expect("no test panics with the lock");
    assert!(failed.is_empty(), "failed at {failed:?}");
}

/// Starts a process that is to die at the point.
fn start_to_die(platform: &Platform, kind: &str, point: &str) -> Daemon {
    Daemon::start(&platform.root, &[kind], &[(VARIABLE, point)])
}

/// Waits until the process has died at the point; any other end fails the test.
#[track_caller]
fn assert_died(daemon: &mut Daemon, point: &str) {
    let status = daemon.wait();
    let output = daemon.output();
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{point}: {status}: {output}");
    assert!(output.contains(&format!("failpoint {point}")), "{output}");
}

/// The command of a client whose app dies at the point, once: the first process that can create `has-died` dies. The
/// shell tests `condition` before that.
fn dies_once(condition: &str, point: &str, app: &[&str]) -> Vec<String> {
    let program = mysimbdp_testbed::binary(app[0]);
    let script = format!(
        "if {condition} && mkdir has-died 2> /dev/null; then export {VARIABLE}={point}; fi; exec \"$0\" \"$@\""
    );
    let mut command = vec!["sh".to_owned(), "-c".to_owned(), script, program.display().to_string()];
    command.extend(app[1..].iter().map(|argument| (*argument).to_owned()));
    command
}

/// Waits until an app's log says that it has died at the point.
async fn wait_for_app_death(platform: &Platform, log: &str, point: &str) {
    let what = format!("an app has died at {point}");
    let line = format!("failpoint {point}");
    mysimbdp_testbed::until_async(SOON, &what, async || platform.root.log(log).contains(&line)).await;
}

/// Waits until `reconcile` finds no difference: stored messages are marked as received a moment later.
fn wait_reconciled(platform: &Platform) {
    wait_reconciled_with(platform, || {});
}

/// Like [`wait_reconciled`]; `otherwise` is what the sources do while there is a difference.
fn wait_reconciled_with(platform: &Platform, otherwise: impl Fn()) {
    until(SOON, "reconcile agrees", || {
        let output = Daemon::run(&platform.root, &["reconcile"], &[]);
        if !output.status.success() {
            // Shown only if the test fails.
            println!("{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
            otherwise();
        }
        output.status.success()
    });
}
