//! Signs: what a running process has to say to `mysimbdp status`, such as why it pauses. Each is a status file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock;
use super::files::FileError;
use super::process::ProcessId;
pub use super::status_file::TEXT_CHARS_MAX;
use mysimbdp_model::layout::Layout;

use super::status_file::{self, StatusFile};

/// What [`Notice::about`] says if something is in the way of files in the drop directory.
pub const DROP_DIRECTORY: &str = "drop-directory";

/// A place where this process says one thing, or nothing. Taken down when dropped.
#[derive(Debug)]
pub struct Sign {
    file: StatusFile,
    role: &'static str,
    about: &'static str,
    process: ProcessId,
    shown: Option<String>,
    /// When it began to say something.
    since: Timestamp,
}

/// What a process that runs says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Who says it, such as `fetchdata`.
    pub role: String,
    pub about: String,
    #[serde(flatten)]
    pub process: ProcessId,
    pub since: Timestamp,
    pub text: String,
}

impl Sign {
    /// Makes an empty sign of `role` about something. Where it cannot be made, that is tried again with each text.
    pub fn new(layout: &Layout, role: &'static str, about: &'static str) -> Self {
        let file = StatusFile::new(layout, &format!("{role}.{about}"));
        Self { file, role, about, process: ProcessId::current(), shown: None, since: clock::now() }
    }

    /// Says `text`, or nothing. To be called as often as one likes: only what changes is written.
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
            role: self.role.to_owned(),
            about: self.about.to_owned(),
            process: self.process,
            since: self.since,
            text: text.chars().take(TEXT_CHARS_MAX).collect(),
        });
        notice.map_or_else(Vec::new, |notice| {
            serde_json::to_vec(&notice).expect("a notice has no map with keys other than text")
        })
    }
}

/// What all processes that run have to say, in the order of their names.
///
/// # Errors
///
/// The directory of the signs cannot be listed, or one of them not be read.
pub fn notices(layout: &Layout) -> Result<Vec<Notice>, FileError> {
    let said = status_file::contents(layout)?;
    // An empty one says nothing.
    let notices = said.iter().filter_map(|said| serde_json::from_slice::<Notice>(&said.content).ok());
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
    fn a_sign_says_one_thing_at_a_time_and_goes_with_its_process() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        let mut sign = Sign::new(&layout, "fetchdata", "intake");
        assert_eq!(texts(&layout), [""; 0]);
        sign.show(Some("the disk is full".to_owned()));
        sign.show(Some("the disk \"is\" fuller\n".repeat(1000)));
        let long = texts(&layout).pop().expect("one sign");
        assert!(long.starts_with("the disk \"is\" fuller\n") && long.chars().count() == TEXT_CHARS_MAX);
        sign.show(Some("short".to_owned()));
        assert_eq!(texts(&layout), ["short"]);
        sign.show(None);
        assert_eq!(texts(&layout), [""; 0]);
        drop(sign);
        assert!(files::list(&layout.signs()).expect("list").is_empty());
    }

    #[test]
    fn what_a_process_that_was_killed_has_left_goes_with_the_next_sign() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        files::create_dir_all(&layout.signs()).expect("directory");
        // No pid is as large as that.
        files::write_atomic(&layout.signs().join("fetchdata.intake.4294967295.json"), b" ").expect("left");
        let _sign = Sign::new(&layout, "fetchdata", "config");
        assert_eq!(files::list(&layout.signs()).expect("list").len(), 1);
    }

    #[test]
    fn the_sign_of_a_process_that_was_killed_is_not_believed() {
        let root = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(root.path());
        let mut sign = Sign::new(&layout, "fetchdata", "intake");
        sign.process.start_time += 1;
        sign.show(Some("paused".to_owned()));
        assert_eq!(texts(&layout), [""; 0]);
    }
}
