//! Notices: what a running process reports to `mysimbdp status`, such as why it pauses. Each is in a status file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock;
use super::files::FileError;
use super::process::ProcessId;
pub use super::status_file::TEXT_CHARS_MAX;
use mysimbdp_model::layout::Layout;

use super::status_file::{self, StatusFile};

/// The value of [`Notice::about`] if something obstructs files in the drop directory.
pub const DROP_DIRECTORY: &str = "drop-directory";

/// A status file with one notice of this process, or none. The file is removed when this is dropped.
#[derive(Debug)]
pub struct NoticeFile {
    file: StatusFile,
    process_name: &'static str,
    about: &'static str,
    process: ProcessId,
    shown: Option<String>,
    /// When it began to show a notice.
    since: Timestamp,
}

/// What a running process reports to `mysimbdp status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The process kind, such as `fetchdata`.
    #[serde(rename = "role")]
    pub process_name: String,
    pub about: String,
    #[serde(flatten)]
    pub process: ProcessId,
    pub since: Timestamp,
    pub text: String,
}

impl NoticeFile {
    /// Creates the file of `process_name` about `about`, without a notice. If this fails, each notice tries again.
    pub fn new(layout: &Layout, process_name: &'static str, about: &'static str) -> Self {
        let file = StatusFile::new(layout, &format!("{process_name}.{about}"));
        Self { file, process_name, about, process: ProcessId::current(), shown: None, since: clock::now() }
    }

    /// Shows `text`, or no notice. May be called as often as needed: only changes are written.
    pub fn show(&mut self, text: Option<String>) {
        if self.shown != text {
            if self.shown.is_none() {
                self.since = clock::now();
            }
            self.shown = text;
        }
        self.file.show(self.content());
    }

    fn content(&self) -> Vec<u8> {
        let notice = self.shown.as_ref().map(|text| Notice {
            process_name: self.process_name.to_owned(),
            about: self.about.to_owned(),
            process: self.process,
            since: self.since,
            text: text.chars().take(TEXT_CHARS_MAX).collect(),
        });
        notice.map_or_else(Vec::new, |notice| {
            serde_json::to_vec(&notice).expect("all keys of a notice are strings")
        })
    }
}

/// The messages of all running processes, in the order of the file names.
///
/// # Errors
///
/// The directory cannot be listed, or one of the files cannot be read.
pub fn notices(layout: &Layout) -> Result<Vec<Notice>, FileError> {
    let files = status_file::contents(layout)?;
    // A blank file has no message.
    let notices = files.iter().filter_map(|file| serde_json::from_slice::<Notice>(&file.content).ok());
    Ok(notices.filter(|notice| notice.process.alive()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    fn texts(layout: &Layout) -> Vec<String> {
        notices(layout).expect("readable").into_iter().map(|notice| notice.text).collect()
    }

    #[test]
    fn a_status_file_has_one_message_at_a_time_and_is_removed_with_its_owner() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        let mut notice_file = NoticeFile::new(&layout, "fetchdata", "intake");
        assert_eq!(texts(&layout), [""; 0]);
        notice_file.show(Some("the disk is full".to_owned()));
        notice_file.show(Some("the disk \"is\" fuller\n".repeat(1000)));
        let long = texts(&layout).pop().expect("one notice");
        assert!(long.starts_with("the disk \"is\" fuller\n") && long.chars().count() == TEXT_CHARS_MAX);
        notice_file.show(Some("short".to_owned()));
        assert_eq!(texts(&layout), ["short"]);
        notice_file.show(None);
        assert_eq!(texts(&layout), [""; 0]);
        drop(notice_file);
        assert!(files::list(&layout.status_files()).expect("list").is_empty());
    }

    #[test]
    fn the_status_file_of_a_killed_process_is_removed_when_the_next_one_is_created() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        files::create_dir_all(&layout.status_files()).expect("directory");
        // No process has a pid as large as this.
        files::write_atomic(&layout.status_files().join("fetchdata.intake.4294967295.json"), b" ")
            .expect("left");
        let _notice_file = NoticeFile::new(&layout, "fetchdata", "config");
        assert_eq!(files::list(&layout.status_files()).expect("list").len(), 1);
    }

    #[test]
    fn the_message_of_a_killed_process_is_ignored() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        let mut notice_file = NoticeFile::new(&layout, "fetchdata", "intake");
        notice_file.process.start_time += 1;
        notice_file.show(Some("paused".to_owned()));
        assert_eq!(texts(&layout), [""; 0]);
    }
}
