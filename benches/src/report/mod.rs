//! What a run has found: as a [`table`] for people, as [`mod@json`] for programs, as a [`plot`] for the documentation.

mod goal;
mod json;
mod plot;
mod table;

use std::path::Path;

use serde_json::Value;

use crate::case::{ContenderKind, Plan, RunSize};
use crate::failure::{BenchError, Result};
use crate::machine;
use crate::run::Series;

/// All results so far.
#[derive(Debug)]
pub struct BenchReport {
    extent: RunSize,
    rounds: u32,
    machine: Value,
    cases: Vec<Outcome>,
}

/// What became of a case.
#[derive(Debug)]
struct Outcome {
    plan: Plan,
    result: Result<Vec<Series>>,
}

impl BenchReport {
    pub fn begin(extent: RunSize, rounds: u32) -> Self {
        Self { extent, rounds, machine: machine::describe(), cases: Vec::new() }
    }

    pub fn add(&mut self, plan: &Plan, result: Result<Vec<Series>>) {
        if let Err(failure) = &result {
            eprintln!("  no result: {}", failure.error_chain());
        }
        self.cases.push(Outcome { plan: *plan, result });
    }

    /// Whether every case has a result.
    pub fn is_complete(&self) -> bool {
        self.cases.iter().all(|case| case.result.is_ok())
    }

    pub fn table(&self) -> String {
        table::table(self)
    }

    /// Writes `results.md`, `results.json` and `results.svg`.
    ///
    /// # Errors
    ///
    /// One of them cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory)
            .map_err(BenchError::of(format!("make {}", directory.display())))?;
        let json = format!("{:#}\n", json::json(self));
        for (name, text) in
            [("results.md", self.table()), ("results.json", json), ("results.svg", plot::svg(self))]
        {
            let path = directory.join(name);
            std::fs::write(&path, text).map_err(BenchError::of(format!("write {}", path.display())))?;
        }
        Ok(())
    }
}

/// The first present contender of a kind.
pub fn first(series: &[Series], kind: ContenderKind) -> Option<&Series> {
    series.iter().find(|series| series.contender.kind == kind && !series.samples.is_empty())
}

/// The median of a series as a multiple of the yardstick's.
pub fn ratio(all: &[Series], series: &Series) -> Option<f64> {
    Some(series.median()? / first(all, ContenderKind::Yardstick)?.median()?)
}
