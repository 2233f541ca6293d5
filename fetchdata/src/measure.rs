//! Measures how full staging and the disks are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_platform::space;
use mysimbdp_spool::staging::{self, StagingError};

use crate::room::{Disk, Level};

/// Measures again and again, and remembers what does not change: the size of what is staged.
#[derive(Debug, Default)]
pub(crate) struct Measure {
    bytes: BTreeMap<(ClientId, IngestionId), u64>,
}

impl Measure {
    /// Measures now. Blocks.
    ///
    /// # Errors
    ///
    /// Staging cannot be listed, or a file system does not say how much room it has.
    pub(crate) fn level(&mut self, layout: &Layout) -> Result<Level, StagingError> {
        let mut there = BTreeSet::new();
        let mut level = Level { disks: disks(layout)?, ..Level::default() };
        for client in staging::clients(layout)? {
            match staging::ingestions(layout, &client) {
                Ok(ingestions) => {
                    there.extend(ingestions.into_iter().map(|ingestion| (client.clone(), ingestion)))
                }
                Err(StagingError::File(error)) if error.is_exhausted() => return Err(error.into()),
                // That stops this client alone.
                Err(error) => _ = level.unknown.insert(client, mysimbdp_model::error_chain(&error)),
            }
        }
        self.bytes.retain(|key, _| there.contains(key));
        for key in there {
            if let Some(bytes) = self.bytes_of(layout, &key)? {
                level.add(&key.0, bytes);
            }
        }
        Ok(level)
    }

    /// `None` where it has gone meanwhile, or is not readable, which batch-manager tells.
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
