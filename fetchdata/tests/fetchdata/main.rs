//! fetchdata as a whole, on real directories: what is dropped ends up staged or discarded, once and never half.

#![allow(clippy::disallowed_methods, reason = "tests drop files as senders do")]

mod arrivals;
mod broken_folders;
mod cut_off;
mod enemy_ground;
mod names;
mod refusals;
mod repeats;
mod running;
mod tenants;
