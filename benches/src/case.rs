//! What a case is: contenders that do the same work, one round after the other, and what is expected of their medians.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::future::LocalBoxFuture;

use crate::failure::Result;

/// How much work a case has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunSize {
    /// Shows in minutes that everything works; its numbers say little.
    Quick,
    Full,
}

impl RunSize {
    /// The amount for this extent.
    pub fn of(self, quick: u64, full: u64) -> u64 {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// What a contender is to the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContenderKind {
    Platform,
    /// Does only what bounds the platform.
    Yardstick,
    /// What else does the same work, or another way to use the platform.
    Peer,
}

impl ContenderKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Yardstick => "yardstick",
            Self::Peer => "peer",
        }
    }
}

/// One that is measured.
#[derive(Clone, Debug)]
pub struct Contender {
    pub kind: ContenderKind,
    pub name: String,
    /// Why it cannot take part on this machine.
    pub absent: Option<String>,
}

impl Contender {
    pub fn new(kind: ContenderKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into(), absent: None }
    }

    pub fn absent(kind: ContenderKind, name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { kind, name: name.into(), absent: Some(why.into()) }
    }
}

/// The result of one contender in one round.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// In the unit of the case.
    pub value: f64,
    /// Other numbers worth keeping, by name with unit.
    pub facts: BTreeMap<&'static str, f64>,
    /// The most memory that each process of the platform had resident, in KiB, by the process's name.
    pub memory_kib: BTreeMap<String, u64>,
}

impl Sample {
    pub fn of(value: f64) -> Self {
        Self { value, ..Self::default() }
    }

    pub fn with(mut self, fact: &'static str, value: f64) -> Self {
        self.facts.insert(fact, value);
        self
    }

    pub fn with_all(mut self, facts: Vec<(&'static str, f64)>) -> Self {
        self.facts.extend(facts);
        self
    }
}

/// What is expected, of the medians of all rounds.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// The platform has at least this many times the value of the contender at this position.
    AtLeast(f64, usize),
    /// The platform's value is at most so much above that of the contender at this position.
    AtMostAbove(f64, usize),
    /// The platform's value is at most this.
    AtMost(f64),
    /// No process of the platform ever has more resident, in KiB.
    MemoryKib(u64),
    /// A fact of the platform is at most this.
    FactAtMost(&'static str, f64),
}

/// Starts a case: its servers, the platform, its input.
pub type Start = fn(RunSize) -> LocalBoxFuture<'static, Result<Box<dyn BenchCase>>>;

/// A case before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub name: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    /// From when to when, and what each contender does in between.
    pub timed: &'static str,
    pub goals: &'static [Goal],
    /// Of so many rounds at most, where one takes minutes.
    pub rounds_max: u32,
    pub start: Start,
}

/// A case that runs: its servers are up and its input is there.
#[async_trait(?Send)]
pub trait BenchCase {
    /// Those that take part, in the order of the first round.
    fn contenders(&self) -> Vec<Contender>;

    /// Measures the contender at this position of [`BenchCase::contenders`]. Round 0 is for warming up, and comes first.
    ///
    /// # Errors
    ///
    /// What was to be measured did not happen, or not completely: there is no number for half of the work.
    async fn run(&mut self, contender: usize, round: u32) -> Result<Sample>;
}
