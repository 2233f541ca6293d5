//! `mysimbdp health`: whether everything is there that the config demands, for probes.

use mysimbdp_config::Config;
use mysimbdp_model::exit;
use mysimbdp_query::snapshot::{self, Condition, Part};
use serde::Serialize;

use crate::error::Failure;
use crate::output::{self, Foreign};

#[derive(Serialize)]
struct Health<'a> {
    healthy: bool,
    parts: &'a [Part],
}

pub async fn run(config: &Config, json: bool) -> Result<(), Failure> {
    let parts = snapshot::take(config).await.parts;
    let code = exit_code(&parts);
    if json {
        output::print_json(&Health { healthy: code.is_none(), parts: &parts })?;
    } else {
        print(&parts);
    }
    match code {
        None => Ok(()),
        Some(code) => Err(Failure::without_message(code)),
    }
}

/// The exit code for the worst of them; `None` if nothing is known to be wrong.
pub fn exit_code(parts: &[Part]) -> Option<u8> {
    match snapshot::worst(parts) {
        Condition::Good | Condition::Unknown => None,
        Condition::Waits => Some(exit::TEMPORARY),
        Condition::Missing => Some(exit::UNAVAILABLE),
    }
}

/// A line for each.
pub fn print(parts: &[Part]) {
    for part in parts {
        let (kind, condition) = (part.kind.name(), part.condition.name());
        println!("{condition:<8} {kind:<11} {}: {}", part.name, Foreign(&part.text));
    }
}
