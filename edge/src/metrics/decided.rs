//! Counts decisions by what they say. The series are bounded: sources and labels come from callers and bundles, and whatever comes
//! after the bound is counted under `other`.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use millgate_shared::bundle::manifest::product_of;
use millgate_shared::decision::{Decision, State, UNKNOWN};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// Series at most, but for those of `other`.
const MOST_SERIES: usize = 1024;
/// Sources at most that are told apart, and the longest name of one: a caller of gRPC names its own.
const MOST_SOURCES: usize = 64;
const LONGEST_SOURCE: usize = 64;
const OTHER: &str = "other";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Decided {
    /// The source's name; empty where the sample has none.
    source: String,
    /// That of the verdict, or the one that an unknown sample was compared with.
    product: String,
    /// The verdict's.
    label: String,
    /// accept, reject, review, or `none` without a recipe.
    disposition: String,
    /// final, provisional or amended.
    state: String,
    /// The reason, or `no`.
    degraded: String,
    /// Whether an expert of the pool took part: cloud or edge.
    place: String,
}

/// Counts of decisions.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    pub(super) family: Family<Decided, Counter>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    sources: HashSet<String>,
    series: HashSet<Decided>,
}

impl Decisions {
    /// Makes room for a source that the configuration names, before callers name others.
    pub(super) fn expect(&self, source: &str) {
        self.known().sources.insert(source.to_owned());
    }

    pub(super) fn count(&self, decision: &Decision) {
        let series = self.known().bounded(of(decision));
        self.family.get_or_create(&series).inc();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn bounded(&mut self, mut series: Decided) -> Decided {
        if !self.sources.contains(&series.source) {
            if self.sources.len() < MOST_SOURCES && series.source.len() <= LONGEST_SOURCE {
                self.sources.insert(series.source.clone());
            } else {
                OTHER.clone_into(&mut series.source);
            }
        }
        if self.series.contains(&series) {
            return series;
        }
        if self.series.len() < MOST_SERIES {
            self.series.insert(series.clone());
            return series;
        }
        let other = || OTHER.to_owned();
        Decided { source: other(), product: other(), label: other(), ..series }
    }
}

fn of(decision: &Decision) -> Decided {
    let state = match decision.state {
        State::Final => "final",
        State::Provisional => "provisional",
        State::Amended => "amended",
    };
    let is_cloud = decision.experts.iter().any(|expert| expert.weight > 0.0 && expert.place != "edge");
    Decided {
        source: decision.sample.source.clone().unwrap_or_default(),
        product: product(decision).to_owned(),
        label: decision.verdict.label.clone(),
        disposition: decision.disposition.map_or("none", |disposition| disposition.as_str()).to_owned(),
        state: state.to_owned(),
        degraded: decision.degraded.as_ref().map_or("no", |degraded| degraded.reason.as_str()).to_owned(),
        place: if is_cloud { "cloud" } else { "edge" }.to_owned(),
    }
}

/// An unknown sample belongs to the product that it was compared with, or that it looks most like.
fn product(decision: &Decision) -> &str {
    let label = &decision.verdict.label;
    if label != UNKNOWN {
        return product_of(label);
    }
    let likeliest = || decision.probabilities.iter().max_by(|a, b| a.1.total_cmp(b.1));
    match &decision.novelty {
        Some(novelty) => &novelty.product,
        None => likeliest().map_or(OTHER, |(label, _)| product_of(label)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(source: &str, label: &str) -> Decided {
        Decided {
            source: source.to_owned(),
            product: product_of(label).to_owned(),
            label: label.to_owned(),
            disposition: "accept".to_owned(),
            state: "final".to_owned(),
            degraded: "no".to_owned(),
            place: "edge".to_owned(),
        }
    }

    #[test]
    fn callers_cannot_make_series_without_end() {
        let decisions = Decisions::default();
        decisions.expect("cam1");
        for number in 0..10 * MOST_SOURCES {
            let bounded = decisions.known().bounded(series(&format!("made up {number}"), "a/good"));
            assert_eq!(bounded.source == OTHER, number >= MOST_SOURCES - 1);
        }
        assert_eq!(decisions.known().bounded(series("cam1", "a/good")), series("cam1", "a/good"));
        assert_eq!(decisions.known().bounded(series(&"x".repeat(1 << 20), "a/good")).source, OTHER);
    }

    #[test]
    fn labels_after_the_bound_are_counted_together() {
        let mut known = Known::default();
        for number in 0..MOST_SERIES {
            let one = series("cam1", &format!("p/{number}"));
            assert_eq!(known.bounded(one.clone()), one);
        }
        let late = known.bounded(series("cam1", "p/late"));
        assert_eq!((&*late.source, &*late.product, &*late.label), (OTHER, OTHER, OTHER));
        assert_eq!(late.disposition, "accept");
        assert_eq!(known.bounded(series("cam1", "p/0")), series("cam1", "p/0"), "a known one goes on");
    }
}
