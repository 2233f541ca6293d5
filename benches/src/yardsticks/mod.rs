//! What bounds the platform, and nothing else: small programs that only insert, only upload, only hash.
//!
//! For streams it is the broker alone, see [`crate::mqtt`].

mod hash;
mod insert;
mod paced;
mod sequential;
mod upload;

pub use hash::hash;
pub use insert::insert;
pub use paced::paced;
pub use sequential::sequential;
pub use upload::upload;
