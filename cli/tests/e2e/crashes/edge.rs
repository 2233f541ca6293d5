//! Messages of an edge: it dies with lines in memory, on disk, or in flight.

use std::fmt::Write;

use bson::{Document, doc};
use mysimbdp_testbed::{Daemon, mongodb, mosquitto, until_async};
use serde_json::json;

use super::{VARIABLE, assert_died, wait_reconciled, walk};
use crate::support::{Platform, SOON, stream};

pub const EDGE: &[&str] = &["edge."];

const CLIENT: &str = "client1";
/// More lines than fit into an outbox of [`CAPACITY`], of which a segment is a sixteenth.
const LINES: u64 = 400;
const CAPACITY: &str = "64KiB";

#[test]
fn edge_dies_between_any_two_steps() {
    walk(EDGE, |point| async move {
        let clients = json!([stream(CLIENT, json!({}))]);
        let platform = Platform::new(mongodb().url(), mosquitto().url(), clients).await;
        let _stream_manager = platform.start("stream-manager");
        let lines: String = (0..LINES).fold(String::new(), |mut lines, n| {
            let padding = "fills the segments of the outbox ".repeat(8);
            writeln!(lines, "{{\"n\":{n},\"remark\":\"{padding}\"}}").expect("memory");
            lines
        });
        let file = platform.root.path().join("readings.ndjson");
        std::fs::write(&file, &lines).expect("a file to follow");
        let file = file.display().to_string();
        let words = ["edge", "--client", CLIENT, "--source", "sensor", "--follow", &file];
        let small = ["--capacity", CAPACITY, "--message-max", "4KiB", "--resend-after", "1s"];
        let words = [&words[..], &small[..]].concat();

        let mut edge = Daemon::start(&platform.root, &words, &[(VARIABLE, point)]);
        assert_died(&mut edge, point);
        let _edge = Daemon::start(&platform.root, &words, &[]);
        let readings = platform.client_database(CLIENT).collection::<Document>("readings");
        until_async(SOON, "every line is stored", async || {
            readings.count_documents(doc! {}).await.expect("count") >= LINES
        })
        .await;
        platform.until_stored(CLIENT, "readings", LINES, SOON).await;
        let numbers = readings.distinct("n", doc! {}).await.expect("read");
        assert_eq!(numbers.len() as u64, LINES, "each line once");
        assert_eq!(platform.count(CLIENT, "rejected").await, 0);
        wait_reconciled(&platform);
    });
}
