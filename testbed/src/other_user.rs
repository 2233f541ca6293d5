//! Another user of the machine, who repeats an action while a program runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The id of `nobody`, on any system.
pub const OTHER_USER: u32 = 65_534;

/// The longest time that it runs, so that a test that does not stop it does not keep a core busy forever.
const LONGEST: Duration = Duration::from_secs(300);

/// A thread with another user's rights, which the kernel keeps for each thread.
#[derive(Debug)]
pub struct OtherUser {
    stop: Arc<AtomicBool>,
    steps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl OtherUser {
    /// Starts to repeat `step`. If this process may not become another user, that is printed, and the thread has the rights of
    /// this process: then the race is the same, but permissions are not tested.
    pub fn start(mut step: impl FnMut() + Send + 'static) -> Self {
        let (stop, steps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&steps));
        let thread = std::thread::spawn(move || {
            if let Err(error) = become_user(OTHER_USER) {
                eprintln!("cannot run as another user, which needs root: {error}");
            }
            let started = Instant::now();
            while !stopped.load(Ordering::Acquire) && started.elapsed() < LONGEST {
                step();
                counted.fetch_add(1, Ordering::Release);
            }
        });
        Self { stop, steps, thread: Some(thread) }
    }

    /// Returns how often the step has run.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Acquire)
    }

    /// Stops the thread. Returns how often the step has run.
    ///
    /// # Panics
    ///
    /// If a step has panicked.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.thread.take().expect("it runs").join().expect("no step panics");
        self.steps()
    }
}

impl Drop for OtherUser {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Gives the calling thread, and only that, the rights of `user`, permanently.
fn become_user(user: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}
