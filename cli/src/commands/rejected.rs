//! `mysimbdp rejected`: shows the rejected records of a file to people, or writes them in the file's own format, so
//! that they can be repaired and dropped.

use mysimbdp_config::Config;
use mysimbdp_model::exit;
use mysimbdp_query::rejected::{self, RejectedExport, RejectedRecord, RejectedRecords};

use crate::args::Rejected;
use crate::error::CommandError;
use crate::output::{Foreign, print_content};

/// How many bytes of a record are shown to a person.
const SHOWN_BYTES_MAX: usize = 400;

pub async fn run(config: &Config, args: &Rejected) -> Result<(), CommandError> {
    let mut records = rejected::open(config, args.ingestion).await?;
    let warning = records.warning().map(str::to_owned);
    let listed = if args.content { export(&mut records).await } else { list(&mut records).await };
    let finished = records.finish().await;
    listed?;
    finished?;
    warning.map_or(Ok(()), |problem| Err(CommandError::new(exit::NO_INPUT, problem)))
}

/// Shows the records to a person.
async fn list(records: &mut RejectedRecords) -> Result<(), CommandError> {
    let mut is_empty = true;
    while let Some(RejectedRecord { record, reason, content }) = records.next().await? {
        is_empty = false;
        println!("record {record}: {}", Foreign(&reason));
        println!("    {}", content.map_or_else(|| "(its bytes were not kept)".to_owned(), |it| excerpt(&it)));
    }
    // A later run has rejected records that cannot be shown.
    if is_empty && records.warning().is_none() {
        println!("no record of it was rejected");
    }
    Ok(())
}

/// Writes the records in the format of their file.
///
/// # Errors
///
/// The records cannot be read or written, or an earlier version did not keep the bytes of all of them.
async fn export(records: &mut RejectedRecords) -> Result<(), CommandError> {
    let mut export = RejectedExport::new(records.format());
    print_content(&export.begin(records.prefix()))?;
    let (mut listed, mut without) = (0_u64, 0_u64);
    while let Some(record) = records.next().await? {
        listed += 1;
        let Some(content) = record.content else {
            without += 1;
            continue;
        };
        let frame = export.next_frame();
        print_content(&[frame.before, &content, frame.after])?;
    }
    print_content(&[export.end()])?;
    if without == 0 {
        return Ok(());
    }
    let problem =
        format!("{without} of {listed} records were listed by a version that did not keep their bytes");
    Err(CommandError::new(exit::DATA, problem))
}

/// Returns the beginning of a record, on one line.
fn excerpt(bytes: &[u8]) -> String {
    let begin = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]);
    match bytes.len().checked_sub(SHOWN_BYTES_MAX) {
        None | Some(0) => Foreign(&begin).to_string(),
        Some(more) => format!("{} … and {more} more bytes", Foreign(&begin)),
    }
}
