//! The latest record of a station, over and over: from memory, from a server that does nothing else, and from the store.

use std::process::{Child, Command, Stdio};

use async_trait::async_trait;
use futures::FutureExt;
use mongodb::Database;

use super::callers::{FAILED, ask_all, connections};
use super::records::{CLIENT, client, fill, find_latest, has_record, index, latest_of};
use crate::case::{BenchCase, Contender, ContenderKind, Goal, Plan, RunSize, Sample};
use crate::cases::{PEER, YARDSTICK};
use crate::constant_server;
use crate::effort::Effort;
use crate::failure::{BenchError, Result};
use crate::http::HttpConnection;
use crate::platform::RunningPlatform;
use crate::servers::Servers;

const CALLERS: usize = 64;

pub const LATEST: Plan = Plan {
    name: "serving-latest",
    title: "/latest of a station, 64 at a time",
    unit: "requests/s",
    timed: "64 callers, each one request after the other on a connection that is kept: platform: GET /latest; yardstick: a handler \
            that answers the same bytes, whatever is asked for; peer: the driver looks for the latest record",
    goals: &[Goal::AtLeast(0.7, YARDSTICK), Goal::AtLeast(5.0, PEER), Goal::FactAtMost(FAILED, 0.0)],
    rounds_max: u32::MAX,
    start: |extent| Latest::start(extent).boxed_local(),
};

struct Latest {
    // Before the servers: fields are dropped in this order.
    platform: RunningPlatform,
    constant: ConstantServer,
    servers: Servers,
    database: Database,
    requests: u64,
}

struct ConstantServer {
    process: Child,
    host: String,
}

impl Latest {
    async fn start(extent: RunSize) -> Result<Box<dyn BenchCase>> {
        let servers = Servers::start().await?;
        let platform = RunningPlatform::serving(&servers, serde_json::json!([client()]));
        fill(&platform, extent.of(10_000, 100_000)).await?;
        let database = platform.client_database(CLIENT);
        index(&database).await?;
        let (host, _) = platform.http_server()?;
        let answer = HttpConnection::open(&host).await?.get(&latest_of(0), "application/json").await?;
        let constant = ConstantServer::start(&String::from_utf8_lossy(&answer.body))?;
        Ok(Box::new(Self { platform, constant, servers, database, requests: extent.of(5_000, 100_000) }))
    }
}

#[async_trait(?Send)]
impl BenchCase for Latest {
    fn contenders(&self) -> Vec<Contender> {
        vec![
            Contender::new(ContenderKind::Platform, "mysimbdp serve"),
            Contender::new(ContenderKind::Yardstick, "axum handler, constant"),
            Contender::new(ContenderKind::Peer, "driver, find_one"),
        ]
    }

    async fn run(&mut self, contender: usize, _round: u32) -> Result<Sample> {
        let effort = Effort::begin(&self.servers, &self.platform)?;
        let answered = match contender {
            0 => {
                let (host, _) = self.platform.http_server()?;
                let ask = async |connection: &mut HttpConnection, number: u64| {
                    let answer = connection.get(&latest_of(number), "application/json").await;
                    answer.is_ok_and(|answer| answer.status == 200 && has_record(&answer.body, number))
                };
                ask_all(connections(&host, CALLERS).await?, self.requests, ask).await?
            }
            YARDSTICK => {
                let ask = async |connection: &mut HttpConnection, number: u64| {
                    let answer = connection.get(&latest_of(number), "application/json").await;
                    answer.is_ok_and(|answer| answer.status == 200 && has_record(&answer.body, 0))
                };
                ask_all(connections(&self.constant.host, CALLERS).await?, self.requests, ask).await?
            }
            _ => {
                let ask = async |database: &mut Database, number: u64| find_latest(database, number).await;
                ask_all(vec![self.database.clone(); CALLERS], self.requests, ask).await?
            }
        };
        Ok(answered.sample(answered.per_second).with_all(effort.end()?))
    }
}

impl ConstantServer {
    fn start(body: &str) -> Result<Self> {
        let program = std::env::current_exe().map_err(BenchError::of("find this program"))?;
        let mut process = Command::new(program)
            .args(["--constant-server", body])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(BenchError::of("start a server that answers a constant"))?;
        let host = constant_server::address(&mut process)?;
        Ok(Self { process, host })
    }
}

impl Drop for ConstantServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
