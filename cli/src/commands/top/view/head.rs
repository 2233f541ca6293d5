//! The first line: the state of the platform, and how old what is shown is.

use std::time::Duration;

use jiff::Timestamp;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::theme::Theme;
use crate::commands::top::api::Readiness;
use crate::commands::top::model::{Connection, Data, Model};
use crate::commands::top::text;
use crate::local_time;

const NAME: &str = " mysimbdp ";
/// Lists that are not read for this time longer than they should be are old.
const SLACK: Duration = Duration::from_secs(10);

pub fn line(model: &Model, theme: Theme, now: Timestamp, width: usize) -> Line<'static> {
    let (fresh, style) = freshness(model, theme, now);
    let mut left = width.saturating_sub(NAME.len() + text::width(&fresh) + 2);
    let mut spans = vec![Span::styled(NAME, theme.reversed().patch(theme.strong()))];
    let mut used = 0;
    for (part, style) in parts(model, theme) {
        let cells = text::width(&part) + 2;
        if cells > left {
            continue;
        }
        left -= cells;
        used += cells;
        spans.push(Span::raw("  "));
        spans.push(Span::styled(part, style));
    }
    let space = width.saturating_sub(NAME.len() + used + text::width(&fresh) + 1);
    spans.push(Span::raw(" ".repeat(space)));
    spans.push(Span::styled(fresh, style));
    Line::from(spans)
}

/// What is said if there is space, the most important first.
fn parts(model: &Model, theme: Theme) -> Vec<(String, Style)> {
    let data = model.shown();
    // What the server said before it went away is not known any more.
    let is_lost = matches!(data.connection, Connection::Lost { .. });
    let readiness = data.readiness.as_ref().filter(|_| !is_lost);
    let mut parts = vec![match readiness {
        Some(Readiness { ready: true, .. }) => ("✔ ready".to_owned(), theme.good()),
        Some(_) => ("✖ not ready".to_owned(), theme.alert()),
        None => ("… state unknown".to_owned(), theme.faint()),
    }];
    if !model.filter.is_empty() {
        parts.push((format!("filter {:?}", model.filter.text()), theme.reversed()));
    }
    parts.extend(model.only_client.as_ref().map(|client| (format!("only {client}"), theme.strong())));
    parts.extend(readiness.into_iter().flat_map(|readiness| running(readiness, theme)));
    parts
}

/// The broker and the store, and how many processes run.
fn running(readiness: &Readiness, theme: Theme) -> Vec<(String, Style)> {
    let of_kind = |kind| readiness.parts.iter().filter(move |part| &*part.kind == kind);
    let is_good = |condition: &str| matches!(condition, "ok" | "unknown");
    let style = |is_good: bool| if is_good { theme.faint() } else { theme.alert() };
    let connections = of_kind("connection")
        .map(|part| (format!("{} {}", part.name, part.condition), style(is_good(&part.condition))));
    let (all, good) =
        (of_kind("process").count(), of_kind("process").filter(|part| is_good(&part.condition)).count());
    let processes = match (all, good == all) {
        (0, _) => None,
        (_, true) => Some((format!("{all} processes ok"), style(true))),
        (_, false) => Some((format!("{good} of {all} processes ok"), style(false))),
    };
    connections.chain(processes).collect()
}

/// Whether what is shown is what there is, or how old it is.
fn freshness(model: &Model, theme: Theme, now: Timestamp) -> (String, Style) {
    let data = model.shown();
    let at = data.read_at.map_or_else(|| "–".to_owned(), local_time::of);
    if model.paused.is_some() {
        return (format!("‖ paused at {at}"), theme.notice());
    }
    match &data.connection {
        Connection::Lost { .. } => (format!("◌ reconnecting, as of {at}"), theme.alert()),
        Connection::Live if is_current(data, model.interval, now) => (format!("● live {at}"), theme.good()),
        Connection::Live if data.read_at.is_some() => (format!("○ as of {at}"), theme.notice()),
        _ if data.read_at.is_some() => (format!("◌ connecting, as of {at}"), theme.notice()),
        _ => ("◌ connecting".to_owned(), theme.faint()),
    }
}

fn is_current(data: &Data, interval: Duration, now: Timestamp) -> bool {
    let age = data.read_at.map(|at| now.duration_since(at).unsigned_abs());
    data.outage.is_none() && age.is_some_and(|age| age <= interval * 2 + SLACK)
}
