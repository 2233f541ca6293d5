//! The contract of stream apps as cases, which are run one after the other on the same messages.
//!
//! An app that ignores numbers, and has ids of its own (`--ids none`), stores at least once; the cases about numbers do
//! not apply to it.

mod bench;
mod broker;

use std::os::unix::process::ExitStatusExt;

use bson::Bson;
use mysimbdp_broker::Reach;
use mysimbdp_model::app::Ids;
use mysimbdp_model::source::Source;
use mysimbdp_platform::process::{Child, Signal};
use mysimbdp_store::rejected::RejectedBytes;

pub use bench::StreamBench;

use super::{ContractCase, Verdict};
use crate::error::CommandError;

/// Enough for several batches.
const MESSAGES: u64 = 50;
/// Messages in flight when the program is ended.
const BURST: u64 = 200;
const NUMBERS: u64 = 10;

/// Runs all cases. If the first ones fail, the others would fail, too, and are left out.
pub async fn cases(bench: &mut StreamBench) -> Result<Vec<ContractCase>, CommandError> {
    let mut child = bench.start().await?;
    let mut cases =
        vec![ContractCase { name: "messages are stored", result: stored(bench, &mut child).await? }];
    if cases[0].result.is_ok() {
        let result = bench.settle(&mut child, true).await?;
        cases.push(ContractCase { name: "its reports add up to what is stored", result });
    }
    if cases.iter().any(|case| case.result.is_err()) {
        return Ok(cases);
    }
    let source = Source { name: "check".parse().expect("a source name"), epoch: 7 };
    cases.extend([
        ContractCase {
            name: "a message that is not JSON is rejected with its bytes, and the app continues",
            result: malformed(bench, &mut child).await?,
        },
        ContractCase {
            name: "a byte order mark is not part of a message",
            result: with_mark(bench, &mut child).await?,
        },
    ]);
    match bench.ids {
        Ids::Platform => cases.extend([
            ContractCase {
                name: "a numbered message has the id of its number",
                result: numbered(bench, &mut child, &source).await?,
            },
            ContractCase {
                name: "the same number again stores nothing twice",
                result: numbered_again(bench, &mut child, &source).await?,
            },
            ContractCase {
                name: "a known number with other content is rejected",
                result: contradicted(bench, &mut child, &source).await?,
            },
            ContractCase {
                name: "a numbered source gets receipts for what is stored",
                result: receipt(bench, &mut child, &source).await?,
            },
            ContractCase {
                name: "a message with an _id of its own is rejected",
                result: with_id(bench, &mut child).await?,
            },
        ]),
        Ids::Key => cases.push(ContractCase {
            name: "the same key again stores nothing twice",
            result: keyed_again(bench, &mut child).await?,
        }),
        Ids::Object | Ids::None => {}
    }
    let mut ends = Ends { bench, source: Source { epoch: 8, ..source }, number: 0 };
    cases.extend([
        ContractCase {
            name: "SIGTERM ends it, and its session is kept for the next start",
            result: ends.stopped(&mut child).await?,
        },
        ContractCase {
            name: "killed and started again it loses nothing",
            result: ends.killed(&mut child).await?,
        },
        ContractCase { name: "SIGUSR1 ends it without a loss", result: ends.drained(&mut child).await? },
        ContractCase {
            name: "another process with its client id makes it end",
            result: ends.displaced(&mut child).await?,
        },
    ]);
    Ok(cases)
}

async fn stored(bench: &mut StreamBench, child: &mut Child) -> Result<Verdict, CommandError> {
    for _ in 0..MESSAGES {
        let payload = bench.sample();
        bench.publish(payload.as_bytes(), None).await?;
    }
    bench.expected.documents += MESSAGES;
    bench.expected.ingested += MESSAGES;
    bench.settle(child, false).await
}

async fn malformed(bench: &mut StreamBench, child: &mut Child) -> Result<Verdict, CommandError> {
    let bytes = b"{\"number\": \xff";
    bench.publish(bytes, None).await?;
    let payload = bench.sample();
    bench.publish(payload.as_bytes(), None).await?;
    bench.expected.rejected += 1;
    bench.expected.documents += 1;
    bench.expected.ingested += 1;
    if let Err(reason) = bench.settle(child, false).await? {
        return Ok(Err(reason));
    }
    let rejected = bench.rejected().await?;
    let Some(reject) = rejected.first() else { return Ok(Err("it is not listed".to_owned())) };
    let missing = ["topic", "reason", "payload_bytes", "rejected_at"];
    let missing: Vec<&str> = missing.into_iter().filter(|name| !reject.contains_key(name)).collect();
    Ok(match RejectedBytes::of(reject, "payload") {
        RejectedBytes::Inline(kept) if kept == bytes && missing.is_empty() => Ok(()),
        RejectedBytes::Inline(kept) if kept == bytes => {
            Err(format!("its reject lacks {}", missing.join(", ")))
        }
        _ => Err(format!("its reject has other bytes: {:?}", reject.get("payload").unwrap_or(&Bson::Null))),
    })
}

async fn with_mark(bench: &mut StreamBench, child: &mut Child) -> Result<Verdict, CommandError> {
    let payload = bench.sample();
    bench.publish(format!("\u{feff}{payload}").as_bytes(), None).await?;
    bench.expected.documents += 1;
    bench.expected.ingested += 1;
    bench.settle(child, false).await
}

/// The content of each number is always the same.
fn content(number: u64) -> String {
    format!(r#"{{"number":{},"text":"numbered"}}"#, 1_000_000 + number)
}

async fn publish_numbered(bench: &mut StreamBench, source: &Source) -> Result<(), CommandError> {
    for number in 1..=NUMBERS {
        bench.publish(content(number).as_bytes(), Some((source, number))).await?;
    }
    bench.expected.ingested += NUMBERS;
    Ok(())
}

async fn numbered(
    bench: &mut StreamBench,
    child: &mut Child,
    source: &Source,
) -> Result<Verdict, CommandError> {
    publish_numbered(bench, source).await?;
    bench.expected.documents += NUMBERS;
    if let Err(reason) = bench.settle(child, true).await? {
        return Ok(Err(reason));
    }
    Ok(match bench.numbered(source, 1, NUMBERS).await? {
        NUMBERS => Ok(()),
        found => Err(format!("{found} of {NUMBERS} documents have the _id that their number gives")),
    })
}

async fn numbered_again(
    bench: &mut StreamBench,
    child: &mut Child,
    source: &Source,
) -> Result<Verdict, CommandError> {
    publish_numbered(bench, source).await?;
    bench.settle(child, true).await
}

async fn contradicted(
    bench: &mut StreamBench,
    child: &mut Child,
    source: &Source,
) -> Result<Verdict, CommandError> {
    bench.publish(br#"{"number":0,"text":"other"}"#, Some((source, 1))).await?;
    bench.expected.rejected += 1;
    bench.settle(child, false).await
}

/// Receipts arrive after the messages that they confirm are stored.
async fn receipt(
    bench: &mut StreamBench,
    child: &mut Child,
    source: &Source,
) -> Result<Verdict, CommandError> {
    let name = source.name.to_string();
    let stored_through = |bench: &StreamBench| {
        let receipt = bench.receipts.get(&name).filter(|receipt| receipt.epoch == source.epoch);
        receipt.map(|receipt| receipt.stored_through)
    };
    bench.until(child, |bench| stored_through(bench) >= Some(NUMBERS)).await?;
    Ok(match stored_through(bench) {
        Some(NUMBERS) => Ok(()),
        Some(through) => Err(format!("its receipt confirms up to number {through}, expected {NUMBERS}")),
        None => Err("no receipt came: a source that waits for one keeps its messages".to_owned()),
    })
}

async fn with_id(bench: &mut StreamBench, child: &mut Child) -> Result<Verdict, CommandError> {
    for number in 1..=2 {
        bench.publish(format!(r#"{{"_id":"own","number":-{number}}}"#).as_bytes(), None).await?;
    }
    bench.expected.rejected += 2;
    bench.settle(child, false).await
}

async fn keyed_again(bench: &mut StreamBench, child: &mut Child) -> Result<Verdict, CommandError> {
    let payload = bench.sample();
    for _ in 0..3 {
        bench.publish(payload.as_bytes(), None).await?;
    }
    bench.expected.documents += 1;
    bench.expected.ingested += 3;
    bench.settle(child, true).await
}

/// The cases in which the program ends.
struct Ends<'a> {
    bench: &'a mut StreamBench,
    /// The messages of this source are numbered, so that one that is delivered again is recognised.
    source: Source,
    number: u64,
}

impl Ends<'_> {
    async fn publish(&mut self, messages: u64) -> Result<Reach, CommandError> {
        let mut reach = Reach::Subscribers;
        for _ in 0..messages {
            self.number += 1;
            let payload = self.bench.sample();
            let number = (self.bench.ids == Ids::Platform).then_some((&self.source, self.number));
            if self.bench.publish(payload.as_bytes(), number).await? == Reach::NoSubscribers {
                reach = Reach::NoSubscribers;
            }
        }
        self.bench.expected.documents += messages;
        Ok(reach)
    }

    /// Starts the program again and waits until it works; otherwise the next case would have no program to act on. It
    /// is not enough that all messages are stored: they may have been stored before.
    async fn restart(&mut self, child: &mut Child) -> Result<Verdict, CommandError> {
        *child = self.bench.start().await?;
        let before = self.bench.reports;
        self.bench.until(child, |bench| bench.reports > before).await?;
        self.bench.settle(child, false).await
    }

    async fn stopped(&mut self, child: &mut Child) -> Result<Verdict, CommandError> {
        self.publish(BURST).await?;
        // This fails if the program has ended, which the wait below detects.
        let _ = child.signal(Signal::TERM);
        let ended = self.bench.end_of(child).await?;
        let reach = self.publish(NUMBERS).await?;
        let tail = self.bench.log_tail();
        let settled = self.restart(child).await?;
        Ok(match ended {
            None => Err(format!("it kept running after SIGTERM{tail}")),
            Some(status) if !status.success() => {
                Err(format!("it must exit 0, and ended with {status}{tail}"))
            }
            Some(_) if reach == Reach::NoSubscribers => {
                Err("it has ended its session: what is published until the next start is lost".to_owned())
            }
            Some(_) => settled,
        })
    }

    async fn killed(&mut self, child: &mut Child) -> Result<Verdict, CommandError> {
        self.publish(BURST).await?;
        let _ = child.signal(Signal::KILL);
        self.bench.end_of(child).await?;
        self.restart(child).await
    }

    /// A program that does not handle the signal is ended by it, and its session keeps what it has not acknowledged.
    async fn drained(&mut self, child: &mut Child) -> Result<Verdict, CommandError> {
        self.publish(BURST).await?;
        let _ = child.signal(Signal::USR1);
        let ended = self.bench.end_of(child).await?;
        let tail = self.bench.log_tail();
        let settled = self.restart(child).await?;
        Ok(match ended {
            None => Err(format!("it kept running after SIGUSR1{tail}")),
            Some(status) if status.success() || status.signal() == Some(Signal::USR1.as_raw()) => settled,
            Some(status) => Err(format!("it must exit 0, and ended with {status}{tail}")),
        })
    }

    async fn displaced(&mut self, child: &mut Child) -> Result<Verdict, CommandError> {
        let mut other = self.bench.spawn().await?;
        if self.bench.end_of(child).await?.is_none() {
            let tail = self.bench.log_tail();
            let other = self.bench.poll(&mut other).await?;
            return Ok(Err(match other {
                Some(status) => format!("it kept running, and the other one ended ({status}){tail}"),
                None => format!("it kept running beside the other one{tail}"),
            }));
        }
        self.publish(NUMBERS).await?;
        self.bench.settle(&mut other, false).await
    }
}
