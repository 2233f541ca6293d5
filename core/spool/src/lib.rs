//! Where dropped files wait, and how they move on.
//!
//! - [`drop_directory`]: the only way into what senders can change; follows no symlink of theirs;
//! - [`staging`]: staged, held and archived files, and every move between them;
//! - [`replace`]: how a later run replaces what an earlier one has stored.

#[allow(clippy::disallowed_methods, reason = "it is the door to the drop directory")]
pub mod drop_directory;
pub mod replace;
#[allow(clippy::disallowed_methods, reason = "it is the door to staged files")]
pub mod staging;
