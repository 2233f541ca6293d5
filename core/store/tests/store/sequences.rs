//! Which numbers of a source are received: the state that several instances share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::doc;
use mysimbdp_model::ranges::Ranges;
use mysimbdp_model::source::{Lost, Source};
use mysimbdp_store::Coredms;
use mysimbdp_store::sequences::{LOSSES, Progress, SEQUENCES, Sequences};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::fixture::TestDatabase;

/// How many random orders of marks are tried on each store.
const ORDERS: usize = 12;

fn source(name: &str, epoch: u64) -> Source {
    Source { name: name.parse().expect("source name"), epoch }
}

fn sequences(store: &Arc<dyn Coredms>) -> Sequences {
    Sequences::new(Arc::clone(store), "client1".parse().expect("client id"), "messages")
}

fn ranges(ranges: impl IntoIterator<Item = (u64, u64)>) -> Ranges {
    ranges.into_iter().collect()
}

async fn mark(sequences: &Sequences, source: &Source, received: impl IntoIterator<Item = (u64, u64)>) {
    let received = BTreeMap::from([(source.clone(), ranges(received))]);
    sequences.mark(&received).await.expect("mark");
}

async fn progress(sequences: &Sequences, source: &Source) -> Progress {
    sequences.progress(source, 0).await.expect("progress")
}

pub(crate) async fn marks_in_any_order_by_several_writers_make_the_same_state(database: &TestDatabase) {
    let stores = [database.open().await, database.open().await, database.open().await];
    // Ranges that overlap, repeat and leave gaps, over several blocks.
    let parts = proptest::collection::vec((1u64..5000, 0u64..900), 1..30);
    let mut runner = TestRunner::new(Config::default());
    for epoch in 0..ORDERS {
        let parts = parts.new_tree(&mut runner).expect("a case").current();
        let source = source("s", epoch as u64);
        let write = async |from: usize| {
            for &(first, more) in parts.iter().skip(from).step_by(2) {
                mark(&sequences(&stores[from]), &source, [(first, first + more)]).await;
            }
            // Every writer marks all of it once more.
            mark(
                &sequences(&stores[from]),
                &source,
                parts.iter().map(|&(first, more)| (first, first + more)),
            )
            .await;
        };
        tokio::join!(write(0), write(1));
        let all: BTreeSet<u64> = parts.iter().flat_map(|&(first, more)| first..=first + more).collect();
        let through = (1..).take_while(|number| all.contains(number)).last().unwrap_or(0);
        let expected = Progress {
            through,
            received: all
                .iter()
                .filter(|&&number| number > through)
                .map(|&number| (number, number))
                .collect(),
            highest: all.last().copied().unwrap_or(0),
        };
        assert_eq!(progress(&sequences(&stores[2]), &source).await, expected, "{parts:?}");
    }
}

pub(crate) async fn received_numbers_survive_reopening(database: &TestDatabase) {
    let store = database.open().await;
    let source = source("s", u64::MAX);
    mark(&sequences(&store), &source, [(1, 1500), (1502, 1502)]).await;
    store.close().await;

    let store = database.open().await;
    let expected = Progress { through: 1500, received: ranges([(1502, 1502)]), highest: 1502 };
    assert_eq!(progress(&sequences(&store), &source).await, expected);
    assert_eq!(expected.missing(), ranges([(1501, 1501)]));
    // Starting from an earlier result gives the same.
    assert_eq!(sequences(&store).progress(&source, 1500).await.expect("progress"), expected);
    assert_eq!(sequences(&store).progress(&source, 3).await.expect("progress"), expected);
}

pub(crate) async fn a_high_number_costs_one_block_and_hides_nothing(database: &TestDatabase) {
    let store = database.open().await;
    let (sequences, source) = (sequences(&store), source("s", 1));
    for number in [u64::MAX, 0, 1 << 40, 2, u64::MAX / 2] {
        mark(&sequences, &source, [(number, number)]).await;
    }
    assert_eq!(store.count(SEQUENCES).await.expect("count"), 4);
    let seen = progress(&sequences, &source).await;
    assert_eq!((seen.through, seen.highest), (0, u64::MAX));
    assert_eq!(seen.missing().first(), Some((1, 1)));
    mark(&sequences, &source, [(1, 1)]).await;
    assert_eq!(progress(&sequences, &source).await.through, 2);
    assert_eq!(store.count(SEQUENCES).await.expect("count"), 5, "four blocks and the watermark");
    assert_eq!(
        sequences.unreceived(&source, u64::MAX - 2, u64::MAX).await.expect("unreceived"),
        ranges([(u64::MAX - 2, u64::MAX - 1)])
    );
}

pub(crate) async fn full_blocks_are_read_once_and_the_watermark_never_goes_back(database: &TestDatabase) {
    let store = database.open().await;
    let (sequences, source) = (sequences(&store), source("s", 1));
    let watermark = async || {
        let found = store.find(SEQUENCES, doc! { "kind": "source" }, 2).await.expect("find");
        let [known] = &Sequences::sources(&*store).await.expect("sources")[..] else { panic!("{found:?}") };
        assert_eq!((&known.source, known.collection.as_str(), found.len()), (&source, "messages", 1));
        known.through
    };
    // More than a page of blocks.
    mark(&sequences, &source, [(1, 200_000)]).await;
    assert_eq!(progress(&sequences, &source).await.through, 200_000);
    assert_eq!(watermark().await, 200_000);
    // Blocks below the watermark are no longer read: a damaged one changes nothing.
    let full = store.find(SEQUENCES, doc! { "block": 3 }, 1).await.expect("find").remove(0);
    let mut damaged = full;
    damaged.insert("bits", doc! {});
    store.put(SEQUENCES, damaged).await.expect("put");
    assert_eq!(progress(&sequences, &source).await.through, 200_000);
    // An instance that has slept raises an old value: the watermark stays.
    mark(&sequences, &source, [(200_001, 200_001)]).await;
    assert_eq!(sequences.progress(&source, 100_000).await.expect("progress").through, 200_001);
    assert!(watermark().await >= 200_000);
}

pub(crate) async fn only_a_bounded_part_of_a_source_with_a_gap_is_read(database: &TestDatabase) {
    let store = database.open().await;
    let (sequences, source) = (sequences(&store), source("s", 1));
    mark(&sequences, &source, [(2, 300_000)]).await;
    let seen = progress(&sequences, &source).await;
    assert_eq!((seen.through, seen.highest, seen.missing()), (0, 300_000, ranges([(1, 1)])));
    let (first, last) = seen.received.first().expect("received");
    assert!(first == 2 && last < 200_000, "{last}");
    mark(&sequences, &source, [(1, 1)]).await;
    let all = Progress { through: 300_000, received: Ranges::default(), highest: 300_000 };
    assert_eq!(progress(&sequences, &source).await, all);
}

pub(crate) async fn states_of_sources_epochs_clients_and_collections_are_separate(database: &TestDatabase) {
    let store = database.open().await;
    let client = |id: &str| id.parse().expect("client id");
    let of = |id: &str, collection: &str| Sequences::new(Arc::clone(&store), client(id), collection);
    mark(&of("a", "m"), &source("s", 1), [(1, 5)]).await;
    for (sequences, source) in [
        (of("a", "m"), source("s", 2)),
        (of("a", "m"), source("t", 1)),
        (of("a", "n"), source("s", 1)),
        (of("b", "m"), source("s", 1)),
    ] {
        assert_eq!(progress(&sequences, &source).await, Progress::default());
    }
    assert_eq!(progress(&of("a", "m"), &source("s", 1)).await.through, 5);
    // Many at once.
    let many: BTreeMap<Source, Ranges> =
        (0..500).map(|epoch| (source("many", epoch), ranges([(1, epoch + 1)]))).collect();
    of("a", "m").mark(&many).await.expect("mark");
    for epoch in [0, 250, 499] {
        assert_eq!(progress(&of("a", "m"), &source("many", epoch)).await.through, epoch + 1);
    }
    of("a", "m").mark(&BTreeMap::new()).await.expect("nothing to mark");
}

pub(crate) async fn lost_numbers_are_recorded_once_and_hide_no_received_ones(database: &TestDatabase) {
    let store = database.open().await;
    let (sequences, source) = (sequences(&store), source("s", 7));
    mark(&sequences, &source, [(1, 10), (13, 13), (20, 20)]).await;
    let reported = Lost { source: source.clone(), first: 9, last: 19 };
    let lost = ranges([(11, 12), (14, 19)]);
    assert_eq!(sequences.record_lost(&reported).await.expect("lose"), lost);
    assert_eq!(sequences.record_lost(&reported).await.expect("lose again"), Ranges::default());
    assert_eq!(progress(&sequences, &source).await.through, 20);
    let found = store.find(LOSSES, doc! { "source": "s" }, 10).await.expect("find");
    let ranges = found.iter().map(|loss| (whole(loss, "first"), whole(loss, "last"))).collect::<Vec<_>>();
    assert_eq!(ranges, lost.iter().collect::<Vec<_>>());
    assert!(
        found
            .iter()
            .all(|loss| loss.get_str("epoch").ok() == Some("7") && loss.get_datetime("noted_at").is_ok())
    );
    // As many numbers as one message may name.
    let wide = Lost { source: source.clone(), first: 21, last: 20 + Lost::NUMBERS_MAX };
    sequences.record_lost(&wide).await.expect("lose");
    assert_eq!(progress(&sequences, &source).await.through, wide.last);
    assert_eq!(store.count(LOSSES).await.expect("count"), 3);
}

/// The embedded store does not keep the width of integers.
fn whole(document: &bson::Document, field: &str) -> u64 {
    let number = document.get_i64(field).or_else(|_| document.get_i32(field).map(i64::from));
    number.expect("a number") as u64
}
