//! `mysimbdp check app`: runs the conformance cases of the app contract against any program.

use mysimbdp_model::app::{Ids, Protocol};
use mysimbdp_model::exit;
use tokio::sync::watch;

use crate::conformance::stream::{self, StreamBench};
use crate::conformance::{self, Bench, ContractCase};
use crate::error::CommandError;
use crate::output::Foreign;
use crate::signals;

pub async fn batch(protocol: &str, ids: &str, command: &[String]) -> Result<(), CommandError> {
    let protocol = if protocol == "worker" { Protocol::Worker } else { Protocol::Stdin };
    let ids = match ids {
        "key" => Ids::Key,
        "object" => Ids::Object,
        "none" => return Err(CommandError::new(exit::USAGE, "--ids none is for stream apps, with --stream")),
        _ => Ids::Platform,
    };
    let bench = Bench::open(protocol, ids, command).await?;
    let mut shutdown = signals::shutdown()?;
    let cases = tokio::select! {
        cases = conformance::cases(&bench) => cases,
        () = asked_to_stop(&mut shutdown) => Err(interrupted()),
    };
    bench.close().await?;
    report(&cases?)
}

pub async fn stream(ids: &str, command: &[String]) -> Result<(), CommandError> {
    let ids = match ids {
        "key" => Ids::Key,
        "none" => Ids::None,
        "object" => return Err(CommandError::new(exit::USAGE, "--ids object is for batch apps")),
        _ => Ids::Platform,
    };
    let mut bench = StreamBench::open(ids, command).await?;
    let mut shutdown = signals::shutdown()?;
    let cases = tokio::select! {
        cases = stream::cases(&mut bench) => cases,
        () = asked_to_stop(&mut shutdown) => Err(interrupted()),
    };
    bench.close().await?;
    report(&cases?)
}

async fn asked_to_stop(shutdown: &mut watch::Receiver<bool>) {
    // If the sender was dropped, that is a request to stop, too.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn interrupted() -> CommandError {
    CommandError::new(exit::TEMPORARY, "interrupted")
}

fn report(cases: &[ContractCase]) -> Result<(), CommandError> {
    let mut failed = 0;
    for case in cases {
        match &case.result {
            Ok(()) => println!("ok      {}", case.name),
            Err(reason) => {
                failed += 1;
                println!("FAILED  {}: {}", case.name, Foreign(reason));
            }
        }
    }
    println!("{} passed, {failed} failed", cases.len() - failed);
    if failed == 0 {
        Ok(())
    } else {
        Err(CommandError::new(exit::DATA, "the app does not keep the contract"))
    }
}
