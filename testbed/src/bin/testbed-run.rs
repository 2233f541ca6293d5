//! `testbed-run <program> [arguments…]`: runs a program with a mongod and a mosquitto for it to use, and stops them.
//!
//! The program finds them in `MYSIMBDP_TEST_MONGODB` and `MYSIMBDP_TEST_BROKER`; one that is set already is used as it
//! is. The exit code is the program's. What the program leaves behind is killed and named, and makes a success a failure.

#![allow(clippy::disallowed_methods, reason = "the test bed stands outside of the platform's doors")]

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use mysimbdp_testbed::{become_reaper, descendants, mongodb, mosquitto, reap_orphans};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// What a test has told to end may still be about to.
const END_WITHIN: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: testbed-run <program> [arguments…]");
        return ExitCode::from(64);
    };
    become_reaper();
    let (mongodb, broker) = (mongodb(), mosquitto());
    let servers = descendants(std::process::id());
    let mut command = Command::new(&program);
    command.args(words).env("MYSIMBDP_TEST_MONGODB", mongodb.url()).env("MYSIMBDP_TEST_BROKER", broker.url());
    let code = match run(command, &servers).await {
        Ok(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        Err(error) => {
            eprintln!("testbed-run: cannot run {}: {error}", program.display());
            127
        }
    };
    let left = end_all_but(&servers);
    // The servers are stopped when this process exits.
    ExitCode::from(u8::try_from(code).unwrap_or(1).max(u8::from(left > 0)))
}

/// Runs it to its end. Being interrupted ends the program and then this one, so that the servers are stopped in any case.
async fn run(command: Command, servers: &[u32]) -> io::Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child_ended = signal(SignalKind::child())?;
    let mut child = tokio::process::Command::from(command).spawn()?;
    let own: Vec<u32> = servers.iter().copied().chain(child.id()).collect();
    let pid = child.id().and_then(pid);
    loop {
        tokio::select! {
            status = child.wait() => return status,
            // As init would: else they would stay in /proc as if they had not ended.
            _ = child_ended.recv() => reap_orphans(&own),
            // The terminal has sent it to the program too.
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                if let Some(pid) = pid {
                    kill_process(pid, Signal::TERM)?;
                }
            }
        }
    }
}

/// Waits a little for the rest to end, then kills it; returns how many had to be.
fn end_all_but(servers: &[u32]) -> usize {
    let left = || {
        let mut left = descendants(std::process::id());
        left.retain(|process| !servers.contains(process));
        left
    };
    let started = Instant::now();
    while !left().is_empty() && started.elapsed() < END_WITHIN {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = left();
    for process in &left {
        let words = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
        eprintln!(
            "testbed-run: left behind and killed: {process} {}",
            words.replace('\0', " ").escape_debug()
        );
        if let Some(pid) = pid(*process) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    left.len()
}

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}
