//! Access to the store for synchronous code, such as an app that reads a pipe.

use std::sync::Arc;

use mysimbdp_platform::runtime;
use mysimbdp_store::Coredms;
use tokio::runtime::Runtime;

use super::BatchAppSettings;
use crate::failure::Failure;

/// Threads of the runtime. Writers need little: they wait for the store.
const WORKER_THREADS: usize = 2;

/// The client's database, and the runtime that its operations run on.
#[derive(Debug)]
pub struct Store {
    /// The database; its operations are asynchronous, see [`Store::block_on`].
    pub coredms: Arc<dyn Coredms>,
    runtime: Runtime,
}

impl Store {
    /// Opens the database of `settings`.
    ///
    /// # Errors
    ///
    /// [`Failure::Config`] if the address is invalid, [`Failure::Temporary`] if the store is unavailable.
    pub fn open(settings: &BatchAppSettings) -> Result<Self, Failure> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(WORKER_THREADS);
        let runtime = runtime::build(builder)?;
        let coredms = runtime.block_on(mysimbdp_store::open(&settings.coredms, &settings.database))?;
        Ok(Self { coredms, runtime })
    }

    /// Runs an operation to its end.
    pub fn block_on<T>(&self, operation: impl Future<Output = T>) -> T {
        self.runtime.block_on(operation)
    }

    /// Returns a handle to spawn operations that run while the app continues to read the unit.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        self.runtime.handle()
    }

    pub(crate) fn close(&self) {
        self.block_on(self.coredms.close());
    }
}
