//! `mysimbdp purge`: removes held and discarded files that nobody needs any more.

use std::collections::BTreeSet;

use mysimbdp_batch_manager::retention::{self, Expired, Kind};
use mysimbdp_core::client::ClientId;
use mysimbdp_core::config::Config;
use mysimbdp_core::io::{clock, coredms, staging};
use mysimbdp_core::logging;

use crate::args::Purge;
use crate::commands::drop_files;
use crate::error::Failure;
use crate::output;

pub async fn run(config: &Config, args: &Purge) -> Result<(), Failure> {
    // Also of clients that have left the config.
    let mut owners = staging::owners(&config.layout)?;
    if let Some(only) = &args.client {
        if config.client(only).is_none() && !owners.contains(only) {
            return Err(drop_files::unknown_client(config, only.as_str()));
        }
        owners.retain(|owner| owner == only);
    }
    let expired = expired(config, args, &owners)?;
    if args.dry_run {
        expired.iter().for_each(|expired| println!("would remove {}", named(expired)));
        println!("{}", output::files(expired.len() as u64));
        return Ok(());
    }
    // What was removed stays on record.
    let _log = logging::init("purge", &config.layout, &config.settings.logs, false)?;
    if expired.iter().any(|expired| expired.kind == Kind::Held) {
        let platform = coredms::open(&config.coredms_url, &config.settings.coredms.database).await?;
        let noted = retention::note_purged(platform.as_ref(), &expired).await;
        platform.close().await;
        noted?;
    }
    let mut count = 0;
    let mut removed = Ok(());
    for expired in &expired {
        removed = retention::remove(expired).await;
        if removed.is_err() {
            break;
        }
        println!("removed {}", named(expired));
        count += 1;
    }
    println!("{} removed", output::files(count));
    Ok(removed?)
}

fn named(expired: &Expired) -> String {
    format!("{} file {} of {}", expired.kind, expired.id, expired.owner)
}

fn expired(config: &Config, args: &Purge, owners: &BTreeSet<ClientId>) -> Result<Vec<Expired>, Failure> {
    let (age, now, layout) = (args.older_than, clock::now(), &config.layout);
    let mut found = Vec::new();
    if args.held {
        for client in owners {
            found.extend(retention::expired(layout, Kind::Held, Some(client), age, now)?);
        }
    }
    if args.discarded {
        for client in owners {
            found.extend(retention::expired(layout, Kind::Discarded, Some(client), age, now)?);
        }
        if args.client.is_none() {
            found.extend(retention::expired(layout, Kind::Discarded, None, age, now)?);
        }
    }
    Ok(found)
}
