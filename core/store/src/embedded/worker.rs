//! The thread that owns the database: SQLite blocks, and a connection belongs to one thread at a time.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::database::{Database, Open};
use super::failure::Failure;

/// Callers wait for their results, so there is seldom more than one job per task.
const JOBS_MAX: usize = 16;

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// A thread that runs one job after the other.
#[derive(Debug)]
pub(super) struct Worker {
    /// Taken by [`Worker::close`].
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    pub(super) fn start(directory: PathBuf, name: String) -> std::io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(JOBS_MAX);
        let thread = std::thread::Builder::new().name(format!("sqlite-{name}")).spawn(move || {
            let mut database = Database::new(directory, name);
            // Ends when the last sender is dropped, after the jobs that are queued by then.
            while let Some(job) = queue.blocking_recv() {
                job(&mut database);
            }
        })?;
        Ok(Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) })
    }

    /// Runs a job on the thread and waits for its result. A caller that gives up does not stop the job.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Open) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let jobs = lock(&self.jobs).clone().ok_or(Failure::Closed)?;
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |database| {
            // The caller may have stopped waiting.
            let _ = answer.send(database.with(job));
        });
        jobs.send(job).await.map_err(|_| Failure::Closed)?;
        drop(jobs);
        result.await.map_err(|_| Failure::Closed)?
    }

    /// Waits for the queued jobs, and for the thread to end.
    pub(super) async fn close(&self) {
        drop(lock(&self.jobs).take());
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            // A panic of the thread has already been printed; there is nothing left to end.
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing here panics while it holds the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
