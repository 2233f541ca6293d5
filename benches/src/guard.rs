//! Whether the platform is still anywhere near what bounds it: a few cheap cases with small inputs, for the tests.
//!
//! The floors are a fifth, or less, of what a debug build reached beside its yardstick: they tell a path that has become
//! quadratic, or waits for a clock, and nothing of a few percent.

use crate::case::{ContenderKind, Plan, RunSize};
use crate::cases;
use crate::failure::{BenchError, Result};
use crate::report;
use crate::run;

const ROUNDS: u32 = 2;

/// The cases, and the ratio to its yardstick that each must keep.
const FLOORS: [(&Plan, f64); 3] = [(&cases::CSV, 0.1), (&cases::STAGING, 0.01), (&cases::QOS_1, 0.1)];

/// Measures them, and prints the ratios.
///
/// # Errors
///
/// One is below its floor, or has no result.
pub async fn check() -> Result<()> {
    let mut below = Vec::new();
    for (plan, floor) in FLOORS {
        let series = run::case(plan, RunSize::Quick, ROUNDS).await?;
        let platform = report::first(&series, ContenderKind::Platform);
        let ratio = platform
            .and_then(|platform| report::ratio(&series, platform))
            .ok_or_else(|| BenchError::new(format!("{} has no ratio", plan.name)))?;
        let verdict = format!("{}: {ratio:.3} of its yardstick, expected at least {floor}", plan.name);
        println!("{verdict}");
        if ratio < floor {
            below.push(verdict);
        }
    }
    if below.is_empty() { Ok(()) } else { Err(BenchError::new(below.join("; "))) }
}
