//! `mysimbdp reprocess`: stages archived files again, as runs that replace what their app has stored before.

use mysimbdp_config::Config;
use mysimbdp_model::exit;
use mysimbdp_query::QueryError;
use mysimbdp_query::notify_staged::RestagedNotifier;
use mysimbdp_query::open_history;
use mysimbdp_query::reprocess::{Reprocessed, Reprocessing};

use crate::args::Reprocess;
use crate::error::CommandError;
use crate::output::{self, Foreign};

pub async fn run(config: &Config, args: &Reprocess) -> Result<(), CommandError> {
    if let Some(id) = args.client.as_ref().filter(|id| config.client(id).is_none()) {
        return Err(QueryError::unknown_client(config, id.as_str()).into());
    }
    let history = open_history(config).await?;
    let mut staged = Vec::new();
    let result = reprocess(&Reprocessing::new(config, &history, args.dry_run), args, &mut staged).await;
    history.close().await;
    if !args.dry_run {
        let mut notifier = RestagedNotifier::new(config);
        for Reprocessed { client, ingestion, .. } in &staged {
            notifier.notify(client, *ingestion).await;
        }
        notifier.close().await;
    }
    result
}

/// Adds what is staged to `staged`.
async fn reprocess(
    reprocessing: &Reprocessing<'_>,
    args: &Reprocess,
    staged: &mut Vec<Reprocessed>,
) -> Result<(), CommandError> {
    match (args.ingestion, &args.client, args.since) {
        (Some(ingestion), _, _) => {
            let reprocessed = reprocessing.one(ingestion).await?;
            print(&reprocessed, args.dry_run);
            staged.push(reprocessed);
            Ok(())
        }
        (None, Some(client), Some(since)) => {
            let (mut done, mut left) = (0_u64, 0_u64);
            let mut report = |result: Result<Reprocessed, QueryError>| match result {
                Ok(reprocessed) => {
                    done += 1;
                    print(&reprocessed, args.dry_run);
                    staged.push(reprocessed);
                }
                Err(error) => {
                    left += 1;
                    println!("skipped {}", CommandError::from(error));
                }
            };
            reprocessing.all(client, since, &mut report).await?;
            let word = if args.dry_run { "would be reprocessed" } else { "staged again" };
            println!("{} {word}, {left} skipped", output::files(done));
            if left == 0 { Ok(()) } else { Err(CommandError::without_message(exit::DATA)) }
        }
        // clap refuses everything else.
        (None, _, _) => Err(CommandError::new(exit::USAGE, "expected an ingestion, or a client and a time")),
    }
}

fn print(Reprocessed { ingestion, client, file }: &Reprocessed, dry_run: bool) {
    let file = Foreign(file);
    match dry_run {
        true => println!("would reprocess {ingestion} of {client}: {file}"),
        false => {
            println!("{ingestion} of {client} is staged again, and replaces what it stored before: {file}");
        }
    }
}
