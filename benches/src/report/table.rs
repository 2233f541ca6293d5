//! The report for people, as Markdown.

use std::fmt::Write;

use crate::case::RunSize;
use crate::failure::BenchError;
use crate::report::goal::evaluate;
use crate::report::{BenchReport, Outcome, ratio};
use crate::run::Series;

pub(super) fn table(report: &BenchReport) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, report);
    text
}

fn write(text: &mut String, report: &BenchReport) -> std::fmt::Result {
    let machine = |name: &str| match &report.machine[name] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    writeln!(
        text,
        "{}: {}, {} cores, {}, Linux {}; {}; load average at the start {}; median of {} rounds{}.\n",
        machine("date"),
        machine("processor"),
        machine("cores"),
        machine("memory"),
        machine("kernel"),
        machine("mosquitto"),
        machine("load average"),
        report.rounds,
        if report.extent == RunSize::Quick { ", QUICK: small inputs, so the numbers are rough" } else { "" },
    )?;
    writeln!(text, "| case | contender | median | spread | ratio | other |\n|---|---|--:|--:|--:|---|")?;
    report.cases.iter().try_for_each(|case| rows(text, case))?;
    writeln!(text, "\n| case | goal | found | met |\n|---|---|--:|:-:|")?;
    report.cases.iter().try_for_each(|case| goals(text, case))
}

fn rows(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let plan = outcome.plan;
    let series = match &outcome.result {
        Ok(series) => series,
        Err(failure) => return no_result(text, plan.title, failure),
    };
    for (position, one) in series.iter().enumerate() {
        let title = if position == 0 { plan.title } else { "" };
        let name = &one.contender.name;
        match &one.contender.absent {
            Some(why) => writeln!(text, "| {title} | {name} | {why} | | | |")?,
            None => writeln!(
                text,
                "| {title} | {name} | {} | {} |",
                numbers(series, one, plan.unit),
                other_numbers(one)
            )?,
        }
    }
    Ok(())
}

fn numbers(all: &[Series], series: &Series, unit: &str) -> String {
    let sorted = series.sorted();
    let (Some(median), Some(least), Some(most)) = (series.median(), sorted.first(), sorted.last()) else {
        return " | | ".to_owned();
    };
    let ratio = ratio(all, series).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    format!("{} {unit} | {} to {} | {ratio}", short(median), short(*least), short(*most))
}

/// The medians of what else was seen.
fn other_numbers(series: &Series) -> String {
    let names = series.samples.first().into_iter().flat_map(|sample| sample.facts.keys().copied());
    let fact = |name: &'static str| {
        // What took no time is not worth a word.
        let value = series.fact(name).filter(|value| *value >= 0.005)?;
        Some(format!("{name}: {}", short(value)))
    };
    names.filter_map(fact).collect::<Vec<_>>().join("; ")
}

fn no_result(text: &mut String, title: &str, failure: &BenchError) -> std::fmt::Result {
    let cause = failure.error_chain().replace(['|', '\n'], " ");
    writeln!(text, "| {title} | NO RESULT: {cause} | | | | |")
}

fn goals(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let plan = outcome.plan;
    let series = outcome.result.as_deref().unwrap_or_default();
    for goal in plan.goals {
        let evaluated = evaluate(*goal, series, plan.unit);
        let found = evaluated.found.unwrap_or_else(|| "not measured".to_owned());
        let met = evaluated.is_met.map_or("", |met| if met { "yes" } else { "NO" });
        writeln!(text, "| {} | {} | {found} | {met} |", plan.title, evaluated.expected)?;
    }
    Ok(())
}

/// Four digits say more than the spread allows already.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 10_000.0 => format!("{:.1}k", value / 1e3),
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
