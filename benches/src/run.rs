//! Runs a case: its contenders take turns, so that what disturbs the machine disturbs them all.

use crate::case::{Contender, Plan, RunSize, Sample};
use crate::failure::Result;

/// A contender and its result in each round.
#[derive(Clone, Debug)]
pub struct Series {
    pub contender: Contender,
    pub samples: Vec<Sample>,
}

impl Series {
    /// The values in ascending order; none where the contender is absent.
    pub fn sorted(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.samples.iter().map(|sample| sample.value).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The value in the middle, or between the two in the middle.
    pub fn median(&self) -> Option<f64> {
        median(&self.sorted())
    }

    /// The median of a fact.
    pub fn fact(&self, name: &str) -> Option<f64> {
        let mut values: Vec<f64> =
            self.samples.iter().filter_map(|sample| sample.facts.get(name).copied()).collect();
        values.sort_by(f64::total_cmp);
        median(&values)
    }
}

/// Measures every contender of a case so many times.
///
/// # Errors
///
/// The first contender that fails ends the case.
pub async fn case(plan: &Plan, extent: RunSize, rounds: u32) -> Result<Vec<Series>> {
    eprintln!("{}: {}", plan.name, plan.title);
    let mut case = (plan.start)(extent).await?;
    let contenders = case.contenders();
    let mut series: Vec<Series> =
        contenders.into_iter().map(|contender| Series { contender, samples: Vec::new() }).collect();
    let present: Vec<usize> =
        (0..series.len()).filter(|index| series[*index].contender.absent.is_none()).collect();
    for round in 0..=rounds.min(plan.rounds_max) {
        for turn in 0..present.len() {
            // Another one begins each round; the one for warming up keeps the order.
            let index = present[(turn + (round as usize).saturating_sub(1)) % present.len()];
            let sample = case.run(index, round).await?;
            let name = &series[index].contender.name;
            eprintln!("  round {round}: {name}: {:.4} {} {:?}", sample.value, plan.unit, sample.facts);
            if round > 0 {
                series[index].samples.push(sample);
            }
        }
    }
    Ok(series)
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[1.0, 4.0]), Some(2.5));
        assert_eq!(median(&[1.0, 4.0, 100.0]), Some(4.0));
    }
}
