//! The latest record of a station, asked for by hundreds at a time.

use async_trait::async_trait;
use futures::FutureExt;
use mongodb::Database;

use super::callers::{FAILED, ask_all, connections};
use super::records::{CLIENT, client, fill, find_latest, has_record, index, latest_of};
use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::effort::Effort;
use crate::failure::Result;
use crate::http::HttpConnection;
use crate::platform::RunningPlatform;
use crate::servers::Servers;

const CALLERS: usize = 500;

/// 3.86 ms for each of those in flight, which a service of this kind has reported of itself.
const MILLISECONDS_MAX: f64 = 1_930.0;

pub const BURST: Plan = Plan {
    name: "serving-burst",
    title: "/latest of a station, 500 at a time, p99",
    unit: "ms",
    timed: "from the request to the whole answer, 3,000 requests by 500 callers: platform: one GET on a connection that is \
            kept; yardstick: the driver looks for the latest record",
    goals: &[Goal::AtMost(MILLISECONDS_MAX), Goal::FactAtMost(FAILED, 0.0)],
    rounds_max: u32::MAX,
    start: |extent| Burst::start(extent).boxed_local(),
};

struct Burst {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    servers: Servers,
    database: Database,
    requests: u64,
}

impl Burst {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let platform = RunningPlatform::serving(&servers, serde_json::json!([client()]));
        fill(&platform, extent.of(10_000, 100_000)).await?;
        let database = platform.client_database(CLIENT);
        index(&database).await?;
        Ok(Box::new(Self { platform, servers, database, requests: extent.of(1_000, 3_000) }))
    }
}

#[async_trait(?Send)]
impl BenchCase for Burst {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp serve"),
            Contender::new(ContenderKind::Yardstick, "driver, find_one"),
        ]
    }

    async fn run(&mut self, contender: usize, _round: u32) -> Result<Sample> {
        let effort = Effort::begin(&self.servers, &self.platform)?;
        let answered = if contender == 0 {
            let (host, _) = self.platform.http_server()?;
            let ask = async |connection: &mut HttpConnection, number: u64| {
                let answer = connection.get(&latest_of(number), "application/json").await;
                answer.is_ok_and(|answer| answer.status == 200 && has_record(&answer.body, number))
            };
            ask_all(connections(&host, CALLERS).await?, self.requests, ask).await?
        } else {
            let ask = async |database: &mut Database, number: u64| find_latest(database, number).await;
            ask_all(vec![self.database.clone(); CALLERS], self.requests, ask).await?
        };
        Ok(answered.sample(answered.p99).with_all(effort.end()?))
    }
}
