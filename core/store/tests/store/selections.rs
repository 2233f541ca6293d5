//! Documents in the order of a field, with an index for it and without.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Decimal128, Document, Timestamp, doc};
use futures::TryStreamExt;
use mysimbdp_store::{Coredms, CoredmsError, Order, Position, Removal, Selection};

use crate::fixture::{TestDatabase, ingestion, raw};

/// The same documents in two collections, of which only the second has an index for the selections.
const COLLECTIONS: [&str; 2] = ["plain", "indexed"];

async fn stored(database: &TestDatabase, documents: Vec<Document>, index: &[&str]) -> Arc<dyn Coredms> {
    let store = database.open().await;
    let (early, late) = documents.split_at(documents.len() / 2);
    for collection in COLLECTIONS {
        let count = documents.len() as u64;
        // Half of them before the index, and half of them after it.
        let written = store.insert_many(collection, early.iter().cloned().map(raw).collect()).await;
        let first = written.expect("insert").stored;
        if collection == "indexed" {
            store.ensure_index(collection, index).await.expect("index");
            store.ensure_index(collection, index).await.expect("the same index");
        }
        let written = store.insert_many(collection, late.iter().cloned().map(raw).collect()).await;
        assert_eq!(first + written.expect("insert").stored, count);
    }
    store
}

async fn select(store: &dyn Coredms, collection: &str, selection: Selection) -> Vec<Document> {
    let selected = store.select(collection, selection).await.expect("select");
    let documents: Vec<_> = selected.try_collect().await.expect("read");
    documents.iter().map(|raw| Document::try_from(raw.as_ref()).expect("valid")).collect()
}

/// Returns the ids of what is selected in both collections, which must be the same in each.
async fn ids(store: &dyn Coredms, selection: Selection) -> Vec<Bson> {
    let [plain, indexed] = COLLECTIONS.map(|collection| select(store, collection, selection.clone()));
    let (plain, indexed) = (plain.await, indexed.await);
    assert_eq!(plain, indexed, "{selection:?}");
    plain.into_iter().map(|mut document| document.remove("_id").expect("an _id")).collect()
}

/// The same, read in pages of `limit` documents.
async fn ids_by_page(store: &dyn Coredms, selection: &Selection, limit: u64) -> Vec<Bson> {
    let mut all = Vec::new();
    for collection in COLLECTIONS {
        let (mut after, mut found) = (selection.after.clone(), Vec::new());
        loop {
            let page = Selection { after, limit: Some(limit), ..selection.clone() };
            let page = select(store, collection, page).await;
            let Some(last) = page.last() else { break };
            after = Position::of(&raw(last.clone()), &selection.order_by);
            assert!(after.is_some() && page.len() as u64 <= limit);
            found.extend(page.into_iter().map(|mut document| document.remove("_id").expect("an _id")));
        }
        all.push(found);
    }
    assert_eq!(all[0], all[1], "{selection:?}");
    all.remove(0)
}

fn by(field: &str) -> Selection {
    Selection::ordered_by(field)
}

fn descending(selection: &Selection) -> Selection {
    Selection { order: Order::Descending, ..selection.clone() }
}

fn numbers(ids: impl IntoIterator<Item = i32>) -> Vec<Bson> {
    ids.into_iter().map(Bson::Int32).collect()
}

fn decimal(text: &str) -> Decimal128 {
    text.parse().expect("a decimal")
}

pub(crate) async fn documents_are_ordered_by_a_field_and_then_by_id(database: &TestDatabase) {
    let documents =
        (0..100).map(|id| doc! { "_id": id, "in": { "value": (id * 37) % 10 }, "even": id % 2 == 0 });
    let store = stored(database, documents.collect(), &["even", "in.value", "_id"]).await;
    let mut expected: Vec<i32> = (0..100).collect();
    expected.sort_by_key(|id| ((id * 37) % 10, *id));
    assert_eq!(ids(&*store, by("in.value")).await, numbers(expected.clone()));
    assert_eq!(ids(&*store, descending(&by("in.value"))).await, numbers(expected.iter().rev().copied()));
    expected.retain(|id| id % 2 == 0);
    let even = Selection { filter: doc! { "even": true }, ..by("in.value") };
    assert_eq!(ids(&*store, even.clone()).await, numbers(expected.clone()));
    for limit in [0, 1, 7, 50, 1_000] {
        let first = Selection { limit: Some(limit), ..even.clone() };
        assert_eq!(ids(&*store, first).await, numbers(expected.iter().take(limit as usize).copied()));
    }
    assert_eq!(ids_by_page(&*store, &even, 7).await, numbers(expected.clone()));
    expected.sort_unstable();
    assert_eq!(
        ids(&*store, Selection { order_by: "_id".into(), ..even.clone() }).await,
        numbers(expected.clone())
    );
    expected.reverse();
    let by_id = descending(&Selection { order_by: "_id".into(), ..even });
    assert_eq!(ids(&*store, by_id.clone()).await, numbers(expected.clone()));
    assert_eq!(ids_by_page(&*store, &by_id, 7).await, numbers(expected));
}

pub(crate) async fn documents_with_equal_values_are_paged_one_by_one_in_both_directions(
    database: &TestDatabase,
) {
    let documents = (0..40).map(|id| doc! { "_id": id, "value": id / 15, "kind": "a" });
    let store = stored(database, documents.collect(), &["kind", "value", "_id"]).await;
    for filter in [doc! {}, doc! { "kind": "a" }] {
        let selection = Selection { filter, ..by("value") };
        assert_eq!(ids_by_page(&*store, &selection, 1).await, numbers(0..40));
        assert_eq!(ids_by_page(&*store, &descending(&selection), 1).await, numbers((0..40).rev()));
        let bounded = Selection { from: Some(1.into()), until: Some(2.into()), ..selection };
        assert_eq!(ids_by_page(&*store, &bounded, 1).await, numbers(15..30));
        assert_eq!(ids_by_page(&*store, &descending(&bounded), 4).await, numbers((15..30).rev()));
        // A position where no document is.
        let between = Position { value: 1.into(), id: 20.5.into() };
        let later = Selection { after: Some(between), ..bounded };
        assert_eq!(ids(&*store, later.clone()).await, numbers(21..30));
        assert_eq!(ids(&*store, descending(&later)).await, numbers((15..21).rev()));
        for (value, expected) in [(0, numbers(15..30)), (7, numbers([]))] {
            let outside = Some(Position { value: value.into(), id: 99.into() });
            assert_eq!(ids(&*store, Selection { after: outside, ..later.clone() }).await, expected);
        }
    }
}

pub(crate) async fn bounds_include_the_first_value_and_exclude_the_last(database: &TestDatabase) {
    let date = |seconds: i64| DateTime::from_millis(seconds * 1000);
    let documents = (-10..10).map(|id| doc! { "_id": id, "at": date(i64::from(id)) });
    let store = stored(database, documents.collect(), &["at", "_id"]).await;
    let between = |from: Option<i64>, until: Option<i64>| Selection {
        from: from.map(|seconds| date(seconds).into()),
        until: until.map(|seconds| date(seconds).into()),
        ..by("at")
    };
    for (from, until, expected) in [
        (Some(-5), Some(5), -5..5),
        (Some(-5), None, -5..10),
        (None, Some(5), -10..5),
        (Some(-100), Some(100), -10..10),
        (Some(3), Some(4), 3..4),
        (Some(3), Some(3), 0..0),
        (Some(4), Some(3), 0..0),
        (Some(50), None, 0..0),
    ] {
        assert_eq!(ids(&*store, between(from, until)).await, numbers(expected.clone()), "{from:?} {until:?}");
        let descending = descending(&between(from, until));
        assert_eq!(ids_by_page(&*store, &descending, 3).await, numbers(expected.rev()), "{from:?} {until:?}");
    }
    let ids_between = Selection { from: Some((-2).into()), until: Some(2.5.into()), ..by("_id") };
    assert_eq!(ids(&*store, ids_between.clone()).await, numbers(-2..3));
    assert_eq!(ids_by_page(&*store, &ids_between, 2).await, numbers(-2..3));
}

pub(crate) async fn numbers_of_all_types_have_one_order(database: &TestDatabase) {
    let values: Vec<Bson> = vec![
        f64::NEG_INFINITY.into(),
        i64::MIN.into(),
        decimal("-1.5").into(),
        (-1).into(),
        0_i64.into(),
        decimal("0.1").into(),
        // The double is slightly more.
        0.1.into(),
        // Equal: ordered by their ids.
        5_i64.into(),
        decimal("5").into(),
        5.into(),
        5.0.into(),
        decimal("5.00").into(),
        decimal("5.000000000000000000000000000000001").into(),
        ((1_i64 << 53) + 1).into(),
        i64::MAX.into(),
        9_223_372_036_854_775_808.0.into(),
        f64::INFINITY.into(),
    ];
    let count = values.len() as i32;
    let documents = (0..count).zip(&values).rev().map(|(id, value)| doc! { "_id": id, "value": value });
    let documents = documents.chain([doc! { "_id": 100, "value": f64::NAN }]);
    let store = stored(database, documents.collect(), &["value", "_id"]).await;
    assert_eq!(ids(&*store, by("value")).await, numbers(0..count));
    for limit in [1, 3] {
        assert_eq!(ids_by_page(&*store, &by("value"), limit).await, numbers(0..count));
        assert_eq!(ids_by_page(&*store, &descending(&by("value")), limit).await, numbers((0..count).rev()));
    }
    for five in [5.into(), 5_i64.into(), 5.0.into(), decimal("5.0").into()] {
        let from = Selection { from: Some(five), ..by("value") };
        assert_eq!(ids(&*store, from.clone()).await, numbers(7..count));
        let until = Selection { until: from.from, ..by("value") };
        assert_eq!(ids(&*store, until.clone()).await, numbers(0..7));
        let filter = doc! { "value": until.until };
        assert_eq!(ids(&*store, Selection { filter: filter.clone(), ..by("_id") }).await, numbers(7..12));
        assert_eq!(store.find("indexed", filter, 99).await.expect("find").len(), 5);
    }
}

pub(crate) async fn a_bound_selects_its_own_type_and_without_bounds_all_types_follow_one_another(
    database: &TestDatabase,
) {
    let ordered: Vec<Bson> = vec![
        7.into(),
        "".into(),
        "text".into(),
        doc! {}.into(),
        doc! { "a": 1 }.into(),
        Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2] }.into(),
        bson::oid::ObjectId::from_bytes([7; 12]).into(),
        false.into(),
        true.into(),
        DateTime::from_millis(-86_400_000).into(),
        DateTime::from_millis(1_357_016_400_123).into(),
        Timestamp { time: 1, increment: 2 }.into(),
    ];
    let without: Vec<Bson> = vec![Bson::Null, f64::NAN.into(), Bson::MinKey, Bson::MaxKey];
    // Arrays in the field, and on the path to it.
    let arrays = [
        doc! { "_id": 200, "in": { "value": [7, "text"] } },
        doc! { "_id": 201, "in": { "value": [] } },
        doc! { "_id": 202, "in": [{ "value": 7 }] },
        doc! { "_id": 203 },
        doc! { "_id": 204, "in": 7 },
        doc! { "_id": 205, "in.value": 7 },
    ];
    let count = ordered.len() as i32;
    let documents = (0..count).zip(&ordered).map(|(id, value)| doc! { "_id": id, "in": { "value": value } });
    let others = (100..).zip(without).map(|(id, value)| doc! { "_id": id, "in": { "value": value } });
    let documents = arrays.into_iter().chain(documents).chain(others).collect();
    let store = stored(database, documents, &["in.value", "_id"]).await;
    let all = by("in.value");
    assert_eq!(ids(&*store, all.clone()).await, numbers(0..count));
    for limit in [1, 5] {
        assert_eq!(ids_by_page(&*store, &all, limit).await, numbers(0..count));
        assert_eq!(ids_by_page(&*store, &descending(&all), limit).await, numbers((0..count).rev()));
    }
    let bounds: [(Bson, Bson, _, _); 6] = [
        ((-100).into(), 100.into(), 0..1, 0..1),
        ("".into(), "z".into(), 1..3, 1..3),
        (doc! {}.into(), doc! { "z": 1 }.into(), 3..5, 3..5),
        (false.into(), true.into(), 7..9, 7..8),
        (DateTime::MIN.into(), DateTime::from_millis(0).into(), 9..11, 9..10),
        (
            Timestamp { time: 0, increment: 0 }.into(),
            Timestamp { time: 9, increment: 0 }.into(),
            11..12,
            11..12,
        ),
    ];
    for (from, until, expected_from, expected) in bounds {
        let from = Selection { from: Some(from), ..all.clone() };
        assert_eq!(ids_by_page(&*store, &from, 1).await, numbers(expected_from.clone()), "{from:?}");
        let both = Selection { until: Some(until), ..from };
        assert_eq!(ids_by_page(&*store, &both, 1).await, numbers(expected.clone()), "{both:?}");
        assert_eq!(ids_by_page(&*store, &descending(&both), 1).await, numbers(expected.rev()), "{both:?}");
    }
    let different = Selection { from: Some(1.into()), until: Some("z".into()), ..all };
    assert_eq!(ids(&*store, different).await, numbers([]));
}

pub(crate) async fn ids_of_several_types_are_paged_without_a_gap(database: &TestDatabase) {
    let expected: Vec<Bson> = vec![
        Bson::Null,
        1.into(),
        2.5.into(),
        "a".into(),
        doc! { "station": "JFK" }.into(),
        Binary::from(ingestion("ids").record_id(7)).into(),
        bson::oid::ObjectId::from_bytes([7; 12]).into(),
        true.into(),
        DateTime::from_millis(-1).into(),
        Timestamp { time: 1, increment: 2 }.into(),
    ];
    let documents = expected.iter().map(|id| doc! { "_id": id, "value": "same" });
    let store = stored(database, documents.collect(), &["value", "_id"]).await;
    for limit in [1, 4] {
        assert_eq!(ids_by_page(&*store, &by("value"), limit).await, expected);
        let reverse: Vec<Bson> = expected.iter().rev().cloned().collect();
        assert_eq!(ids_by_page(&*store, &descending(&by("value")), limit).await, reverse);
        // null has no position in the order.
        assert_eq!(ids_by_page(&*store, &by("_id"), limit).await, expected[1..]);
        assert_eq!(ids_by_page(&*store, &descending(&by("_id")), limit).await, reverse[..reverse.len() - 1]);
    }
}

pub(crate) async fn a_filter_leads_through_documents_and_arrays(database: &TestDatabase) {
    let contents = [
        doc! { "a": { "b": 1 } },
        doc! { "a": { "b": 2 } },
        doc! { "a": { "b": [1, 2] } },
        doc! { "a": [{ "b": 1 }, { "b": 3 }, 5] },
        doc! { "a": [1, 2] },
        doc! { "a": { "b": null } },
        doc! { "a": {} },
        doc! {},
        doc! { "a": 1 },
        doc! { "a": { "b": { "$gt": 0 } } },
        doc! { "a": { "b": "1" } },
        doc! { "a": { "b": 1.0 } },
        doc! { "a": { "b": [[1], "x"] } },
    ];
    let documents = (0..).zip(contents).map(|(id, content)| {
        let mut document = doc! { "_id": id, "at": 100 - id };
        document.extend(content);
        document
    });
    let documents: Vec<Document> = documents.collect();
    let filters: [(&str, Bson, &[i32]); 12] = [
        ("a.b", 1.into(), &[0, 2, 3, 11]),
        ("a.b", decimal("1").into(), &[0, 2, 3, 11]),
        ("a.b", 2.into(), &[1, 2]),
        ("a.b", 3.into(), &[3]),
        ("a.b", Bson::Array(vec![1.into(), 2.into()]), &[2]),
        ("a.b", Bson::Array(vec![1.into()]), &[12]),
        ("a.b", doc! { "$gt": 0 }.into(), &[9]),
        ("a.b", "1".into(), &[10]),
        ("a.b", "x".into(), &[12]),
        ("a", 1.into(), &[4, 8]),
        ("a", 5.into(), &[3]),
        ("a.b", Bson::Null, &[5, 6, 7, 8]),
    ];
    let store = stored(database, documents, &["a.b", "at", "_id"]).await;
    for (field, value, expected) in filters {
        let selection = Selection { filter: doc! { field: value }, ..by("at") };
        assert_eq!(
            ids(&*store, selection.clone()).await,
            numbers(expected.iter().rev().copied()),
            "{selection:?}"
        );
        let by_id = Selection { order_by: "_id".into(), ..selection };
        assert_eq!(ids(&*store, by_id.clone()).await, numbers(expected.iter().copied()), "{by_id:?}");
    }
    let several = Selection { filter: doc! { "a.b": 1, "at": 98, "_id": 2 }, ..by("at") };
    assert_eq!(ids(&*store, several).await, numbers([2]));
}

pub(crate) async fn only_the_requested_fields_are_returned(database: &TestDatabase) {
    let document = doc! {
        "_id": { "x": 1, "y": 2 }, "at": 5, "a": { "b": { "c": 1, "d": 2 }, "e": 3 }, "text": "t",
        "list": [{ "b": 1, "c": 2 }, 7, [{ "b": 3, "c": 4 }], { "c": 5 }], "null": null,
    };
    let store = stored(database, vec![document.clone()], &["at", "_id"]).await;
    let id = doc! { "x": 1, "y": 2 };
    for (fields, expected) in [
        (&[][..], doc! { "_id": &id }),
        (&["_id"], doc! { "_id": &id }),
        (&["_id.x", "at"], doc! { "_id": &id, "at": 5 }),
        (&["text", "at", "nothing", "null"], doc! { "_id": &id, "at": 5, "text": "t", "null": null }),
        (&["a.b"], doc! { "_id": &id, "a": { "b": { "c": 1, "d": 2 } } }),
        (&["a.b.d", "a.e"], doc! { "_id": &id, "a": { "b": { "d": 2 }, "e": 3 } }),
        (&["a.b.d", "a", "a.b"], doc! { "_id": &id, "a": { "b": { "c": 1, "d": 2 }, "e": 3 } }),
        (&["a.x", "text.x"], doc! { "_id": &id, "a": {} }),
        (&["list.b"], doc! { "_id": &id, "list": [{ "b": 1 }, [{ "b": 3 }], {}] }),
    ] {
        let fields = Some(fields.iter().map(|field| (*field).to_owned()).collect());
        for order_by in ["at", "_id", "a.b.c"] {
            let selection = Selection { fields: fields.clone(), ..by(order_by) };
            for collection in COLLECTIONS {
                let found = select(&*store, collection, selection.clone()).await;
                assert_eq!(found, std::slice::from_ref(&expected), "{fields:?} {order_by}");
            }
        }
    }
    assert_eq!(select(&*store, "plain", by("at")).await, [document]);
}

pub(crate) async fn values_are_returned_as_they_are_stored(database: &TestDatabase) {
    let document = doc! {
        "_id": Binary::from(ingestion("values").record_id(0)), "at": DateTime::from_millis(-86_400_001),
        "decimal": decimal("1.500"), "long": i64::MAX, "int": 7, "double": 0.1 + 0.2, "whole": 5.0, "minus": -0.0,
        "late": DateTime::from_millis(253_402_300_800_000), "bytes": Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 255] },
        "when": { "$date": "no date" }, "null": null, "list": [1, [2.5]],
    };
    let store = stored(database, vec![document.clone()], &["at", "_id"]).await;
    for collection in COLLECTIONS {
        let selected = store.select(collection, by("at")).await.expect("select");
        let found: Vec<_> = selected.try_collect().await.expect("read");
        assert_eq!(found, [raw(document.clone())]);
        let fields = Some(vec!["when".to_owned(), "decimal".to_owned()]);
        let found = select(&*store, collection, Selection { fields, ..by("at") }).await;
        assert_eq!(found[0].get("decimal"), Some(&Bson::Decimal128(decimal("1.500"))));
        assert_eq!(found[0].get_document("when").ok(), Some(&doc! { "$date": "no date" }));
    }
}

pub(crate) async fn an_invalid_selection_is_refused(database: &TestDatabase) {
    let store = database.open().await;
    for selection in [
        by(""),
        by("$where"),
        Selection { filter: doc! { "$where": "true" }, ..by("at") },
        Selection { filter: doc! { "$or": [] }, ..by("at") },
        Selection { fields: Some(vec!["a.$".to_owned()]), ..by("at") },
        Selection { from: Some(Bson::Null), ..by("at") },
        Selection { after: Some(Position { value: f64::NAN.into(), id: 1.into() }), ..by("at") },
        Selection { after: Some(Position { value: 1.into(), id: doc! { "$gt": 1 }.into() }), ..by("at") },
    ] {
        let error = store.select("plain", selection.clone()).await.err().expect("invalid");
        assert!(matches!(error, CoredmsError::Refused { .. }), "{selection:?}: {error}");
    }
}

pub(crate) async fn a_missing_collection_has_nothing_to_select(database: &TestDatabase) {
    let store = database.open().await;
    for order_by in ["at", "_id"] {
        assert_eq!(select(&*store, "nothing", by(order_by)).await, [] as [Document; 0]);
    }
    store.ensure_index("empty", &["at", "_id"]).await.expect("index");
    assert_eq!(select(&*store, "empty", by("at")).await, [] as [Document; 0]);
}

pub(crate) async fn large_documents_are_selected_in_order(database: &TestDatabase) {
    let text = "x".repeat(2 << 20);
    let documents = (0..6).map(|id| doc! { "_id": id, "at": 6 - id, "text": &text });
    let store = stored(database, documents.collect(), &["at", "_id"]).await;
    assert_eq!(ids(&*store, by("at")).await, numbers((0..6).rev()));
    assert_eq!(ids(&*store, descending(&by("at"))).await, numbers(0..6));
    assert_eq!(ids(&*store, by("_id")).await, numbers(0..6));
}

pub(crate) async fn twenty_thousand_documents_are_paged_without_gap_or_repeat_while_others_come_and_go(
    database: &TestDatabase,
) {
    const COUNT: u64 = 20_000;
    let ingestion = ingestion("stays");
    let id = |number: u64| Binary::from(ingestion.record_id(number));
    // Every second number stays; a hundred documents share each value.
    let documents =
        (0..COUNT).map(|number| doc! { "_id": id(2 * number), "at": (number * 7_919 % COUNT / 100) as i32 });
    let store = stored(database, documents.collect(), &["at", "_id"]).await;
    let is_done = Arc::new(AtomicBool::new(false));
    let (other, done) = (database.open().await, is_done.clone());
    let writer = tokio::spawn(async move {
        let mut first = 0;
        while !done.load(Ordering::Relaxed) {
            let numbers: Vec<u64> = (first..first + 100).map(|number| 2 * number + 1).collect();
            for collection in COLLECTIONS {
                let documents = numbers.iter().map(|number| {
                    raw(doc! { "_id": Binary::from(ingestion.record_id(*number)), "at": (number % 200) as i32 })
                });
                other.insert_many(collection, documents.collect()).await.expect("insert");
                let odd = numbers.iter().skip(50).map(|number| ingestion.record_id(*number));
                other.remove(collection, Removal::ByIds(odd.collect())).await.expect("remove");
            }
            first = (first + 100) % COUNT;
        }
    });
    for collection in COLLECTIONS {
        for order in [Order::Ascending, Order::Descending] {
            let selection = Selection { order, ..by("at") };
            let (mut seen, mut after, mut last) = (BTreeSet::new(), None, None);
            // At once in one direction, and by page in the other.
            let limit = if order == Order::Ascending { None } else { Some(5_000) };
            loop {
                let page = Selection { after, limit, ..selection.clone() };
                let page = select(&*store, collection, page).await;
                let Some(document) = page.last() else { break };
                after = Position::of(&raw(document.clone()), "at");
                for document in &page {
                    let value = document.get_i32("at").expect("at");
                    assert!(last.is_none_or(|last| if limit.is_none() {
                        last <= value
                    } else {
                        last >= value
                    }));
                    last = Some(value);
                    let id = document.get_binary_generic("_id").expect("an _id").clone();
                    assert!(seen.insert(id), "returned twice: {document}");
                }
                if limit.is_none() {
                    break;
                }
            }
            let missing = (0..COUNT).filter(|number| !seen.contains(&id(2 * number).bytes)).count();
            assert_eq!(missing, 0, "{collection} {order:?}");
        }
    }
    is_done.store(true, Ordering::Relaxed);
    writer.await.expect("no panic");
}

pub(crate) async fn an_index_has_what_is_written_replaced_and_removed(database: &TestDatabase) {
    let documents = (0..10).map(|id| doc! { "_id": id, "client": "a", "at": id });
    let store = stored(database, documents.collect(), &["client", "at", "_id"]).await;
    let of_a = Selection { filter: doc! { "client": "a" }, ..by("at") };
    for collection in COLLECTIONS {
        store.put(collection, doc! { "_id": 3, "client": "a", "at": 100 }).await.expect("put");
        store.put(collection, doc! { "_id": 4, "client": "b", "at": 4 }).await.expect("put");
        let replaced = vec![
            raw(doc! { "_id": 0, "client": "a", "at": 50 }),
            raw(doc! { "_id": 20, "client": "a", "at": 8.5 }),
        ];
        assert_eq!(store.replace_many(collection, replaced).await.expect("replace").stored, 2);
    }
    assert_eq!(ids(&*store, of_a.clone()).await, numbers([1, 2, 5, 6, 7, 8, 20, 9, 0, 3]));
    for (filter, expected) in [
        (doc! { "client": "b" }, &[4][..]),
        (doc! { "client": "a", "at": 8 }, &[8]),
        (doc! { "client": "a", "at": 3 }, &[]),
        (doc! { "client": "a", "at": 100, "other": null }, &[3]),
        (doc! { "client": "a", "at": 100, "other": 1 }, &[]),
    ] {
        for collection in COLLECTIONS {
            let found = store.find(collection, filter.clone(), 99).await.expect("find");
            let found: Vec<_> = found.iter().map(|found| found.get_i32("_id").expect("an _id")).collect();
            assert_eq!(found, expected, "{filter}");
        }
    }
    for collection in COLLECTIONS {
        let record = ingestion("removed").record_id(1);
        let removed = raw(doc! { "_id": Binary::from(record), "client": "a", "at": -1 });
        store.insert_many(collection, vec![removed]).await.expect("insert");
        let first = Selection { limit: Some(1), ..of_a.clone() };
        assert_eq!(select(&*store, collection, first.clone()).await[0].get_i32("at").ok(), Some(-1));
        assert_eq!(store.remove(collection, Removal::ByIds(vec![record])).await.expect("remove"), 1);
        assert_eq!(select(&*store, collection, first).await[0].get_i32("at").ok(), Some(1));
    }
}

/// The results are those of MongoDB, even if they are surprising.
pub(crate) async fn a_filter_by_null_or_a_position_in_an_array_selects_the_same_in_both_stores(
    database: &TestDatabase,
) {
    let contents = [
        doc! { "a": [] },
        doc! { "a": [5] },
        doc! { "a": [{}] },
        doc! { "a": [{ "b": null }] },
        doc! { "a": { "b": [] } },
        doc! { "a": [[{ "b": 1 }]] },
        doc! { "a": [{ "b": [1] }] },
        doc! { "a": { "0": 1 } },
        doc! { "a": [1, { "b": 1 }] },
        doc! { "a": [[1, 2], 3] },
        doc! { "a": [{ "0": 1 }] },
        doc! { "a": null },
        doc! {},
        doc! { "a": { "b": [[{ "c": 1 }]] } },
        doc! { "a": [5, { "b": 7 }] },
        doc! { "a": [{ "b": 7 }, {}] },
        doc! { "a": { "b": [null] } },
        doc! { "a": [[], { "b": 2 }] },
        doc! { "a": { "b": [{}] } },
        doc! { "a": { "b": [{ "c": null }, 4] } },
        doc! { "a": [null] },
    ];
    let documents = (0..).zip(contents).map(|(id, content)| {
        let mut document = doc! { "_id": id, "at": id };
        document.extend(content);
        document
    });
    let store = stored(database, documents.collect(), &["a.b", "at", "_id"]).await;
    let expected: [(&str, Bson, &[i32]); 15] = [
        ("a", Bson::Null, &[11, 12, 20]),
        ("a", Bson::Array(vec![]), &[0, 17]),
        ("a.b", Bson::Null, &[2, 3, 7, 10, 11, 12, 15, 16]),
        ("a.b", 1.into(), &[6, 8]),
        ("a.b", Bson::Array(vec![1.into()]), &[6]),
        ("a.b", 7.into(), &[14, 15]),
        ("a.0", Bson::Null, &[2, 3, 4, 6, 8, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]),
        ("a.0", 1.into(), &[7, 8, 10]),
        ("a.0", Bson::Array(vec![]), &[17]),
        ("a.0.b", Bson::Null, &[2, 3, 4, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]),
        ("a.0.b", 1.into(), &[5, 6]),
        ("a.1.b", 7.into(), &[14]),
        ("a.1.b", Bson::Null, &[2, 3, 4, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]),
        ("a.b.c", Bson::Null, &[2, 3, 7, 8, 10, 11, 12, 14, 15, 17, 18, 19]),
        ("a.00", 1.into(), &[]),
    ];
    for (field, value, expected) in expected {
        let selection = Selection { filter: doc! { field: value }, ..by("at") };
        assert_eq!(ids(&*store, selection.clone()).await, numbers(expected.iter().copied()), "{selection:?}");
    }
}

pub(crate) async fn the_values_of_a_field_are_listed_once_and_in_order(database: &TestDatabase) {
    let mut documents: Vec<Document> = (0..3_000)
        .map(|id| doc! { "_id": id, "in": { "side": format!("s{:04}", id % 1_500) }, "at": id })
        .collect();
    for (number, value) in
        [5.into(), 5.0.into(), 5.5.into(), Bson::Null, (-1_i64).into()].into_iter().enumerate()
    {
        documents.insert(0, doc! { "_id": format!("n{number}"), "in": { "side": value }, "at": 1 });
    }
    documents.insert(0, doc! { "_id": "none" });
    let store = stored(database, documents, &["in.side", "at", "_id"]).await;
    for collection in COLLECTIONS {
        let values =
            async |from, limit| store.distinct(collection, "in.side", from, limit).await.expect("values");
        let texts: Vec<Bson> = (0..1_500).map(|number| format!("s{number:04}").into()).collect();
        assert_eq!(values(Bound::Included("".into()), 10_000).await, texts, "{collection}");
        assert_eq!(values(Bound::Included("s0007".into()), 2).await, texts[7..9]);
        assert_eq!(values(Bound::Excluded("s0007".into()), 1_200).await, texts[8..1_208]);
        assert_eq!(values(Bound::Excluded("s1499".into()), 1).await, []);
        assert_eq!(values(Bound::Included("".into()), 0).await, []);
        let numbers = |values: Vec<Bson>| -> Vec<f64> {
            let number = |value: Bson| match value {
                Bson::Int32(number) => number.into(),
                Bson::Int64(number) => number as f64,
                Bson::Double(number) => number,
                other => panic!("{other} is not a number"),
            };
            values.into_iter().map(number).collect()
        };
        let least = || Bound::Included(f64::NEG_INFINITY.into());
        assert_eq!(numbers(values(least(), 10).await), [-1.0, 5.0, 5.5], "{collection}");
        assert_eq!(numbers(values(Bound::Excluded(5_i64.into()), 10).await), [5.5], "{collection}");
    }
    assert_eq!(store.distinct("missing", "a", Bound::Included("".into()), 5).await.expect("none"), []);
}
