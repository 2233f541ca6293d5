//! Exit codes, as `sysexits.h` defines them.

/// Done.
pub const OK: u8 = 0;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// The data are wrong. From a batch app: hold the file.
pub const DATA: u8 = 65;
/// The named file or client does not exist.
pub const NO_INPUT: u8 = 66;
/// A required process is not running: broker, store or manager.
pub const UNAVAILABLE: u8 = 69;
/// A fault of this program.
pub const SOFTWARE: u8 = 70;
/// The operating system refuses threads or processes. From an app: try again later.
pub const OS_ERROR: u8 = 71;
/// Input or output failed.
pub const IO: u8 = 74;
/// It may work later. From a batch app: try this work unit again.
pub const TEMPORARY: u8 = 75;
/// It belongs to somebody else: a pid of another process, a lock of another manager.
pub const NO_PERMISSION: u8 = 77;
/// `config.json` is wrong.
pub const CONFIG: u8 = 78;
