//! Reads what a program reports about a unit on stdout.

use mysimbdp_model::app::{Line, UnitHeader};
use mysimbdp_platform::files::FileError;
use mysimbdp_spool::staging::{Reject, RejectsWriter};
use mysimbdp_store::CoredmsError;
use tokio::io::AsyncRead;

use super::keys::{KeyCheck, Keys};
use super::lines::{Lines, OutputLine};
use super::program::AppLog;
use crate::record_set::RecordSet;

/// Lines outside the app contract that are logged unchanged; more are only counted.
const STRAY_LINES_LOGGED: u64 = 10;

/// Bytes of a reject's reason that are kept.
const REASON_BYTES_MAX: usize = 2000;

/// What a program reports about a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppReport {
    pub done: Option<Done>,
    pub rejects: ListedRejects,
    /// The records that it lists as rejected.
    pub rejected: RecordSet,
    /// Empty if they are not looked up.
    pub keys: Keys,
}

/// Why a report could not be recorded; the program is not at fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] CoredmsError),
}

/// Receives the records and keys that a program lists.
#[derive(Debug)]
pub struct Lists {
    pub rejects: RejectsWriter,
    /// Only with ids "key".
    pub keys: Option<KeyCheck>,
}

/// The counts of the line `done`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub stored: u64,
    pub duplicates: u64,
    pub rejected: u64,
}

/// How many records it lists as rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListedRejects {
    /// Records of the unit, each counted once.
    pub listed: u64,
    /// The first listed record that does not belong to the unit.
    pub foreign: Option<u64>,
}

/// How the report on a unit ended.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    /// Only from a worker.
    Failed {
        retry: bool,
        reason: String,
    },
    /// The program has closed stdout.
    End,
}

/// Reads a report line by line.
#[derive(Debug)]
pub(super) struct ReportReader {
    report: AppReport,
    first_record: u64,
    records: u64,
    rejects: RejectsWriter,
    keys: Option<KeyCheck>,
    /// Why the rejects could not be written.
    failure: Option<FileError>,
    stray: u64,
    log: AppLog,
}

impl ReportReader {
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

    /// Reads until a worker has answered with its first line `done` or `failed`.
    pub(super) async fn read_answer(&mut self, lines: &mut Lines<impl AsyncRead + Unpin>) -> Answer {
        while let Some(text) = lines.next().await {
            if let Some(answer) = self.process(&text).await {
                return answer;
            }
        }
        Answer::End
    }

    /// Reads to the end of stdout.
    pub(super) async fn read_all(&mut self, lines: &mut Lines<impl AsyncRead + Unpin>) {
        while let Some(text) = lines.next().await {
            // The exit status answers for a process that is run once; of several `done` the last one counts.
            self.process(&text).await;
        }
    }

    /// Returns the report, or why it could not be recorded.
    pub(super) async fn finish(mut self) -> (Result<AppReport, ReportError>, RejectsWriter) {
        if self.stray > STRAY_LINES_LOGGED {
            self.log
                .line(format!("{} lines on stdout were not part of the app contract", self.stray).as_bytes());
        }
        let result = match (self.failure, self.keys) {
            (Some(error), _) => Err(error.into()),
            // Keys are looked up only if the unit is reported as done.
            (None, Some(keys)) if self.report.done.is_some() => {
                keys.finish().await.map_err(ReportError::from).map(|keys| self.report.keys = keys)
            }
            (None, _) => Ok(()),
        };
        (result.map(|()| self.report), self.rejects)
    }

    async fn process(&mut self, text: &OutputLine) -> Option<Answer> {
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
                    check.add(keys).await;
                }
                None
            }
            Ok(Line::Done { stored, duplicates, rejected }) => {
                self.report.done = Some(Done { stored, duplicates, rejected });
                Some(Answer::Done)
            }
            Ok(Line::Failed { retry, reason }) => Some(Answer::Failed { retry, reason: shortened(reason) }),
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

    async fn read_report(text: &str) -> (AppReport, Vec<Reject>) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let manifest = manifest(&[(10, 3), (10, 100)]);
        let unit = WorkUnit::all(&manifest, mysimbdp_model::app::UnitKind::MicroBatch, None).remove(1);
        let header = unit.header(&manifest, "utf-8", 1, 10);
        let rejects = RejectsWriter::new(directory.path(), 1);
        let lists = Lists { rejects, keys: None };
        let mut reader = ReportReader::new(&header, lists, AppLog::new(|_| {}));
        reader.read_all(&mut Lines::new(text.as_bytes())).await;
        let (report, rejects) = reader.finish().await;
        rejects.commit().expect("commit");
        let listed =
            read_rejects(directory.path(), 1).expect("open").collect::<Result<_, _>>().expect("read");
        (report.expect("recorded"), listed)
    }

    #[tokio::test]
    async fn each_reject_is_recorded_once_and_foreign_ones_are_not() {
        let (report, listed) = read_report(concat!(
            "{\"type\":\"progress\",\"records\":50}\n",
            "{\"type\":\"reject\",\"record\":3,\"reason\":\"first\"}\n",
            "{\"type\":\"reject\",\"record\":102,\"reason\":\"last\"}\n",
            "{\"type\":\"reject\",\"record\":3,\"reason\":\"again\"}\n",
            "{\"type\":\"reject\",\"record\":2,\"reason\":\"of the previous micro-batch\"}\n",
            "{\"type\":\"reject\",\"record\":103,\"reason\":\"after the end\"}\n",
            "{\"type\":\"done\",\"stored\":98,\"rejected\":2}\n",
        ))
        .await;
        assert_eq!(report.done, Some(Done { stored: 98, duplicates: 0, rejected: 2 }));
        assert_eq!(report.rejects, ListedRejects { listed: 2, foreign: Some(2) });
        let reject = |record, reason: &str| Reject { record, reason: reason.to_owned() };
        assert_eq!(listed, [reject(3, "first"), reject(102, "last")]);
    }

    #[tokio::test]
    async fn lines_outside_the_contract_are_ignored() {
        let (report, listed) =
            read_report("hello\n{\"type\":\"keys\",\"keys\":[1]}\n{\"type\":\"unknown\"}\n[]\n{\"type\":\"done\",\"stored\":-1}\n\n{\"type\":").await;
        assert_eq!((report, listed), (AppReport::default(), vec![]));
    }

    #[tokio::test]
    async fn the_last_of_several_done_lines_counts() {
        let (report, _) =
            read_report("{\"type\":\"done\",\"stored\":1}\n{\"type\":\"done\",\"stored\":2}").await;
        assert_eq!(report.done.map(|done| done.stored), Some(2));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let text = shortened("ü".repeat(REASON_BYTES_MAX));
        assert!(text.len() <= REASON_BYTES_MAX + 3 && text.ends_with("ü…"), "{}", text.len());
    }
}
