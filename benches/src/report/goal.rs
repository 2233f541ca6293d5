//! Whether a goal is met.

use crate::case::{ContenderKind, Goal};
use crate::report::first;
use crate::run::Series;

/// A goal in words, what was measured, and whether that is enough. `None` where what it compares with is absent.
#[derive(Clone, Debug)]
pub struct Evaluated {
    pub expected: String,
    pub found: Option<String>,
    pub is_met: Option<bool>,
}

pub fn evaluate(goal: Goal, series: &[Series], unit: &str) -> Evaluated {
    let platform = first(series, ContenderKind::Platform);
    let median = platform.and_then(Series::median);
    let of = |position: usize| series.get(position).and_then(Series::median);
    let name = |position: usize| series.get(position).map_or("another", |one| one.contender.name.as_str());
    let (expected, found, is_met) = match goal {
        Goal::AtLeast(least, position) => {
            let ratio = median.zip(of(position)).map(|(own, other)| own / other);
            (
                format!("at least {least} of {}", name(position)),
                ratio.map(|ratio| format!("{ratio:.2}")),
                ratio.map(|ratio| ratio >= least),
            )
        }
        Goal::AtMostAbove(most, position) => {
            let above = median.zip(of(position)).map(|(own, other)| own - other);
            (
                format!("at most {most} {unit} above {}", name(position)),
                above.map(|above| format!("{above:.2} above")),
                above.map(|above| above <= most),
            )
        }
        Goal::AtMost(most) => (
            format!("at most {most} {unit}"),
            median.map(|median| format!("{median:.3}")),
            median.map(|median| median <= most),
        ),
        Goal::MemoryKib(most) => {
            let peak = platform.and_then(peak);
            (
                format!("each process at most {} MiB", most / 1024),
                peak.as_ref().map(|(name, kib)| format!("{} MiB ({name})", kib / 1024)),
                peak.map(|(_, kib)| kib <= most),
            )
        }
        Goal::FactAtMost(name, most) => {
            let fact = platform.and_then(|platform| platform.fact(name));
            (
                format!("{name}: at most {most}"),
                fact.map(|fact| format!("{fact:.2}")),
                fact.map(|fact| fact <= most),
            )
        }
    };
    Evaluated { expected, found, is_met }
}

/// The process that had most resident in any round.
fn peak(series: &Series) -> Option<(String, u64)> {
    let peaks = series.samples.iter().flat_map(|sample| &sample.memory_kib);
    peaks.max_by_key(|(_, kib)| **kib).map(|(name, kib)| (name.clone(), *kib))
}
