use ratatui::crossterm::event::KeyCode::{
    self, Backspace, Char, Down, End, Enter, Esc, Home, PageDown, PageUp, Tab, Up,
};
use ratatui::crossterm::event::{KeyEvent, KeyModifiers};
use serde_json::json;

use super::{event, model, now, press, staged, type_text};
use crate::commands::top::api::Polled;
use crate::commands::top::model::{Mode, Model, Panel, Sort};

fn offset(model: &Model) -> usize {
    model.offsets[model.focus as usize]
}

fn with_events(number: usize) -> Model {
    let mut model = model();
    for number in 0..number {
        staged(&mut model, &format!("{number}.csv"));
    }
    model.focus = Panel::Events;
    model
}

#[test]
fn keys_do_what_the_help_says() {
    let mut model = model();
    press(&mut model, &[Tab]);
    assert_eq!(model.focus, Panel::Streams);
    press(&mut model, &[Tab, Tab, Tab]);
    assert_eq!(model.focus, Panel::Clients);
    press(&mut model, &[KeyCode::BackTab]);
    assert_eq!(model.focus, Panel::Attention);
    press(&mut model, &[Char('s')]);
    assert_eq!(model.sort, Sort::Rate);
    press(&mut model, &[Char('?')]);
    assert_eq!(model.mode, Mode::Help);
    press(&mut model, &[Char('s')]);
    assert_eq!((model.mode.clone(), model.sort, model.has_ended), (Mode::Browse, Sort::Rate, false));
    press(&mut model, &[Char('q')]);
    assert!(model.has_ended);
    let mut model = with_events(0);
    model.key(KeyEvent::new(Char('c'), KeyModifiers::CONTROL), now());
    assert!(model.has_ended);
}

#[test]
fn a_panel_is_scrolled_within_its_rows() {
    let mut model = with_events(100);
    let page = usize::from(model.lines(now())[Panel::Events as usize] - 1);
    let last = 100 - page;
    for (keys, expected) in [
        (vec![Up], 0),
        (vec![Down, Down], 2),
        (vec![Char('k')], 1),
        (vec![PageDown], 1 + page),
        (vec![PageUp], 1),
        (vec![End], last),
        (vec![Down, PageDown], last),
        (vec![Home], 0),
        (vec![Char('G')], last),
        (vec![Char('g'), Char('j')], 1),
    ] {
        press(&mut model, &keys);
        assert_eq!(offset(&model), expected, "{keys:?}");
    }
    press(&mut model, &[End, Char('/')]);
    type_text(&mut model, "99.csv");
    assert_eq!((offset(&model), model.events().count()), (0, 1));
}

#[test]
fn who_has_scrolled_keeps_seeing_the_same_events() {
    let mut model = with_events(50);
    staged(&mut model, "new.csv");
    assert_eq!(offset(&model), 0);
    press(&mut model, &[Down, Down]);
    let seen = model.events().nth(2).cloned();
    staged(&mut model, "newer.csv");
    assert_eq!(model.events().nth(offset(&model)).cloned(), seen);
}

#[test]
fn a_filter_takes_effect_while_it_is_typed() {
    let mut model = with_events(20);
    press(&mut model, &[Char('/')]);
    type_text(&mut model, "1?.csv");
    assert_eq!(model.events().count(), 10, "q and ? are letters of it");
    press(&mut model, &[Enter]);
    assert_eq!(
        (model.mode.clone(), model.filter.text(), model.client_rows().len()),
        (Mode::Browse, "1?.csv", 0)
    );
    // It is typed on.
    press(&mut model, &[Char('/'), Backspace, Backspace, Backspace, Backspace, Backspace]);
    assert_eq!((model.mode.clone(), model.filter.text()), (Mode::TypeFilter("1".to_owned()), "1"));
    press(&mut model, &[Esc]);
    assert_eq!(
        (model.mode.clone(), model.filter.is_empty(), model.events().count()),
        (Mode::Browse, true, 20)
    );
    press(&mut model, &[Char('/')]);
    type_text(&mut model, &"x".repeat(1_000));
    assert_eq!(model.filter.text().len(), 100);
    press(&mut model, &[Enter, Esc]);
    assert!(model.filter.is_empty());
}

#[test]
fn while_it_is_paused_nothing_that_is_shown_changes() {
    let mut model = with_events(3);
    press(&mut model, &[Char('p')]);
    staged(&mut model, "new.csv");
    model.polled(Polled { outage: Some("refused".into()), ..Polled::default() }, now());
    assert_eq!((model.events().count(), model.shown().outage.is_some()), (3, false));
    press(&mut model, &[Char('p')]);
    assert_eq!((model.events().count(), model.shown().outage.is_some()), (4, true));
}

#[test]
fn an_answer_that_fails_leaves_what_was_read_before() {
    let mut model = model();
    let read_at = model.data.read_at;
    let later = now() + std::time::Duration::from_secs(60);
    model.polled(Polled { outage: Some("refused".into()), ..Polled::default() }, later);
    assert_eq!((model.data.read_at, model.client_rows().len()), (read_at, 3));
    model.polled(Polled::default(), later);
    assert_eq!((model.data.read_at, model.data.outage.is_none()), (Some(later), true));
}

#[test]
fn events_are_kept_up_to_a_limit_and_the_progress_of_a_file_is_one() {
    let mut model = with_events(3_000);
    assert_eq!((model.events().count(), &*model.data.events[0].subject), (1_000, "2999.csv"));
    for done in 1..10 {
        let data =
            json!({"client": "client2", "name": "large.csv", "micro_batches": 9, "micro_batches_done": done});
        model.happened(&event("progress", &data), now());
    }
    let [last, before] = [0, 1].map(|index| model.data.events[index].text.to_string());
    assert_eq!(last, "large.csv: 9 of 9 micro-batches ingested");
    assert!(before.starts_with("2999.csv"), "{before}");
}
