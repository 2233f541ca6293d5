//! `mysimbdp health`: whether everything is there that the config demands, for probes.

use mysimbdp_config::Config;
use serde::Serialize;

use crate::error::Failure;
use crate::output::{self, Foreign};
use crate::snapshot::{self, Part};

#[derive(Serialize)]
struct Health<'a> {
    healthy: bool,
    parts: &'a [Part],
}

pub async fn run(config: &Config, json: bool) -> Result<(), Failure> {
    let parts = snapshot::look(config).await.parts;
    let code = snapshot::exit_code(&parts);
    if json {
        output::print_json(&Health { healthy: code.is_none(), parts: &parts })?;
    } else {
        print(&parts);
    }
    match code {
        None => Ok(()),
        Some(code) => Err(Failure::said(code)),
    }
}

/// A line for each.
pub fn print(parts: &[Part]) {
    for part in parts {
        let (kind, condition) = (part.kind.name(), part.condition.name());
        println!("{condition:<8} {kind:<11} {}: {}", part.name, Foreign(&part.text));
    }
}
