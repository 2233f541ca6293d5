//! The report for programs: every value of every round.

use serde_json::{Map, Value, json};

use crate::case::{RunSize, Sample};
use crate::failure::BenchError;
use crate::machine;
use crate::report::goal::evaluate;
use crate::report::{BenchReport, Outcome, ratio};
use crate::run::Series;

pub(super) fn json(report: &BenchReport) -> Value {
    json!({
        "machine": report.machine,
        "load average at the end": machine::load(),
        "quick": report.extent == RunSize::Quick,
        "rounds": report.rounds,
        "cases": report.cases.iter().map(case).collect::<Vec<_>>(),
    })
}

fn case(outcome: &Outcome) -> Value {
    let plan = outcome.plan;
    let series = outcome.result.as_deref().unwrap_or_default();
    let goal = |goal: &_| {
        let evaluated = evaluate(*goal, series, plan.unit);
        json!({"wanted": evaluated.expected, "found": evaluated.found, "met": evaluated.is_met})
    };
    json!({
        "name": plan.name,
        "title": plan.title,
        "unit": plan.unit,
        "timed": plan.timed,
        "failure": outcome.result.as_ref().err().map(BenchError::error_chain),
        "contenders": series.iter().map(|one| contender(series, one)).collect::<Vec<_>>(),
        "goals": plan.goals.iter().map(goal).collect::<Vec<_>>(),
    })
}

fn contender(all: &[Series], series: &Series) -> Value {
    json!({
        "role": series.contender.kind.as_str(),
        "name": series.contender.name,
        "absent": series.contender.absent,
        "median": series.median(),
        "ratio": ratio(all, series),
        "rounds": series.samples.iter().map(sample).collect::<Vec<_>>(),
    })
}

fn sample(sample: &Sample) -> Value {
    let mut value = Map::new();
    value.insert("value".to_owned(), json!(sample.value));
    value.extend(sample.facts.iter().map(|(name, fact)| ((*name).to_owned(), json!(fact))));
    if !sample.memory_kib.is_empty() {
        value.insert("memory peak, KiB".to_owned(), json!(sample.memory_kib));
    }
    Value::Object(value)
}
