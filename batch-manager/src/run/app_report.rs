//! What a program says on stdout about a unit.

use mysimbdp_model::app::{Line, UnitHeader};
use mysimbdp_platform::files::FileError;
use mysimbdp_spool::staging::{Reject, RejectsWriter};
use mysimbdp_store::CoredmsError;
use tokio::io::AsyncRead;

use super::keys::{KeyCheck, Keys};
use super::lines::{Lines, Text};
use super::program::AppLog;
use crate::record_set::RecordSet;

/// Lines that are none of the contract, logged as they are; more are only counted.
const STRAY_LINES_LOGGED: u64 = 10;

/// Bytes of a reject's reason that are kept.
const REASON_BYTES_MAX: usize = 2000;

/// What a program says it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppReport {
    pub done: Option<Done>,
    pub rejects: Rejects,
    /// Which records these are.
    pub rejected: RecordSet,
    /// None where nobody looks them up.
    pub keys: Keys,
}

/// Why a report could not be taken down; not the program's fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] CoredmsError),
}

/// Where what a program lists goes.
#[derive(Debug)]
pub struct Lists {
    pub rejects: RejectsWriter,
    /// With ids "key".
    pub keys: Option<KeyCheck>,
}

/// The last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub stored: u64,
    pub duplicates: u64,
    pub rejected: u64,
}

/// The records that it lists as rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejects {
    /// Different records of the unit.
    pub listed: u64,
    /// A record that is not of the unit.
    pub foreign: Option<u64>,
}

/// How a reading ended.
#[derive(Debug)]
pub(super) enum Heard {
    Done,
    /// Worker only.
    Failed {
        retry: bool,
        reason: String,
    },
    /// stdout has been closed.
    End,
}

/// Collects a report line by line.
#[derive(Debug)]
pub(super) struct Hearing {
    report: AppReport,
    first_record: u64,
    records: u64,
    rejects: RejectsWriter,
    keys: Option<KeyCheck>,
    /// The disk did not take what was rejected.
    failure: Option<FileError>,
    stray: u64,
    log: AppLog,
}

impl Hearing {
    pub(super) fn new(header: &UnitHeader, lists: Lists, log: AppLog) -> Self {
        let Lists { rejects, keys } = lists;
        Self {
            report: AppReport::default(),
            first_record: header.first_record,
            records: header.records,
            rejects,
            keys,
            failure: None,
            stray: 0,
            log,
        }
    }

    /// Reads until the unit is answered: of a worker its first line `done` or `failed`.
    pub(super) async fn answer(&mut self, lines: &mut Lines<impl AsyncRead + Unpin>) -> Heard {
        while let Some(text) = lines.next().await {
            if let Some(heard) = self.take(&text).await {
                return heard;
            }
        }
        Heard::End
    }

    /// Reads to the end of stdout.
    pub(super) async fn all(&mut self, lines: &mut Lines<impl AsyncRead + Unpin>) {
        while let Some(text) = lines.next().await {
            // Only the exit status ends a process that is run once; of several `done` the last one counts.
            self.take(&text).await;
        }
    }

    /// The report, or what kept it from being recorded.
    pub(super) async fn finish(mut self) -> (Result<AppReport, ClaimError>, RejectsWriter) {
        if self.stray > STRAY_LINES_LOGGED {
            self.log.line(format!("{} lines on stdout were none of the contract", self.stray).as_bytes());
        }
        let result = match (self.failure, self.keys) {
            (Some(error), _) => Err(error.into()),
            // Only what is reported to be done is worth a look.
            (None, Some(keys)) if self.report.done.is_some() => {
                keys.finish().await.map_err(ClaimError::from).map(|keys| self.report.keys = keys)
            }
            (None, _) => Ok(()),
        };
        (result.map(|()| self.report), self.rejects)
    }

    async fn take(&mut self, text: &Text) -> Option<Heard> {
        if text.bytes.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        match serde_json::from_slice(&text.bytes) {
            Ok(Line::Progress { .. }) => None,
            Ok(Line::Reject { record, reason }) => {
                self.reject(record, reason);
                None
            }
            Ok(Line::Keys { keys }) => {
                if let Some(check) = &mut self.keys {
                    check.take(keys).await;
                }
                None
            }
            Ok(Line::Done { stored, duplicates, rejected }) => {
                self.report.done = Some(Done { stored, duplicates, rejected });
                Some(Heard::Done)
            }
            Ok(Line::Failed { retry, reason }) => Some(Heard::Failed { retry, reason: shortened(reason) }),
            Err(_) => {
                self.stray += 1;
                if self.stray <= STRAY_LINES_LOGGED {
                    self.log.line(&text.bytes);
                }
                None
            }
        }
    }

    fn reject(&mut self, record: u64, reason: String) {
        if record.checked_sub(self.first_record).is_none_or(|position| position >= self.records) {
            self.report.rejects.foreign.get_or_insert(record);
            return;
        }
        if self.failure.is_some() || !self.report.rejected.insert(record) {
            return;
        }
        self.report.rejects.listed += 1;
        self.failure = self.rejects.write(&Reject { record, reason: shortened(reason) }).err();
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use mysimbdp_spool::staging::read_rejects;

    use super::*;
    use crate::testing::manifest;
    use crate::unit::WorkUnit;

    async fn heard(text: &str) -> (AppReport, Vec<Reject>) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let manifest = manifest(&[(10, 3), (10, 100)]);
        let unit = WorkUnit::all(&manifest, mysimbdp_model::app::Unit::MicroBatch, None).remove(1);
        let header = unit.header(&manifest, "utf-8", 1, 10);
        let rejects = RejectsWriter::new(directory.path(), 1);
        let lists = Lists { rejects, keys: None };
        let mut hearing = Hearing::new(&header, lists, AppLog::new(|_| {}));
        hearing.all(&mut Lines::new(text.as_bytes())).await;
        let (report, rejects) = hearing.finish().await;
        rejects.commit().expect("commit");
        let listed =
            read_rejects(directory.path(), 1).expect("open").collect::<Result<_, _>>().expect("read");
        (report.expect("recorded"), listed)
    }

    #[tokio::test]
    async fn rejects_are_recorded_once_each_and_foreign_ones_not() {
        let (report, listed) = heard(concat!(
            "{\"type\":\"progress\",\"records\":50}\n",
            "{\"type\":\"reject\",\"record\":3,\"reason\":\"first\"}\n",
            "{\"type\":\"reject\",\"record\":102,\"reason\":\"last\"}\n",
            "{\"type\":\"reject\",\"record\":3,\"reason\":\"again\"}\n",
            "{\"type\":\"reject\",\"record\":2,\"reason\":\"of the micro-batch before\"}\n",
            "{\"type\":\"reject\",\"record\":103,\"reason\":\"behind the end\"}\n",
            "{\"type\":\"done\",\"stored\":98,\"rejected\":2}\n",
        ))
        .await;
        assert_eq!(report.done, Some(Done { stored: 98, duplicates: 0, rejected: 2 }));
        assert_eq!(report.rejects, Rejects { listed: 2, foreign: Some(2) });
        let reject = |record, reason: &str| Reject { record, reason: reason.to_owned() };
        assert_eq!(listed, [reject(3, "first"), reject(102, "last")]);
    }

    #[tokio::test]
    async fn what_is_none_of_the_contract_is_ignored() {
        let (report, listed) =
            heard("hello\n{\"type\":\"keys\",\"keys\":[1]}\n{\"type\":\"unknown\"}\n[]\n{\"type\":\"done\",\"stored\":-1}\n\n{\"type\":").await;
        assert_eq!((report, listed), (AppReport::default(), vec![]));
    }

    #[tokio::test]
    async fn of_several_last_lines_the_last_counts() {
        let (report, _) = heard("{\"type\":\"done\",\"stored\":1}\n{\"type\":\"done\",\"stored\":2}").await;
        assert_eq!(report.done.map(|done| done.stored), Some(2));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let text = shortened("ü".repeat(REASON_BYTES_MAX));
        assert!(text.len() <= REASON_BYTES_MAX + 3 && text.ends_with("ü…"), "{}", text.len());
    }
}
