//! `mysimbdp purge`: removes held and discarded files that are no longer needed, or returns them to the archive.

use std::collections::BTreeSet;

use mysimbdp_batch_manager::retention::{self, Expired, ExpiredKind};
use mysimbdp_config::Config;
use mysimbdp_model::client::ClientId;
use mysimbdp_model::exit;
use mysimbdp_platform::clock;
use mysimbdp_query::QueryError;
use mysimbdp_query::open_history;
use mysimbdp_spool::staging::{self, StagingError};
use mysimbdp_telemetry::logging;

use crate::args::Purge;
use crate::error::CommandError;
use crate::output;

pub async fn run(config: &Config, args: &Purge) -> Result<(), CommandError> {
    // Includes clients that were removed from the config.
    let mut owners = staging::owners(&config.layout)?;
    if let Some(only) = &args.client {
        if config.client(only).is_none() && !owners.contains(only) {
            return Err(QueryError::unknown_client(config, only.as_str()).into());
        }
        owners.retain(|owner| owner == only);
    }
    let expired = expired(config, args, &owners)?;
    if args.dry_run {
        for expired in &expired {
            let verb = if expired.returns() { "return" } else { "remove" };
            println!("would {verb} {}", named(expired));
        }
        println!("{}", output::files(expired.len() as u64));
        return Ok(());
    }
    // The log keeps a record of what is removed.
    let _log = logging::init("purge", &config.layout, &config.settings.logs, false)?;
    if expired.iter().any(|expired| expired.kind == ExpiredKind::Held) {
        let history = open_history(config).await?;
        let noted = retention::mark_purged(&history, &expired).await;
        history.close().await;
        noted?;
    }
    let (mut removed, mut returned) = (0, 0);
    let mut result = Ok(());
    for expired in &expired {
        result = retention::remove(&config.layout, expired).await;
        if result.is_err() {
            break;
        }
        let (verb, count) =
            if expired.returns() { ("returned", &mut returned) } else { ("removed", &mut removed) };
        println!("{verb} {}", named(expired));
        *count += 1;
    }
    println!("{} removed{}", output::files(removed), some_returned(returned));
    result.map_err(|error| match error {
        StagingError::File(error) => error.into(),
        error => CommandError::of(exit::IO, &error),
    })
}

fn some_returned(count: u64) -> String {
    if count == 0 { String::new() } else { format!(", {count} returned to the archive") }
}

fn named(expired: &Expired) -> String {
    let suffix =
        if expired.returns() { " to the archive, because records of an earlier run are stored" } else { "" };
    format!("{} file {} of {}{suffix}", expired.kind, expired.id, expired.owner)
}

fn expired(config: &Config, args: &Purge, owners: &BTreeSet<ClientId>) -> Result<Vec<Expired>, CommandError> {
    let (age, now) = (args.older_than, clock::now());
    let mut found = Vec::new();
    if args.held {
        for client in owners {
            found.extend(retention::expired(config, ExpiredKind::Held, Some(client), age, now)?);
        }
    }
    if args.discarded {
        for client in owners {
            found.extend(retention::expired(config, ExpiredKind::Discarded, Some(client), age, now)?);
        }
        if args.client.is_none() {
            found.extend(retention::expired(config, ExpiredKind::Discarded, None, age, now)?);
        }
    }
    Ok(found)
}
