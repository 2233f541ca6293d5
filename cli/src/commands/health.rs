//! `mysimbdp health`: checks, for probes, whether everything that the config requires is available.

use mysimbdp_config::Config;
use mysimbdp_model::exit;
use mysimbdp_query::snapshot::{self, Condition, Part};
use serde::Serialize;

use crate::error::CommandError;
use crate::output::{self, Foreign};

#[derive(Serialize)]
struct Health<'a> {
    healthy: bool,
    parts: &'a [Part],
}

pub async fn run(config: &Config, json: bool) -> Result<(), CommandError> {
    let parts = snapshot::take(config).await.parts;
    let code = exit_code(&parts);
    if json {
        output::print_json(&Health { healthy: code.is_none(), parts: &parts })?;
    } else {
        print(&parts);
    }
    match code {
        None => Ok(()),
        Some(code) => Err(CommandError::without_message(code)),
    }
}

/// Returns the exit code for the worst part; `None` if nothing is known to be wrong.
pub fn exit_code(parts: &[Part]) -> Option<u8> {
    match snapshot::worst(parts) {
        Condition::Good | Condition::Unknown => None,
        Condition::Waits => Some(exit::TEMPORARY),
        Condition::Missing => Some(exit::UNAVAILABLE),
    }
}

/// Prints a line for each part.
pub fn print(parts: &[Part]) {
    for part in parts {
        let (kind, condition) = (part.kind.name(), part.condition.name());
        println!("{condition:<8} {kind:<11} {}: {}", part.name, Foreign(&part.text));
    }
}
