//! Measures how full staging and the disks are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::space;
use mysimbdp_spool::staging::{self, StagingError};

use crate::admission::{Disk, DiskUsage};

/// Measures repeatedly, and remembers what does not change: the sizes of staged ingestions.
#[derive(Debug, Default)]
pub(crate) struct UsageMeter {
    bytes: BTreeMap<(ClientId, IngestionId), u64>,
}

impl UsageMeter {
    /// Measures now. Blocks.
    ///
    /// # Errors
    ///
    /// Staging cannot be listed, or a file system does not report its free space.
    pub(crate) fn update(&mut self, layout: &Layout) -> Result<DiskUsage, StagingError> {
        let mut staged = BTreeSet::new();
        let mut usage = DiskUsage { disks: disks(layout)?, ..DiskUsage::default() };
        for client in staging::clients(layout)? {
            match staging::ingestions(layout, &client) {
                Ok(ingestions) => {
                    staged.extend(ingestions.into_iter().map(|ingestion| (client.clone(), ingestion)))
                }
                Err(StagingError::File(error)) if error.is_exhausted() => return Err(error.into()),
                // This stops only the one client.
                Err(error) => _ = usage.unknown.insert(client, mysimbdp_model::error_chain(&error)),
            }
        }
        self.bytes.retain(|key, _| staged.contains(key));
        for key in staged {
            if let Some(bytes) = self.bytes_of(layout, &key)? {
                usage.add(&key.0, bytes);
            }
        }
        Ok(usage)
    }

    /// `None` if it has been removed meanwhile or is not readable; batch-manager reports the latter.
    fn bytes_of(
        &mut self,
        layout: &Layout,
        key: &(ClientId, IngestionId),
    ) -> Result<Option<u64>, StagingError> {
        if let Some(bytes) = self.bytes.get(key) {
            return Ok(Some(*bytes));
        }
        match staging::read_manifest(&layout.staged(&key.0, key.1)) {
            Ok(manifest) => {
                self.bytes.insert(key.clone(), manifest.bytes);
                Ok(Some(manifest.bytes))
            }
            Err(StagingError::File(error)) if error.is_exhausted() => Err(error.into()),
            Err(_) => Ok(None),
        }
    }
}

fn disks(layout: &Layout) -> Result<Vec<Disk>, StagingError> {
    let disk = |directory: PathBuf| Ok(Disk { space: space::of(&directory)?, directory });
    [layout.staging(), layout.state(), layout.logs()].into_iter().map(disk).collect()
}
