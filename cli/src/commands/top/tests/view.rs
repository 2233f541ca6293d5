use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyCode::{Char, Tab};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use serde_json::json;

use super::{event, file, model, now, page, press, staged, type_text};
use crate::commands::top::api::{Answered, Polled};
use crate::commands::top::model::Model;
use crate::commands::top::text::width;
use crate::commands::top::view;
use crate::commands::top::view::theme::Theme;
use crate::local_time;

fn drawn(model: &mut Model, columns: u16, lines: u16, has_colours: bool) -> Buffer {
    model.size = (columns, lines);
    model.limit_offsets(now());
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, lines));
    view::draw(&mut buffer, model, Theme::new(has_colours), now());
    buffer
}

/// The lines as a terminal shows them, without the spaces at their ends.
fn screen(model: &mut Model, columns: u16, lines: u16) -> Vec<String> {
    let buffer = drawn(model, columns, lines, true);
    let line = |y| {
        let (mut x, mut line) = (0, String::new());
        while x < columns {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += u16::try_from(width(symbol).max(1)).expect("a symbol");
        }
        assert!(width(&line) <= columns.into(), "{line:?}");
        line.trim_end().to_owned()
    };
    (0..lines).map(line).collect()
}

#[test]
fn a_screen_of_80_columns_has_all_panels() {
    let mut model = model();
    staged(&mut model, "a.csv");
    let (read_at, changed_at) =
        (local_time::of(now()), local_time::of("2026-01-31T11:50:00Z".parse().expect("a time")));
    let expected = format!(
        "
 mysimbdp   ✔ ready  broker ok  store ok  2 processes ok        ● live {read_at}
 Attention ────────────────────────────────────────────── 1 to act on, 1 to know
 ! held        client2    2 files, the last one new.csv: app gave up
 ~ discarded   no client  x.exe: no client wants it
▸Clients ───── waiting  staged  ingesting  files/min  records/s  discarded  held
 client2             1       4          2        6.0        100          0     2
 client3             0       0          0          0       1200          0     0
 no client           0       0          0          0          0          1     0
 Streams ───────── instances ─── busy ─ msg/s  backlog  last decision ──────────
 client3/readings  ■■ 2/2         60%    1200        6  steady; {changed_at} 1 → 2:…
 Events ────────────────────────────────────────────────────────────────────────
 {read_at} client2    staged    a.csv: 3 records in 1 micro-batch, live lane
"
    );
    let screen = screen(&mut model, 80, 24);
    assert_eq!(format!("\n{}\n", screen[..12].join("\n")), expected);
    assert_eq!(screen[23], " q quit  ? help  / filter  Tab panel  ↑↓ scroll  s sorted by name  p pause");
}

#[test]
fn a_small_screen_shows_what_needs_a_person_and_one_panel() {
    let mut model = model();
    staged(&mut model, "a.csv");
    let clients = screen(&mut model, 40, 10);
    assert!(clients[0].ends_with(&format!("● live {}", local_time::of(now()))), "{clients:#?}");
    assert_eq!(clients[2], " ! held client2 2 files, the last one n…");
    assert_eq!(clients[3], "▸Clients ─────── staged  records/s  held");
    assert_eq!(clients[4], " client2              4        100     2");
    press(&mut model, &[Tab]);
    assert!(
        screen(&mut model, 40, 10)[4].starts_with(" client3/readings"),
        "{:#?}",
        screen(&mut model, 40, 10)
    );
    press(&mut model, &[Tab]);
    let events = screen(&mut model, 40, 10);
    assert!(events[4].contains("client2 staged a.csv"), "{events:#?}");
    // Nothing is drawn beside a screen of any size.
    for columns in 0..90 {
        for lines in 0..30 {
            drawn(&mut model, columns, lines, true);
        }
    }
}

#[test]
fn a_large_screen_shows_more_columns() {
    let screen = screen(&mut model(), 150, 50);
    assert!(screen[4].contains("oldest") && screen[4].contains("records/s, 10 min"), "{}", screen[4]);
    assert!(screen[5].ends_with("▄ █") && screen[5].contains("2 min"), "{}", screen[5]);
    assert!(screen[9].ends_with("1 → 2: busy"), "{}", screen[9]);
}

#[test]
fn hostile_names_are_text_within_their_cells() {
    let mut model = model();
    let name =
        "<script>alert(1)</script>\u{1b}]0;x\u{7}\n\u{202e}gpj\u{200b}天気e\u{301}\u{301}\u{301}\u{301}.csv";
    let held = page(json!([file(json!("天気天気天気天気天気天気"), name, "2026-01-31T11:00:00Z", name)]));
    model.polled(Polled { answers: vec![Answered::Held(held)], ..Polled::default() }, now());
    let data = json!({"client": "天気天気天気天気天気", "name": name, "reasons": [name]});
    model.happened(&event("discarded", &data), now());
    for columns in [20, 40, 60, 80, 200] {
        let screen = screen(&mut model, columns, 24).join("\n");
        let raw =
            |letter: &char| letter.is_control() && *letter != '\n' || "\u{202e}\u{200b}".contains(*letter);
        assert_eq!(screen.chars().find(raw), None, "{screen}");
    }
    let shown = screen(&mut model, 200, 24);
    let escaped = r"<script>alert(1)</script>\u{1b}]0;x\u{7}\n\u{202e}gpj\u{200b}天気";
    assert!(shown[2].contains(escaped), "{}", shown[2]);
    assert!(shown.iter().any(|line| line.contains("discarded") && line.contains(escaped)), "{shown:#?}");
}

#[test]
fn how_old_it_is_is_always_said() {
    let right =
        |model: &mut Model| screen(model, 80, 24)[0].rsplit("  ").next().expect("text").trim().to_owned();
    let at = local_time::of(now());
    let mut model = model();
    assert_eq!(right(&mut model), format!("● live {at}"));
    model.polled(Polled { outage: Some("refused".into()), ..Polled::default() }, now());
    assert_eq!(right(&mut model), format!("○ as of {at}"));
    model.lost("the server has ended the connection");
    assert_eq!(right(&mut model), format!("◌ reconnecting, as of {at}"));
    let head = &screen(&mut model, 80, 24)[0];
    assert!(head.contains("state unknown") && !head.contains("ok"), "{head}");
    press(&mut model, &[Char('p')]);
    assert_eq!(right(&mut model), format!("‖ paused at {at}"));
    let mut model = Model::new(None, std::time::Duration::from_secs(5), (80, 24));
    assert_eq!(right(&mut model), "◌ connecting");
    model.polled(Polled::default(), now());
    assert_eq!(right(&mut model), format!("◌ connecting, as of {at}"));
    model.connected();
    assert_eq!(right(&mut model), format!("● live {at}"));
}

#[test]
fn a_filter_is_in_the_head_and_narrows_the_panels() {
    let mut model = model();
    press(&mut model, &[Char('/')]);
    type_text(&mut model, "client2");
    let shown = screen(&mut model, 80, 24);
    assert!(shown[0].contains("filter \"client2\""), "{}", shown[0]);
    assert!(shown[23].starts_with(" filter  client2"), "{}", shown[23]);
    assert!(!shown.join("\n").contains("client3"), "{shown:#?}");
}

#[test]
fn without_colours_nothing_has_one_and_with_them_they_are_those_of_the_terminal() {
    let colours = |has_colours| {
        let buffer = drawn(&mut model(), 80, 24, has_colours);
        buffer.content.iter().map(|cell| (cell.fg, cell.bg)).collect::<Vec<_>>()
    };
    assert!(colours(false).iter().all(|colours| *colours == (Color::Reset, Color::Reset)));
    let with = colours(true);
    assert!(with.iter().any(|(fg, _)| *fg == Color::Red));
    assert!(
        with.iter().all(|(fg, bg)| !matches!(fg, Color::Rgb(..) | Color::Indexed(_)) && *bg == Color::Reset)
    );
}

#[test]
fn the_help_is_over_the_panels() {
    let mut model = model();
    press(&mut model, &[Char('?')]);
    let buffer = drawn(&mut model, 80, 24, true);
    let shown = screen(&mut model, 80, 24).join("\n");
    assert!(shown.contains("┌ Keys ") && shown.contains("sort by name, rate, queue, trouble"), "{shown}");
    assert!(buffer.content.iter().any(|cell| cell.modifier.contains(Modifier::BOLD)));
    assert!(screen(&mut model, 20, 5).join("").contains("Keys"));
}
