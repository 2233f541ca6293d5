//! The client app contract as a crate.
//!
//! A **batch app** receives work units and stores their records: give [`batch::run`] a function that reads a unit's bytes
//! and passes [`record::Fields`] to the unit's [`batch::Sink`]. A **stream app** receives messages: give [`stream::run`] a
//! function that turns a message into fields. The crate implements the rest of the contract: both batch protocols, counts,
//! rejects, exit codes, the `_id` of each record ([`identity`]), acknowledgement after durability, reports, stop and drain.
//!
//! `docs/app-contract.md` describes the same contract for apps in any language.
//!
//! ```no_run
//! use std::io::{BufRead, Read};
//! use std::process::ExitCode;
//!
//! use mysimbdp_sdk::{batch, record::Fields};
//!
//! /// Stores each line as a document with one field.
//! fn main() -> ExitCode {
//!     batch::run(|unit| {
//!         let mut fields = Fields::new();
//!         for line in unit.input.by_ref().lines() {
//!             fields.clear();
//!             fields.string("line", &line?);
//!             unit.sink.record(&fields)?;
//!         }
//!         unit.sink.finish()
//!     })
//! }
//! ```

#![warn(missing_docs)]

pub mod batch;
mod environment;
pub mod failure;
pub mod identity;
pub mod record;
mod rejection;
pub mod stream;

pub use failure::Failure;
pub use mysimbdp_model::app::{Ids, Phase, UnitHeader};
pub use mysimbdp_model::column::{ColumnType, ColumnValues};
pub use mysimbdp_model::encoding::{Encoding, EncodingError};
pub use mysimbdp_model::ingestion::IngestionId;
pub use mysimbdp_model::manifest::Format;
pub use mysimbdp_model::outcome::Counts;
#[doc(hidden)]
pub use mysimbdp_platform::failpoint;
pub use mysimbdp_platform::memory;
pub use mysimbdp_store as coredms;
pub use rejection::Rejection;
