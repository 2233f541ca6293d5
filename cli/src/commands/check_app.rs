//! `mysimbdp check app`: the conformance cases of the app contract, against any program.

use mysimbdp_core::app::{Ids, Protocol};
use mysimbdp_core::exit;

use crate::conformance::{self, Bench};
use crate::error::Failure;
use crate::output::Foreign;
use crate::signals;

pub async fn run(protocol: &str, ids: &str, command: &[String]) -> Result<(), Failure> {
    let protocol = if protocol == "worker" { Protocol::Worker } else { Protocol::Stdin };
    let ids = match ids {
        "key" => Ids::Key,
        "object" => Ids::Object,
        _ => Ids::Platform,
    };
    let bench = Bench::open(protocol, ids, command).await?;
    let mut shutdown = signals::shutdown()?;
    let cases = tokio::select! {
        cases = conformance::cases(&bench) => cases,
        _ = shutdown.wait_for(|stop| *stop) => Err(Failure::new(exit::TEMPORARY, "interrupted")),
    };
    bench.close().await?;
    let (cases, mut failed) = (cases?, 0);
    for case in &cases {
        match &case.result {
            Ok(()) => println!("ok      {}", case.name),
            Err(reason) => {
                failed += 1;
                println!("FAILED  {}: {}", case.name, Foreign(reason));
            }
        }
    }
    println!("{} passed, {failed} failed", cases.len() - failed);
    if failed == 0 { Ok(()) } else { Err(Failure::new(exit::DATA, "the app does not keep the contract")) }
}
