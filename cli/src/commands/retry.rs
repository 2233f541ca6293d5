//! `mysimbdp retry`: moves a held file back to staging, or a discarded one back to where it was dropped.

use mysimbdp_config::Config;
use mysimbdp_query::notify_staged::RestagedNotifier;
use mysimbdp_query::retry::{Retried, retry};

use crate::error::CommandError;

pub async fn run(config: &Config, id: &str) -> Result<(), CommandError> {
    match retry(config, id)? {
        Retried::Staged { ingestion, client } => {
            println!("{ingestion} of {client} is staged again");
            let mut notifier = RestagedNotifier::new(config);
            notifier.notify(&client, ingestion).await;
            notifier.close().await;
        }
        Retried::DroppedAgain(paths) => {
            paths.iter().for_each(|path| println!("{path} is dropped again"));
        }
    }
    Ok(())
}
