//! The store, for code that reads a pipe and so is not asynchronous itself.

use std::sync::Arc;

use mysimbdp_store::Coredms;
use tokio::runtime::Runtime;

use super::Settings;
use crate::failure::Failure;

/// Writers need little: they wait for the store.
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
    /// [`Failure::Config`] where the address is none, [`Failure::Temporary`] where the store is away.
    pub fn open(settings: &Settings) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .enable_all()
            .build()?;
        let coredms = runtime.block_on(mysimbdp_store::open(&settings.coredms, &settings.database))?;
        Ok(Self { coredms, runtime })
    }

    /// Waits for an operation.
    pub fn block_on<T>(&self, operation: impl Future<Output = T>) -> T {
        self.runtime.block_on(operation)
    }

    /// Where operations can be spawned that run while the unit is read on.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        self.runtime.handle()
    }

    pub(crate) fn close(&self) {
        self.block_on(self.coredms.close());
    }
}
