//! Tests with real children that ignore SIGTERM, fork, leave their group, crash and flood their output.
#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mysimbdp_platform::process::{
    Child, Output, ProcessError, ProcessId, Signal, Spawn, Stdin, find_program, kill_left_behind,
};
use mysimbdp_testbed::SOON as DEADLINE;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

fn sh(script: &str) -> Spawn {
    Spawn {
        program: find_program("sh", Path::new("/")).expect("sh is on the PATH"),
        args: vec!["-c".into(), script.into()],
        env: vec![("GIVEN".into(), "yes".into())],
        directory: std::env::temp_dir(),
        stdin: Stdin::Feed,
        output: Output::Piped,
        dies_with_parent: Some(Signal::KILL),
        owner: Some(owner()),
    }
}

fn owner() -> String {
    format!("process-test {} {:?}", std::process::id(), std::thread::current().id())
}

async fn started(script: &str) -> Child {
    sh(script).start().await.expect("start sh")
}

/// Reads the first line, a pid.
async fn announced(child: &mut Child) -> ProcessId {
    let stdout = child.stdout.take().expect("piped");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).await.expect("read stdout");
    ProcessId::of_pid(line.trim().parse().expect("a pid")).expect("the announced process runs")
}

async fn until_ended(process: ProcessId) {
    assert!(process.wait_ended(DEADLINE).await, "{process:?} is still running");
}

#[tokio::test]
async fn only_the_path_the_tls_trust_settings_and_the_given_variables_are_inherited() {
    let mut child = started("env; echo to stderr >&2; cat; exit 7").await;
    let mut stdin = child.stdin.take().expect("fed");
    stdin.write_all(b"fed\n").await.expect("feed");
    drop(stdin);
    let (mut text, mut errors) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut text).await.expect("read stdout");
    child.stderr.take().expect("piped").read_to_string(&mut errors).await.expect("read stderr");
    assert_eq!(child.wait().await.expect("wait").code(), Some(7));
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    for name in &names {
        // PWD and the like are the shell's own.
        assert!(
            ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIVEN", "PWD", "OLDPWD", "SHLVL", "_"].contains(name),
            "{name} is inherited"
        );
    }
    assert!(names.contains(&"PATH") && names.contains(&"GIVEN"));
    assert!(text.ends_with("fed\n") && errors == "to stderr\n", "{text} {errors}");
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_with_its_group_after_its_grace() {
    let mut child = started("trap '' TERM; sleep 300 & echo $!; while :; do wait; done").await;
    let sleeper = announced(&mut child).await;
    let since = Instant::now();
    let status = child.stop(Duration::from_millis(200)).await.expect("stop");
    assert!(since.elapsed() >= Duration::from_millis(200));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::KILL.as_raw()));
    until_ended(sleeper).await;
    assert!(!child.id().alive());
    assert_eq!(child.stop(DEADLINE).await.expect("a second stop changes nothing"), status);
}

#[tokio::test]
async fn a_process_that_obeys_sigterm_is_not_killed() {
    let mut child = started("trap 'exit 75' TERM; echo $$; while :; do sleep 0.01; done").await;
    announced(&mut child).await;
    assert_eq!(child.stop(DEADLINE).await.expect("stop").code(), Some(75));
}

#[tokio::test]
async fn forked_processes_end_with_the_child_even_in_another_session() {
    // The fork ignores SIGTERM, is in a session of its own, and its parent has ended: it is init's child now.
    let mut child = started("(trap '' TERM HUP; setsid sh -c 'echo $$; exec sleep 300' &) ; sleep 300").await;
    let forked = announced(&mut child).await;
    child.stop(Duration::from_millis(100)).await.expect("stop");
    until_ended(forked).await;

    let mut child = started("(setsid sh -c 'echo $$; exec sleep 300' &); exit 3").await;
    let forked = announced(&mut child).await;
    assert_eq!(child.wait().await.expect("wait").code(), Some(3));
    until_ended(forked).await;
}

/// Starts a daemon that is as hard to find as possible: its parent has ended, it has a session of its own and no environment,
/// ignores SIGTERM, and holds the pipes.
const DAEMON: &str =
    "(env -i setsid sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 300; done' <&0 &);";

#[tokio::test]
async fn a_daemon_without_an_environment_ends_with_the_child() {
    let mut child = started(&format!("{DAEMON} exit 3")).await;
    let daemon = announced(&mut child).await;
    assert_eq!(child.wait().await.expect("wait").code(), Some(3));
    until_ended(daemon).await;

    let mut child = started(&format!("{DAEMON} sleep 300")).await;
    let daemon = announced(&mut child).await;
    child.stop(Duration::from_millis(100)).await.expect("stop");
    until_ended(daemon).await;

    // The child is dropped while its daemon is running, and nobody has waited for it.
    let mut child = started(&format!("{DAEMON} sleep 300")).await;
    let daemon = announced(&mut child).await;
    drop(child);
    until_ended(daemon).await;
}

/// Starts a process that not even its tag can find: it has changed its limit on file locks. It prints its pid first, and the
/// shell continues when the command is running: before that, it could still be found.
fn untagged(command: &str) -> String {
    let program = command.split(' ').next().unwrap_or_default();
    format!(
        "prlimit --locks=7:7 setsid sh -c 'echo $$; exec {command}' <&0 & until grep -qx {program} /proc/$!/comm; do :; done;"
    )
}

#[tokio::test]
async fn the_pipes_end_with_the_child_even_if_an_untagged_process_holds_them() {
    // Writes more than a pipe holds to stdin, which nobody reads.
    let mut child = started(&format!("{} echo last >&2; exit 3", untagged("sleep 300"))).await;
    let (mut text, mut errors) = (String::new(), String::new());
    let mut stdin = child.stdin.take().expect("fed");
    let (mut stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let input = vec![b'x'; 4 << 20];
    let (fed, _, _, status) = tokio::join!(
        stdin.write_all(&input),
        async { stdout.read_to_string(&mut text).await.expect("read stdout") },
        async { stderr.read_to_string(&mut errors).await.expect("read stderr") },
        child.wait(),
    );
    let holder = ProcessId::of_pid(text.trim().parse().expect("a pid")).expect("it was not found");
    assert_eq!(fed.expect_err("nobody reads").kind(), std::io::ErrorKind::BrokenPipe);
    assert_eq!((status.expect("wait").code(), errors.as_str()), (Some(3), "last\n"));
    holder.signal(Signal::KILL).expect("it holds the pipes until now");
}

#[tokio::test]
async fn the_output_of_a_child_is_read_to_the_last_byte_and_that_of_other_processes_is_not() {
    let mut child = started("head -c 60000 /dev/zero").await;
    child.wait().await.expect("wait");
    let mut bytes = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut bytes).await.expect("read stdout");
    assert_eq!(bytes.len(), 60_000);

    let mut child = started(&format!("{} exit 3", untagged("yes"))).await;
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).await.expect("read stdout");
    let mut into = tokio::io::sink();
    let (copied, status) = tokio::join!(tokio::io::copy(&mut stdout, &mut into), child.wait());
    copied.expect("it ends");
    assert_eq!(status.expect("wait").code(), Some(3));
    let flooding = ProcessId::of_pid(line.trim().parse().expect("a pid"));
    // It ends because its last reader is closed.
    drop(stdout);
    if let Some(flooding) = flooding {
        until_ended(flooding).await;
    }
}

#[tokio::test]
async fn a_dropped_child_leaves_no_process_behind() {
    let mut child = started("setsid sh -c 'echo $$; exec sleep 300' & wait").await;
    let forked = announced(&mut child).await;
    let id = child.id();
    drop(child);
    until_ended(id).await;
    until_ended(forked).await;
}

#[tokio::test]
async fn a_crash_is_reported_with_its_signal() {
    let mut child = started("kill -SEGV $$").await;
    let status = child.wait().await.expect("wait");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGSEGV));
    assert!(matches!(child.signal(Signal::TERM), Err(ProcessError::Ended { .. })));
}

#[tokio::test]
async fn a_flood_of_output_is_read_to_its_end() {
    let mut child = started("head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2").await;
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (mut into, mut errors_into) = (tokio::io::sink(), tokio::io::sink());
    let mut stdout = BufReader::new(stdout);
    let mut stderr = BufReader::new(stderr);
    let (bytes, errors) =
        tokio::join!(tokio::io::copy(&mut stdout, &mut into), tokio::io::copy(&mut stderr, &mut errors_into));
    assert_eq!((bytes.expect("stdout"), errors.expect("stderr")), (20_000_000, 20_000_000));
    assert!(child.wait().await.expect("wait").success());
}

#[tokio::test]
async fn output_is_appended_to_a_file_and_its_directory_is_created() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("deep/er/app.log");
    for _ in 0..2 {
        let spawn = Spawn {
            output: Output::AppendTo(path.clone()),
            stdin: Stdin::Null,
            ..sh("cat; echo out; echo err >&2")
        };
        assert!(spawn.start().await.expect("start").wait().await.expect("wait").success());
    }
    assert_eq!(std::fs::read_to_string(&path).expect("read log"), "out\nerr\nout\nerr\n");
}

#[tokio::test]
async fn the_error_names_a_program_that_cannot_run() {
    let spawn = Spawn { program: PathBuf::from("/no/such/program"), ..sh("") };
    let error = spawn.start().await.expect_err("no such program").to_string();
    assert!(error.contains("/no/such/program"), "{error}");
}

#[tokio::test]
async fn a_process_of_another_parent_is_stopped_by_its_id_with_its_group() {
    // This process cannot reap it: the shell in between stays its parent.
    let mut parent =
        started("setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' & wait").await;
    let stranger = announced(&mut parent).await;
    assert!(stranger.alive());
    stranger.stop(Duration::from_millis(100)).await.expect("stop by id");
    assert!(!stranger.alive());
    stranger.stop(DEADLINE).await.expect("it may already have ended");
    assert!(matches!(stranger.signal_group(Signal::TERM), Err(ProcessError::Ended { .. })));
}

#[tokio::test]
async fn processes_that_an_owner_left_behind_are_killed_and_no_others() {
    let kept =
        Spawn { owner: Some(format!("{}x", owner())), ..sh("exec sleep 300") }.start().await.expect("start");
    let mut left = started(&format!("{DAEMON} exec sleep 300")).await;
    let daemon = announced(&mut left).await;
    // The two, and the daemon's `sleep` if it has been started already.
    assert!(kill_left_behind(&owner()).await >= 2);
    until_ended(left.id()).await;
    until_ended(daemon).await;
    assert!(kept.id().alive());
}

/// A killed process may still be at work until it has ended: here it frees a lot of memory, which takes time.
#[tokio::test]
async fn processes_left_behind_have_ended_when_killing_them_returns() {
    let mut large =
        started("{ head -c 300000000 /dev/zero; echo $$ >&2; sleep 300; } | tail -c 300000000").await;
    let stderr = large.stderr.take().expect("piped");
    BufReader::new(stderr).read_line(&mut String::new()).await.expect("read stderr");
    assert!(kill_left_behind(&owner()).await >= 2);
    assert_eq!(kill_left_behind(&owner()).await, 0, "some are still running");
}

/// Each of the processes has ended before a scan of all processes reaches it.
#[tokio::test]
async fn a_chain_of_processes_that_each_fork_and_end_at_once_is_killed() {
    const CHAIN: &str = r#"
import os, sys, time
if os.fork():
    time.sleep(30)
os.setsid()
end = time.monotonic() + 30
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    os.write(1, b".")
    time.sleep(float(sys.argv[1]))
"#;
    let python = find_program("python3", Path::new("/")).expect("python3 is on the PATH");
    for pause in ["0.02", "0.005", "0.001", "0.0002"] {
        let spawn = Spawn {
            program: python.clone(),
            args: vec!["-c".into(), CHAIN.into(), pause.into()],
            output: Output::Piped,
            ..sh("")
        };
        let mut first = spawn.start().await.expect("start python3");
        let mut stdout = first.stdout.take().expect("piped");
        let mut dots = [0; 10];
        stdout.read_exact(&mut dots).await.expect("the chain runs");
        assert!(kill_left_behind(&owner()).await >= 1);
        // The chain holds it open as long as it runs.
        let mut remainder = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stdout.read_to_end(&mut remainder)).await;
        assert!(ended.is_ok(), "pause {pause}: it continues, {} dots later", remainder.len());
    }
}

/// Names the file to which the second process of the test below writes the id of its child.
const CHILD_OF_KILLED: &str = "MYSIMBDP_TEST_SPAWN_AND_WAIT";

/// Not a test of its own: it is the process that `a_child_dies_with_its_killed_parent` kills.
#[tokio::test]
async fn spawns_and_waits_when_asked_to() {
    let Some(path) = std::env::var_os(CHILD_OF_KILLED) else { return };
    let child = Spawn { output: Output::Inherit, ..sh("exec sleep 300") }.start().await.expect("start");
    std::fs::write(&path, serde_json::to_string(&child.id()).expect("json")).expect("print the id");
    std::future::pending::<()>().await;
}

/// A caller that waits only briefly drops its wait each time.
#[tokio::test]
async fn a_wait_that_is_dropped_repeatedly_still_completes() {
    let mut child = started("exit 3").await;
    let since = Instant::now();
    let status = loop {
        if let Ok(ended) = tokio::time::timeout(Duration::ZERO, child.wait()).await {
            break ended.expect("wait");
        }
        assert!(since.elapsed() < DEADLINE, "each wait starts again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(status.code(), Some(3));
}

#[tokio::test]
async fn whether_a_child_has_ended_is_known_without_waiting() {
    let mut child = started("read line; exit 3").await;
    assert!(!child.has_ended());
    drop(child.stdin.take());
    let since = Instant::now();
    while !child.has_ended() {
        assert!(since.elapsed() < DEADLINE, "it has ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(child.wait().await.expect("wait").code(), Some(3));
    assert!(child.has_ended());
}

#[tokio::test]
async fn a_child_dies_with_its_killed_parent() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let id_file = directory.path().join("id.json");
    let mut parent = std::process::Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "spawns_and_waits_when_asked_to", "--nocapture"])
        .env(CHILD_OF_KILLED, &id_file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("start this test again");
    let since = Instant::now();
    let id: ProcessId = loop {
        if let Some(id) = std::fs::read(&id_file).ok().and_then(|json| serde_json::from_slice(&json).ok()) {
            break id;
        }
        assert!(since.elapsed() < DEADLINE, "the child was not started");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(id.alive());
    parent.kill().expect("kill -9");
    parent.wait().expect("reap");
    until_ended(id).await;
}
