//! One module per command.

mod arrivals;
pub mod check;
pub mod check_app;
pub mod drop_files;
pub mod edge;
pub mod health;
pub mod links;
pub mod process;
pub mod purge;
pub mod reconcile;
pub mod rejected;
pub mod reload;
pub mod reprocess;
pub mod retry;
pub mod status;
pub mod stream;
pub mod tail;
pub mod timing;
pub mod top;
pub mod up;
