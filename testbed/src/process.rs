//! Processes that cannot outlive the test.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use rustix::process::Signal;

use crate::processes::{pid, running};
use crate::{SOON, until};

/// A child in a session of its own. Dropping it kills the whole session, including processes that have their own process
/// group or have lost their parent.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Set when it has been reaped, which releases its pid.
    ended: Option<ExitStatus>,
}

impl Process {
    /// # Panics
    ///
    /// If it cannot be started.
    #[track_caller]
    pub fn spawn(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let test_process = rustix::process::getpid();
        let before_exec = move || {
            rustix::process::setsid()?;
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // If the test ended before the line above, the signal will never come.
            if rustix::process::getppid() != Some(test_process) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        };
        // SAFETY: the closure makes three system calls and neither allocates nor locks.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(before_exec);
        }
        match on_lasting_thread(move || command.spawn()) {
            Ok(child) => Self { name, child, ended: None },
            Err(error) => panic!("cannot start {name}: {error}"),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.try_wait().is_none()
    }

    /// Returns its exit status if it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("it is our child");
        }
        self.ended
    }

    /// Sends a signal to this process, not to its children, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            // Not reaped yet, so the pid is still its own.
            rustix::process::kill_process(pid(self.id()), signal).expect("it is our child");
        }
    }

    /// Sends a signal to it and to all children in its process group, as Ctrl-C in a terminal does.
    pub fn signal_group(&mut self, signal: Signal) {
        if self.is_running() {
            rustix::process::kill_process_group(pid(self.id()), signal)
                .expect("it is the leader of its group");
        }
    }

    /// Sends SIGKILL and waits for its end. Its children keep running until this handle is dropped.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.wait(SOON);
    }

    /// Sends SIGSTOP: it keeps its connections and does not answer.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Panics
    ///
    /// If it has not ended at the deadline.
    #[track_caller]
    pub fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(deadline)
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If it has not ended at the deadline.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        until(deadline, &what, || !self.is_running());
        self.ended.expect("it has ended")
    }

    /// Returns the running processes of its session, including itself.
    pub fn session(&self) -> Vec<u32> {
        let running = running();
        // The kernel does not reuse a pid that is still the id of a session, so a running process with it means that the
        // session has ended.
        if self.ended.is_some() && running.contains_key(&self.id()) {
            return Vec::new();
        }
        running.into_iter().filter(|(_, stat)| stat.session == self.id()).map(|(pid, _)| pid).collect()
    }

    fn kill_session(&mut self) {
        // A process may fork meanwhile, so this is repeated until none is left.
        for _ in 0..1_000 {
            let session = self.session();
            for process in &session {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(pid(*process), Signal::KILL);
            }
            // Reaping the child releases the id of the session, so it must not be done before the session is empty.
            if session.is_empty() {
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // This must not panic: drop may run while a test is already panicking.
        eprintln!("processes {:?} of {} survive SIGKILL", self.session(), self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_session();
    }
}

/// Runs `job` on the thread that starts all children, and returns its result.
///
/// The parent-death signal is sent when the *thread* that started the child ends, and the threads of tests end before the
/// process. This thread lasts as long as the process.
pub(crate) fn on_lasting_thread<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    type Job = Box<dyn FnOnce() + Send>;
    static STARTER: LazyLock<mpsc::SyncSender<Job>> = LazyLock::new(|| {
        let (jobs, queue) = mpsc::sync_channel::<Job>(16);
        let run_all = move || queue.into_iter().for_each(|job| job());
        std::thread::Builder::new().name("starter".to_owned()).spawn(run_all).expect("a thread more");
        jobs
    });
    let (answer, done) = mpsc::sync_channel(1);
    // The caller waits for the result.
    let job = Box::new(move || drop(answer.send(job())));
    STARTER.send(job).expect("the thread lasts as long as the process");
    done.recv().map_err(io::Error::other)?
}
