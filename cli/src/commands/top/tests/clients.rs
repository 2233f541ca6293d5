use serde_json::json;

use super::{answers, file, model, now, parse};
use crate::commands::top::api::{Answered, Polled};
use crate::commands::top::clients::Count;
use crate::commands::top::model::{Model, Sort};

fn names(model: &Model) -> Vec<String> {
    model.client_rows().into_iter().map(|row| row.client.to_string()).collect()
}

#[test]
fn a_row_has_what_is_where_and_the_rates_of_the_last_minute() {
    let model = model();
    let rows = model.client_rows();
    let row = &rows[0];
    assert_eq!(&*row.client, "client2");
    let count = |number| Count { number, more: false };
    assert_eq!((row.waiting, row.held, row.discarded), (count(1), count(2), count(0)));
    assert_eq!((row.staged, row.ingesting, row.oldest_seconds), (4, 2, Some(130.0)));
    assert!((row.files_per_minute - 6.0).abs() < 1e-9, "{}", row.files_per_minute);
    assert!((row.records_per_second - 100.0).abs() < 1e-9, "what was not measured does not count");
    assert_eq!(row.trend, [0.0, 100.0, 0.0, 200.0]);
    assert!((rows[1].records_per_second - 1_200.0).abs() < 1e-9);
    assert_eq!((&*rows[2].client, rows[2].discarded), ("no client", count(1)));
}

#[test]
fn rows_are_in_the_chosen_order() {
    let mut model = model();
    for (sort, expected) in [
        (Sort::Name, ["client2", "client3", "no client"]),
        (Sort::Rate, ["client3", "client2", "no client"]),
        (Sort::Queue, ["client2", "client3", "no client"]),
        (Sort::Trouble, ["client2", "no client", "client3"]),
    ] {
        model.sort = sort;
        assert_eq!(names(&model), expected, "{sort:?}");
    }
}

#[test]
fn one_client_alone_is_shown_if_a_person_wants_only_that_one() {
    let mut model =
        Model::new(Some("client2".parse().expect("an id")), std::time::Duration::from_secs(5), (80, 24));
    model.polled(Polled { answers: answers(), ..Polled::default() }, now());
    assert_eq!(names(&model), ["client2"]);
    assert!(model.matters(now()).iter().all(|matter| matter.client.as_deref() == Some("client2")));
}

#[test]
fn numbers_of_a_list_that_is_not_complete_are_lower_bounds() {
    let mut model = model();
    let waiting = json!({"items": [file(json!("client3"), "a", "2026-01-31T11:00:00Z", "")], "next": "c"});
    model.polled(Polled { answers: vec![Answered::Waiting(parse(waiting))], ..Polled::default() }, now());
    let shown: Vec<String> = model.client_rows().iter().map(|row| row.waiting.to_string()).collect();
    assert_eq!(shown, ["0+", "1+", "0"]);
}
