//! A `mysimbdp` process, started as a user starts it.

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::NamedTempFile;

use crate::process::Process;
use crate::{Root, SOON, binary, unique, until};

/// A running `mysimbdp <command> --config <root's>`.
///
/// Dropping it kills its session, including the stream apps, which outlive their manager: keep the handle of a killed
/// manager if the next one is to adopt its stream apps.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    output: PathBuf,
}

impl Daemon {
    /// Starts it with only `PATH` and `HOME` of this process's environment, and `env`.
    ///
    /// # Panics
    ///
    /// If it is not built or cannot be started.
    #[track_caller]
    pub fn start(root: &Root, command: &[&str], env: &[(&str, &str)]) -> Self {
        let output = root.path().join(format!("{}.out", unique(command.first().unwrap_or(&"mysimbdp"))));
        let file = File::create(&output).expect("file for the output");
        let mut program = mysimbdp(root, command, env);
        program.stdout(file.try_clone().expect("a file more")).stderr(file);
        Self { process: Process::spawn(program), output }
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    ///
    /// If it is not built or does not end.
    #[track_caller]
    pub fn run(root: &Root, command: &[&str], env: &[(&str, &str)]) -> Output {
        let (stdout, stderr) = (NamedTempFile::new().expect("file"), NamedTempFile::new().expect("file"));
        let mut program = mysimbdp(root, command, env);
        program.stdout(stdout.reopen().expect("file")).stderr(stderr.reopen().expect("file"));
        let status = Process::spawn(program).wait(SOON);
        let written = |file: &NamedTempFile| std::fs::read(file.path()).expect("what it has written");
        Output { status, stdout: written(&stdout), stderr: written(&stderr) }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns its stdout and stderr so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Waits until it has printed `text`.
    ///
    /// # Panics
    ///
    /// If it has not printed `text` at the deadline, or ends before. The message has its whole output.
    #[track_caller]
    pub fn until_output(&mut self, deadline: Duration, text: &str) {
        until(deadline, &format!("{text:?} is printed"), || {
            let ended = self.process.try_wait();
            let output = self.output();
            let found = output.contains(text);
            assert!(found || ended.is_none(), "it ended with {ended:?} and without {text:?}: {output}");
            found
        });
    }

    /// Sends SIGTERM and waits for its end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate(SOON)
    }

    /// Sends SIGINT to it and its process group, as Ctrl-C does, and waits for its end.
    #[track_caller]
    pub fn interrupt(&mut self) -> ExitStatus {
        self.process.signal_group(Signal::INT);
        self.process.wait(SOON)
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(SOON)
    }
}

impl Deref for Daemon {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn mysimbdp(root: &Root, command: &[&str], env: &[(&str, &str)]) -> Command {
    let mut program = Command::new(binary("mysimbdp"));
    program.arg("--config").arg(root.config()).args(command).current_dir(root.path()).env_clear();
    for name in ["PATH", "HOME"] {
        program.env(name, std::env::var_os(name).unwrap_or_default());
    }
    program.envs(env.iter().copied()).stdin(Stdio::null());
    program
}
