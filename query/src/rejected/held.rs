//! The rejected records of a held file, whose bytes are in the file itself.

use std::fmt;
use std::path::PathBuf;
use std::vec;

use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::manifest::Manifest;
use mysimbdp_spool::staging::content::{Content, RecordFinder};
use mysimbdp_spool::staging::{self, Reject, StagingError};

use super::{Description, RejectedRecord, RejectedRecords, Rejects};
use crate::error::QueryError;

/// Reads the rejects of one work unit after the other.
pub(super) struct HeldRejects {
    directory: PathBuf,
    manifest: Manifest,
    finder: RecordFinder,
    /// The work units that are still to be read.
    units: vec::IntoIter<u32>,
    /// Those of the work unit that is being read.
    rejects: Option<Box<dyn Iterator<Item = Result<Reject, StagingError>> + Send>>,
}

/// Reads what is known of a held file before its first rejected record.
pub(super) fn open(
    layout: &Layout,
    client: &ClientId,
    ingestion: IngestionId,
) -> Result<RejectedRecords, QueryError> {
    let held = staging::read_held(layout, client, ingestion)?;
    let (directory, manifest) = (held.directory, held.manifest);
    let prefix = Content::prefix(&directory, &manifest);
    let prefix = prefix.read(0, prefix.bytes())?;
    let rejecting = held.outcomes.values().filter(|one| one.counts.rejected > 0);
    let units: Vec<u32> = rejecting.clone().map(|one| one.index).collect();
    let description = Description {
        client: client.clone(),
        file: manifest.file.clone(),
        format: manifest.format,
        prefix,
        expected: rejecting.map(|one| one.counts.rejected).sum(),
    };
    let finder = RecordFinder::new(&directory);
    let rejects = HeldRejects { directory, manifest, finder, units: units.into_iter(), rejects: None };
    Ok(RejectedRecords { description, rejects: Rejects::Held(Box::new(rejects)), warning: None })
}

impl HeldRejects {
    pub(super) fn next(&mut self) -> Result<Option<RejectedRecord>, QueryError> {
        let Some(Reject { record, reason }) = self.next_reject()? else { return Ok(None) };
        let content = self.finder.find(&self.manifest, record)?;
        let content = Some(content.read(0, content.bytes())?);
        Ok(Some(RejectedRecord { record, reason, content }))
    }

    fn next_reject(&mut self) -> Result<Option<Reject>, QueryError> {
        loop {
            if let Some(reject) = self.rejects.as_mut().and_then(Iterator::next) {
                return Ok(Some(reject?));
            }
            let Some(unit) = self.units.next() else { return Ok(None) };
            self.rejects = Some(Box::new(staging::read_rejects(&self.directory, unit)?));
        }
    }
}

impl fmt::Debug for HeldRejects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldRejects")
            .field("directory", &self.directory)
            .field("units", &self.units)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use mysimbdp_model::manifest::{Format, Lane, MicroBatch, Prefix, VERSION};
    use mysimbdp_model::outcome::{Counts, Outcome};
    use mysimbdp_platform::files;
    use mysimbdp_spool::staging::{RejectsWriter, write_manifest, write_outcome};

    use super::*;

    /// Each unit has two rows of four bytes, behind a header line of two bytes.
    fn batch(index: u32) -> MicroBatch {
        MicroBatch {
            index,
            path: "data.csv".to_owned(),
            offset: 2 + u64::from(index) * 8,
            length: 8,
            first_record: u64::from(index) * 2,
            records: 2,
            xxh3: String::new(),
        }
    }

    fn finish_unit(directory: &std::path::Path, index: u32, rejected: &[u64]) {
        let mut rejects = RejectsWriter::new(directory, index);
        for record in rejected {
            let reject = Reject { record: *record, reason: format!("reason {record}") };
            rejects.write(&reject).expect("a reject");
        }
        let rejected = rejected.len() as u64;
        let outcome = Outcome {
            version: 1,
            index,
            attempt: 1,
            counts: Counts { received: 2, stored: 2 - rejected, duplicates: 0, rejected },
            bytes: 8,
            seconds: 0.1,
            finished_at: Timestamp::UNIX_EPOCH,
            audited: true,
            rejects_xxh3: rejects.commit().expect("rejects"),
        };
        write_outcome(directory, &outcome).expect("outcome");
    }

    #[test]
    fn the_records_of_a_held_file_are_read_from_the_file() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        let client: ClientId = "a".parse().expect("client id");
        let content = b"a\n000\n111\n222\n333\n444\n555\n";
        let ingestion = IngestionId::new(&client, &mysimbdp_model::ingestion::Hasher::new().finalize());
        let directory = layout.held(&client, ingestion);
        files::create_dir_all(&directory).expect("directory");
        files::write_atomic(&directory.join("data.csv"), content).expect("content");
        let manifest = Manifest {
            version: VERSION,
            ingestion,
            client: client.clone(),
            lane: Lane::Live,
            file: "data.csv".to_owned(),
            bytes: content.len() as u64,
            records: 6,
            blake3: String::new(),
            format: Format::Csv,
            prefix: Prefix { offset: 0, length: 2 },
            app: "app".to_owned(),
            received_at: Timestamp::UNIX_EPOCH,
            taken_at: None,
            staged_at: Timestamp::UNIX_EPOCH,
            micro_batches: vec![batch(0), batch(1), batch(2)],
            columns: Vec::new(),
            replace: false,
        };
        write_manifest(&directory, &manifest).expect("manifest");
        finish_unit(&directory, 0, &[1]);
        finish_unit(&directory, 1, &[]);
        // An app may report them in any order.
        finish_unit(&directory, 2, &[5, 4]);

        let records = open(&layout, &client, ingestion).expect("the file");
        assert_eq!((records.client(), records.file(), records.format()), (&client, "data.csv", Format::Csv));
        assert_eq!((records.prefix(), records.expected(), records.warning()), (&b"a\n"[..], 3, None));
        let Rejects::Held(mut rejects) = records.rejects else { panic!("it is held") };
        for (record, content) in [(1, b"111"), (5, b"555"), (4, b"444")] {
            let expected = RejectedRecord {
                record,
                reason: format!("reason {record}"),
                content: Some(content.to_vec()),
            };
            assert_eq!(rejects.next().expect("readable"), Some(expected));
        }
        assert_eq!(rejects.next().expect("readable"), None);
    }
}
