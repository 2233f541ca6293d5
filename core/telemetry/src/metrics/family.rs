//! Families of metrics whose labels are fixed, and the list of all of them.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

pub type NumberGauge = Gauge<i64, AtomicI64>;
pub type FloatGauge = Gauge<f64, AtomicU64>;
type FloatCounter = Counter<f64, AtomicU64>;

type Labels = Vec<(&'static str, String)>;
type Inner<M> = family::Family<Labels, M, fn() -> M>;

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A family as it is documented.
#[derive(Clone, Debug)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: Vec<&'static str>,
    pub help: &'static str,
}

/// A metric for each combination of the values of `N` labels.
#[derive(Debug)]
pub struct Family<M, const N: usize> {
    names: [&'static str; N],
    inner: Inner<M>,
}

impl<M: Clone, const N: usize> Family<M, N> {
    /// The metric with these values of the labels, in their order. It is shown from now on.
    pub fn with(&self, values: [&str; N]) -> M {
        self.inner.get_or_create_owned(&self.labels(values))
    }

    /// Shows the metric with these values no longer.
    pub fn remove(&self, values: [&str; N]) {
        self.inner.remove(&self.labels(values));
    }

    fn labels(&self, values: [&str; N]) -> Labels {
        self.names.into_iter().zip(values.map(str::to_owned)).collect()
    }
}

/// Registers families, and keeps the list of them.
#[derive(Debug, Default)]
pub(super) struct Registrar {
    registry: Registry,
    pub(super) definitions: Vec<Definition>,
}

impl Registrar {
    pub(super) fn encode(&self) -> String {
        let mut text = String::new();
        // A string accepts everything.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }

    pub(super) fn counter<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Family<Counter, N> {
        self.register(
            Definition { name, kind: Kind::Counter, labels: labels.to_vec(), help },
            labels,
            Counter::default,
        )
    }

    pub(super) fn float_counter<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Family<FloatCounter, N> {
        self.register(
            Definition { name, kind: Kind::Counter, labels: labels.to_vec(), help },
            labels,
            Counter::default,
        )
    }

    pub(super) fn number<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Family<NumberGauge, N> {
        self.register(
            Definition { name, kind: Kind::Gauge, labels: labels.to_vec(), help },
            labels,
            Gauge::default,
        )
    }

    pub(super) fn float<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Family<FloatGauge, N> {
        self.register(
            Definition { name, kind: Kind::Gauge, labels: labels.to_vec(), help },
            labels,
            Gauge::default,
        )
    }

    pub(super) fn histogram<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        help: &'static str,
        constructor: fn() -> Histogram,
    ) -> Family<Histogram, N> {
        self.register(
            Definition { name, kind: Kind::Histogram, labels: labels.to_vec(), help },
            labels,
            constructor,
        )
    }

    fn register<M, const N: usize>(
        &mut self,
        definition: Definition,
        names: [&'static str; N],
        constructor: fn() -> M,
    ) -> Family<M, N>
    where
        M: Clone,
        Inner<M>: Metric,
    {
        let inner = Inner::new_with_constructor(constructor);
        // The encoder appends it.
        let name = definition.name.strip_suffix("_total").unwrap_or(definition.name);
        self.registry.register(name, definition.help, inner.clone());
        self.definitions.push(definition);
        Family { names, inner }
    }
}
