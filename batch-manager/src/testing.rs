//! Makes manifests and outcomes for the tests of this crate.

use jiff::Timestamp;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::ingestion::IngestionId;
use mysimbdp_model::manifest::{Format, Lane, Manifest, MicroBatch, Prefix, VERSION};
use mysimbdp_model::outcome::{Counts, Outcome};

use crate::unit::WorkUnit;

/// Returns a manifest of micro-batches with these lengths and numbers of records, after a prefix of 10 bytes.
pub(crate) fn manifest(batches: &[(u64, u64)]) -> Manifest {
    let client: ClientId = "client1".parse().expect("client id");
    let prefix = Prefix { offset: 0, length: 10 };
    let (mut offset, mut first_record) = (prefix.length, 0);
    let mut micro_batches = Vec::new();
    for (index, (length, records)) in (0..).zip(batches.iter().copied()) {
        let path = "data.csv".to_owned();
        micro_batches.push(MicroBatch {
            index,
            path,
            offset,
            length,
            first_record,
            records,
            xxh3: String::new(),
        });
        offset += length;
        first_record += records;
    }
    Manifest {
        version: VERSION,
        ingestion: IngestionId::new(&client, &blake3::hash(b"")),
        client,
        lane: Lane::Live,
        file: "data.csv".to_owned(),
        bytes: offset,
        records: first_record,
        blake3: String::new(),
        format: Format::Csv,
        prefix,
        app: "app".to_owned(),
        received_at: Timestamp::UNIX_EPOCH,
        taken_at: None,
        staged_at: Timestamp::UNIX_EPOCH,
        micro_batches,
        columns: Vec::new(),
        replace: false,
    }
}

/// Returns the outcome of a unit whose records were all stored.
pub(crate) fn outcome(unit: &WorkUnit, manifest: &Manifest) -> Outcome {
    Outcome {
        version: 1,
        index: unit.index,
        attempt: 1,
        counts: Counts { received: unit.records, stored: unit.records, duplicates: 0, rejected: 0 },
        bytes: unit.bytes(manifest),
        seconds: 0.1,
        finished_at: Timestamp::UNIX_EPOCH,
        audited: true,
        rejects_xxh3: None,
    }
}
