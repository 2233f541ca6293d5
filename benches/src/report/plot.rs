//! The plot: for each case with a yardstick, every contender as a bar whose unit is the yardstick's median.

use std::fmt::Write;

use crate::case::{ContenderKind, Goal};
use crate::report::{BenchReport, Outcome, first};
use crate::run::Series;

const LABELS_WIDTH: f64 = 330.0;
const BARS_WIDTH: f64 = 480.0;
const ROW_HEIGHT: f64 = 18.0;
const GAP: f64 = 14.0;
/// What is further out is cut off and written as a number.
const RATIO_MAX: f64 = 2.5;

pub(super) fn svg(report: &BenchReport) -> String {
    let mut body = String::new();
    let mut y = GAP;
    for case in &report.cases {
        // Writing to a string cannot fail.
        let _ = draw(&mut body, case, &mut y);
    }
    let width = LABELS_WIDTH + BARS_WIDTH + 60.0;
    let style = "text{font:12px sans-serif;fill:#222}.t{font-weight:bold}.platform{fill:#2b6cb0}\
                 .yardstick{fill:#a0aec0}.peer{fill:#ed8936}.goal{stroke:#c53030;stroke-width:2}.range{stroke:#222}";
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {y}\" width=\"{width}\" height=\"{y}\">\n\
         <style>{style}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

fn draw(body: &mut String, case: &Outcome, y: &mut f64) -> std::fmt::Result {
    let Ok(all) = &case.result else { return Ok(()) };
    let Some(unit) = first(all, ContenderKind::Yardstick).and_then(Series::median) else { return Ok(()) };
    writeln!(body, "<text class=\"t\" x=\"8\" y=\"{}\">{}</text>", *y + 13.0, escape(case.plan.title))?;
    *y += ROW_HEIGHT;
    let top = *y;
    for series in all.iter().filter(|series| !series.samples.is_empty()) {
        bar(body, series, unit, *y)?;
        *y += ROW_HEIGHT;
    }
    for goal in case.plan.goals {
        if let Goal::AtLeast(ratio, position) = goal
            && all.get(*position).is_some_and(|one| one.contender.kind == ContenderKind::Yardstick)
        {
            let x = position_of(*ratio);
            writeln!(body, "<line class=\"goal\" x1=\"{x}\" x2=\"{x}\" y1=\"{top}\" y2=\"{}\"/>", *y - 3.0)?;
        }
    }
    *y += GAP;
    Ok(())
}

fn bar(body: &mut String, series: &Series, unit: f64, y: f64) -> std::fmt::Result {
    let sorted = series.sorted();
    let (Some(median), Some(least), Some(most)) = (series.median(), sorted.first(), sorted.last()) else {
        return Ok(());
    };
    let (class, name) = (series.contender.kind.as_str(), escape(&series.contender.name));
    let end = position_of(median / unit);
    let (from, to, middle) = (position_of(least / unit), position_of(most / unit), y + 7.0);
    writeln!(body, "<text x=\"20\" y=\"{}\">{name}</text>", y + 12.0)?;
    writeln!(
        body,
        "<rect class=\"{class}\" x=\"{LABELS_WIDTH}\" y=\"{y}\" width=\"{:.1}\" height=\"14\"/>",
        end - LABELS_WIDTH
    )?;
    writeln!(
        body,
        "<line class=\"range\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>"
    )?;
    let text_x = end.max(to) + 6.0;
    writeln!(body, "<text x=\"{text_x:.1}\" y=\"{}\">{:.2}</text>", y + 12.0, median / unit)
}

fn position_of(ratio: f64) -> f64 {
    LABELS_WIDTH + BARS_WIDTH * ratio.clamp(0.0, RATIO_MAX) / RATIO_MAX
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
