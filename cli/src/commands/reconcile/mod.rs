//! `mysimbdp reconcile`: counts in coredms itself, and exits non-zero if anything differs from what was reported.

mod tables;

pub use tables::text;

use mysimbdp_config::Config;
use mysimbdp_model::exit;
use mysimbdp_query::reconcile::{Scope, reconcile};

use crate::error::CommandError;
use crate::output;

pub async fn run(config: &Config, scope: &Scope, json: bool) -> Result<(), CommandError> {
    if let Some(id) = &scope.client
        && config.client(id).is_none()
    {
        return Err(CommandError::new(
            exit::NO_INPUT,
            format!("unknown client {id}: it is not in the config"),
        ));
    }
    let report = reconcile(config, scope).await?;
    if json {
        output::print_json(&report)?;
    } else {
        println!("{}", text(&report));
    }
    if report.balances() { Ok(()) } else { Err(CommandError::new(exit::DATA, "it does not balance")) }
}
