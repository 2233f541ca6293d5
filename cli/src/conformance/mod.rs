//! The app contract as cases that can be run against any program; `docs/app-contract.md` lists them for its author.
//!
//! The cases of batch apps are here, those of stream apps in [`stream`]. The sample is CSV; the store is
//! `MYSIMBDP_COREDMS`, or an embedded one in a temporary directory.

mod bench;
mod sandbox;
pub mod stream;

use mysimbdp_model::app::{Ids, Line};
use mysimbdp_model::exit;

pub use bench::Bench;

use crate::error::CommandError;
use bench::{AppAnswer, InputPart, SampleUnit};

/// Rows of the sample unit; small, so that the cases take seconds.
const RECORDS: u64 = 50;

/// One case, and whether the program passed it, or why it did not.
#[derive(Debug)]
pub struct ContractCase {
    pub name: &'static str,
    pub result: Verdict,
}

/// Runs all cases, one after the other.
pub async fn cases(bench: &Bench) -> Result<Vec<ContractCase>, CommandError> {
    let mut cases = match bench.ids() {
        Ids::Object => return objects(bench).await,
        Ids::Key => vec![
            ContractCase {
                name: "each key that is stored or found is listed, and exists",
                result: keyed(bench).await?,
            },
            ContractCase {
                name: "the same unit again stores nothing twice",
                result: keyed_again(bench).await?,
            },
        ],
        Ids::Platform | Ids::None => vec![
            ContractCase { name: "a unit is stored and its counts add up", result: whole(bench).await? },
            ContractCase { name: "the same unit again stores nothing twice", result: repeated(bench).await? },
            ContractCase {
                name: "told to replace stored records, it does, or reports that it did not",
                result: replaced(bench).await?,
            },
            ContractCase {
                name: "a later micro-batch gets the numbers of its records",
                result: later(bench).await?,
            },
        ],
    };
    cases.extend([
        ContractCase { name: "a line break in quotes is part of its record", result: quoted(bench).await? },
        ContractCase {
            name: "more records announced than sent: refused as bad data",
            result: miscounted(bench, RECORDS + 1).await?,
        },
        ContractCase {
            name: "fewer records announced than sent: refused as bad data",
            result: miscounted(bench, RECORDS - 1).await?,
        },
        ContractCase { name: "input that ends early is a failure", result: short(bench).await? },
        ContractCase { name: "input that is not data is rejected or refused", result: garbage(bench).await? },
        ContractCase { name: "SIGTERM ends it", result: bench.terminates().await? },
    ]);
    Ok(cases)
}

/// Runs the cases of an app that stores whole files.
async fn objects(bench: &Bench) -> Result<Vec<ContractCase>, CommandError> {
    let file = SampleUnit::file();
    Ok(vec![
        ContractCase { name: "a file is stored, byte for byte", result: object(bench, &file).await? },
        ContractCase {
            name: "the same file again stores nothing twice",
            result: object_again(bench, &file).await?,
        },
        ContractCase { name: "input that ends early is a failure", result: half_an_object(bench).await? },
        ContractCase { name: "SIGTERM ends it", result: bench.terminates().await? },
    ])
}

/// Whether the program passed a case, or why it did not.
type Verdict = Result<(), String>;

async fn whole(bench: &Bench) -> Result<Verdict, CommandError> {
    let unit = SampleUnit::sample(0, RECORDS);
    let answer = bench.run(&unit, InputPart::Whole).await?;
    let stored = bench.stored(&unit).await?;
    Ok(balanced(&answer).and_then(|counts| match counts {
        (0, _, _) => Err("it stored none of the sample's records".to_owned()),
        (reported, _, _) if reported != stored => {
            Err(format!("it reports that it stored {reported}, the store has {stored}"))
        }
        _ => Ok(()),
    }))
}

async fn repeated(bench: &Bench) -> Result<Verdict, CommandError> {
    let unit = SampleUnit::sample(0, RECORDS);
    let first = bench.run(&unit, InputPart::Whole).await?;
    let before = bench.total().await?;
    let second = bench.run(&unit, InputPart::Whole).await?;
    let after = bench.total().await?;
    Ok(balanced(&first).and_then(|_| balanced(&second)).and_then(|counts| match counts {
        _ if before != after => {
            Err(format!("the store had {before} documents after the first time, {after} after the second"))
        }
        (0, _, _) => Ok(()),
        (stored, _, _) => Err(format!("it reports that it stored {stored} records the second time")),
    }))
}

async fn replaced(bench: &Bench) -> Result<Verdict, CommandError> {
    let unit = SampleUnit::sample(0, RECORDS);
    bench.run(&unit, InputPart::Whole).await?;
    let before = bench.documents(&unit).await?;
    let answer = bench.run(&unit.replacement(), InputPart::Whole).await?;
    let after = bench.documents(&unit).await?;
    let found = after.len() as u64;
    let same = before.iter().zip(&after).filter(|(before, after)| before == after).count() as u64;
    Ok(balanced(&answer).and_then(|counts| match counts {
        (stored, duplicates, _) if stored + duplicates > found => {
            Err(format!("it says that it stored {stored} records and found {duplicates}, the store has {found}"))
        }
        (0, _, _) if before == after => Ok(()),
        (stored, 0, rejected) if same <= rejected && stored + rejected == RECORDS => Ok(()),
        (stored, duplicates, _) => Err(format!(
            "it reports {stored} stored records and {duplicates} duplicates, but {same} documents are unchanged"
        )),
    }))
}

async fn later(bench: &Bench) -> Result<Verdict, CommandError> {
    let unit = SampleUnit::sample(1000, RECORDS);
    let answer = bench.run(&unit, InputPart::Whole).await?;
    let stored = bench.stored(&unit).await?;
    Ok(balanced(&answer).and_then(|(reported, _, _)| {
        if reported == stored {
            Ok(())
        } else {
            Err(format!(
                "it reports that it stored {reported}, of the ids from record 1000 on the store has {stored}"
            ))
        }
    }))
}

async fn quoted(bench: &Bench) -> Result<Verdict, CommandError> {
    let unit = SampleUnit::quoted();
    let before = bench.total().await?;
    let answer = bench.run(&unit, InputPart::Whole).await?;
    let added = bench.total().await?.saturating_sub(before);
    Ok(balanced(&answer).and_then(|(stored, _, rejected)| match (stored, rejected) {
        (stored, _) if stored != added => {
            Err(format!("it reports that it stored {stored}, the store has {added} more"))
        }
        (_, 0) => Ok(()),
        (_, rejected) => Err(format!("it rejected {rejected} of {} records", answer.records)),
    }))
}

async fn object(bench: &Bench, file: &SampleUnit) -> Result<Verdict, CommandError> {
    let answer = bench.run(file, InputPart::Whole).await?;
    let same = bench.object(file).await?.map(|stored| stored == file.content());
    Ok(balanced(&answer).and_then(|counts| match (counts, same) {
        ((1, 0, 0), Some(true)) => Ok(()),
        ((1, 0, 0), Some(false)) => Err("the object in the store has other bytes than the file".to_owned()),
        ((1, 0, 0), None) => Err("it reports that it stored the file, which is not in the store".to_owned()),
        (counts, _) => Err(format!("stored, duplicates and rejected are {counts:?}: expected (1, 0, 0)")),
    }))
}

async fn object_again(bench: &Bench, file: &SampleUnit) -> Result<Verdict, CommandError> {
    let answer = bench.run(file, InputPart::Whole).await?;
    let objects = bench.total().await?;
    Ok(balanced(&answer).and_then(|counts| match (counts, objects) {
        ((_, _, 1..), _) => Err("it rejected the file the second time".to_owned()),
        // The same bytes have replaced the same bytes: the app may count that as stored or as a duplicate.
        (_, 1) => Ok(()),
        (_, objects) => Err(format!("the store has {objects} objects of one file")),
    }))
}

async fn half_an_object(bench: &Bench) -> Result<Verdict, CommandError> {
    let file = SampleUnit::file();
    let answer = bench.run(&file, InputPart::Half).await?;
    let stored = bench.object(&file).await?;
    Ok(match answer {
        _ if stored.is_some() => Err("it published half of the file in the store".to_owned()),
        AppAnswer { exit: Some(0), .. } => {
            Err(format!("it must not treat this as the end of the file, but {answer}"))
        }
        AppAnswer { last: Some(Line::Done { .. }), .. } => Err("it reported that it was done".to_owned()),
        _ => Ok(()),
    })
}

async fn keyed(bench: &Bench) -> Result<Verdict, CommandError> {
    let answer = bench.run(&SampleUnit::sample(0, RECORDS), InputPart::Whole).await?;
    let missing = bench.missing_key(&answer.keys).await?;
    Ok(balanced(&answer).and_then(|(stored, duplicates, _)| {
        let listed = answer.keys.len() as u64;
        match missing {
            _ if stored == 0 => Err("it stored none of the sample's records".to_owned()),
            _ if listed != stored + duplicates => Err(format!(
                "it reports that it stored {stored} and found {duplicates}, and lists {listed} keys"
            )),
            Some(key) => Err(format!("it lists the key {key}, which is not in the store")),
            None => Ok(()),
        }
    }))
}

async fn keyed_again(bench: &Bench) -> Result<Verdict, CommandError> {
    let unit = SampleUnit::sample(0, RECORDS);
    let first = bench.run(&unit, InputPart::Whole).await?;
    let before = bench.total().await?;
    let second = bench.run(&unit, InputPart::Whole).await?;
    let after = bench.total().await?;
    Ok(balanced(&first).and_then(|_| balanced(&second)).and_then(|_| match before == after {
        true => Ok(()),
        false => {
            Err(format!("the store had {before} documents after the first time, {after} after the second"))
        }
    }))
}

async fn miscounted(bench: &Bench, announced: u64) -> Result<Verdict, CommandError> {
    let mut unit = SampleUnit::sample(0, RECORDS);
    unit.header.records = announced;
    let before = bench.total().await?;
    let answer = bench.run(&unit, InputPart::Whole).await?;
    // With key ids the keys are those of earlier cases: no document is added.
    let own = if bench.ids() == Ids::Key { 0 } else { bench.stored(&unit).await? };
    let outside = bench.total().await?.saturating_sub(before + own);
    Ok(match answer {
        _ if outside > 0 => Err(format!("it stored {outside} records outside of those announced")),
        AppAnswer { exit: Some(code), .. } if code == i32::from(exit::DATA) => Ok(()),
        AppAnswer { last: Some(Line::Failed { retry: false, .. }), .. } => Ok(()),
        other => Err(format!("it must exit {} and {other}", exit::DATA)),
    })
}

async fn short(bench: &Bench) -> Result<Verdict, CommandError> {
    let answer = bench.run(&SampleUnit::sample(0, RECORDS), InputPart::Half).await?;
    Ok(match answer {
        AppAnswer { exit: Some(0), .. } => {
            Err(format!("it must not treat this as the end of the file, but {answer}"))
        }
        AppAnswer { last: Some(Line::Done { .. }), .. } => Err("it reported that it was done".to_owned()),
        _ => Ok(()),
    })
}

async fn garbage(bench: &Bench) -> Result<Verdict, CommandError> {
    let unit = SampleUnit::garbage();
    let before = bench.total().await?;
    let answer = bench.run(&unit, InputPart::Whole).await?;
    let added = bench.total().await?.saturating_sub(before);
    Ok(match answer {
        AppAnswer { exit: Some(code), .. } if code == i32::from(exit::DATA) => Ok(()),
        AppAnswer { last: Some(Line::Failed { retry: false, .. }), .. } => Ok(()),
        answer => balanced(&answer).and_then(|(stored, _, _)| match stored {
            0 => Ok(()),
            _ if stored == added => Ok(()),
            _ => Err(format!("it says that it stored {stored}, the store has {added} more")),
        }),
    })
}

/// Returns the stored, duplicate and rejected records of a successful unit; an error if they do not add up.
fn balanced(answer: &AppAnswer) -> Result<(u64, u64, u64), String> {
    match (answer.exit, &answer.last) {
        (None | Some(0), Some(Line::Done { stored, duplicates, rejected })) => {
            let sum = stored + duplicates + rejected;
            if sum == answer.records {
                Ok((*stored, *duplicates, *rejected))
            } else {
                Err(format!(
                    "stored {stored} + duplicates {duplicates} + rejected {rejected} are not {} records",
                    answer.records
                ))
            }
        }
        _ => Err(format!("it must end with a done line and exit 0, but {answer}")),
    }
}
