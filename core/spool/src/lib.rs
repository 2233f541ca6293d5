//! The directories in which dropped files wait, and the moves between them.
//!
//! - [`drop_directory`]: the only access to files that senders can change; it follows no symlink of theirs;
//! - [`staging`]: staged, held and archived files, and every move between them;
//! - [`replace`]: how a later run replaces what an earlier one has stored.

#[allow(clippy::disallowed_methods, reason = "it is the I/O adapter of the drop directory")]
pub mod drop_directory;
pub mod replace;
#[allow(clippy::disallowed_methods, reason = "it is the I/O adapter of staged files")]
pub mod staging;
