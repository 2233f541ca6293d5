//! `testbed-run <program> [arguments…]`: starts a mongod and a mosquitto, runs a program that may use them, and stops them.
//!
//! The program finds them in `MYSIMBDP_TEST_MONGODB` and `MYSIMBDP_TEST_BROKER`; a server that is already set there is used
//! instead. The exit code is the program's. Processes that the program leaves behind are killed and listed, and make a success
//! a failure.

#![allow(
    clippy::disallowed_methods,
    reason = "the testbed is not part of the platform and needs no I/O adapters"
)]

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use mysimbdp_testbed::{become_reaper, descendants, mongodb, mosquitto, reap_orphans};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// How long processes may take to end after the program: a test may have just stopped them.
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

/// Runs the program to its end. An interrupt ends the program and then this process, so that the servers are always stopped.
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
            // As init would; otherwise they would stay in /proc as zombies.
            _ = child_ended.recv() => reap_orphans(&own),
            // The terminal has sent it to the program as well.
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                if let Some(pid) = pid {
                    kill_process(pid, Signal::TERM)?;
                }
            }
        }
    }
}

/// Waits briefly for all descendants but `servers` to end, then kills those that have not. Returns how many it had to kill.
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
            "testbed-run: killed a process that was left behind: {process} {}",
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
