//! Reference batch app: stores whole files in GridFS.
//!
//! 1. [`Part`]: which part of the file this unit is: all of it, a range, or the join that completes it;
//! 2. [`upload`]: stores its bytes as chunks, in bounded memory, three pieces at a time;
//! 3. [`commit`]: stores the file's document, which publishes the object, once all chunks are stored.
//!
//! The object's id is the ingestion and each chunk has a fixed position, so a repeat writes the same data again.

mod upload;

use std::process::ExitCode;

use bson::spec::BinarySubtype;
use bson::{Binary, DateTime, Document, doc};
use clap::Parser;
use mysimbdp_sdk::batch::{self, Unit};
use mysimbdp_sdk::coredms::Object;
use mysimbdp_sdk::{Counts, Failure, Format, Ids, IngestionId, Phase, UnitHeader, failpoint, memory};

/// `EX_USAGE` of `sysexits.h`.
const USAGE: u8 = 64;

/// Stores whole files, byte for byte, as GridFS objects in the bucket that the collection names.
#[derive(Clone, Debug, Parser)]
#[command(name = "object-app", version)]
struct Arguments {
    /// Content type of all files; by default it is derived from the format.
    #[arg(long)]
    content_type: Option<String>,
}

fn main() -> ExitCode {
    // Each message to the store is built in buffers of megabytes.
    memory::keep_freed_memory();
    match Arguments::try_parse() {
        Ok(arguments) => batch::run(|unit| store(&arguments, unit)),
        Err(error) => {
            // Nothing can be done if even this cannot be printed.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

fn store(arguments: &Arguments, unit: &mut Unit<'_>) -> Result<Counts, Failure> {
    if unit.settings.ids != Ids::Object {
        let ids = unit.settings.ids.as_str();
        return Err(Failure::Config(format!("invalid ids {ids:?}: object-app needs \"object\"")));
    }
    let id: IngestionId =
        unit.header.ingestion.parse().map_err(|error| Failure::Config(format!("header: {error}")))?;
    let is_new = match Part::of(unit.header) {
        Part::Whole => {
            upload::upload(unit, id, 0)?;
            failpoint::hit("batch-app.chunks-stored");
            commit(arguments, unit, id)?
        }
        // The records of the file count for the join; a range has none.
        Part::Range => {
            upload::upload(unit, id, unit.header.offset)?;
            true
        }
        Part::Join => commit(arguments, unit, id)?,
    };
    failpoint::hit("batch-app.object-committed");
    let received = unit.header.records;
    let (stored, duplicates) = if is_new { (received, 0) } else { (0, received) };
    Ok(Counts { received, stored, duplicates, rejected: 0 })
}

/// Which part of its file a unit is.
enum Part {
    Whole,
    Range,
    Join,
}

impl Part {
    fn of(header: &UnitHeader) -> Self {
        match header.phase {
            Phase::Join => Self::Join,
            Phase::Ingest if header.batch_count == 1 => Self::Whole,
            Phase::Ingest => Self::Range,
        }
    }
}

/// Publishes the object. Returns false if an earlier drop of the same content has done so and must not be replaced.
fn commit(arguments: &Arguments, unit: &Unit<'_>, id: IngestionId) -> Result<bool, Failure> {
    let object = Object {
        id,
        name: unit.header.file.clone(),
        bytes: unit.header.file_bytes,
        metadata: metadata(arguments, unit.header),
    };
    let (coredms, bucket) = (&unit.store.coredms, &unit.settings.collection);
    unit.store.block_on(async {
        if coredms.commit_object(bucket, &object).await? {
            return Ok(true);
        }
        let filter =
            doc! { "_id": Binary { subtype: BinarySubtype::Generic, bytes: id.as_bytes().to_vec() } };
        let files = format!("{bucket}.files");
        let mut known = coredms.find(&files, filter, 1).await?;
        if unit.header.replace.is_some()
            && let Some(mut file) = known.pop()
        {
            // The bytes are the same, but their description may differ.
            file.insert("filename", object.name);
            file.insert("metadata", object.metadata);
            coredms.put(&files, file).await?;
            return Ok(true);
        }
        // An earlier attempt of this drop may have ended after the commit; then the object is still new.
        let received_at =
            known.first().and_then(|file| file.get_document("metadata").ok()?.get("received_at"));
        Ok(received_at == object.metadata.get("received_at"))
    })
}

fn metadata(arguments: &Arguments, header: &UnitHeader) -> Document {
    let content_type = arguments.content_type.as_deref().unwrap_or(match header.format {
        Format::Csv => "text/csv",
        Format::Ndjson => "application/x-ndjson",
        Format::Json => "application/json",
        Format::Binary => "application/octet-stream",
    });
    doc! {
        "client": &header.client_id,
        "ingestion": &header.ingestion,
        "file": &header.file,
        "records": i64::try_from(header.records).unwrap_or(i64::MAX),
        "received_at": DateTime::from_millis(header.received_at.as_millisecond()),
        "content_type": content_type,
    }
}
