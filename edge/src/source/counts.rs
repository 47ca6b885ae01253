//! What sources count. Each has its handles by its name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Outcome;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSource {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceOutcome {
    source: String,
    outcome: String,
}

/// Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    files: Family<SourceOutcome, Counter>,
    waiting: Family<OfSource, Gauge>,
}

/// The handles of one source.
#[derive(Debug, Clone, Default)]
pub struct SourceMetrics {
    /// `source_files_total{source,outcome="done"}`: decided or found undecidable, and acknowledged.
    pub done: Counter,
    /// `…{outcome="same"}`: looked at again, and it is what was decided before.
    pub same: Counter,
    /// `…{outcome="incomplete"}`: was not whole and was put back.
    pub incomplete: Counter,
    /// `…{outcome="changed"}`: changed while it was read and was put back.
    pub changed: Counter,
    /// `…{outcome="unacknowledged"}`: decided, but a sink does not have it.
    pub unacknowledged: Counter,
    /// `source_waiting{source}`: files that settle or wait for room.
    pub waiting: Gauge,
}

impl SourceMetrics {
    /// Counts what became of one sample.
    pub(crate) fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Done | Outcome::Removed => &self.done,
            Outcome::Same => &self.same,
            Outcome::Incomplete => &self.incomplete,
            Outcome::Changed => &self.changed,
            Outcome::Unacknowledged => &self.unacknowledged,
        };
        counter.inc();
    }
}

impl Counts {
    /// Shows them on `/metrics`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("source_files", "Files of a source by what became of them", self.files.clone());
        registry.register("source_waiting", "Files that settle or wait for room", self.waiting.clone());
    }

    /// Gives the handles of one source.
    pub fn of(&self, name: &str) -> SourceMetrics {
        let outcome = |outcome: &str| {
            let labels = SourceOutcome { source: name.to_owned(), outcome: outcome.to_owned() };
            self.files.get_or_create(&labels).clone()
        };
        SourceMetrics {
            done: outcome("done"),
            same: outcome("same"),
            incomplete: outcome("incomplete"),
            changed: outcome("changed"),
            unacknowledged: outcome("unacknowledged"),
            waiting: self.waiting.get_or_create(&OfSource { source: name.to_owned() }).clone(),
        }
    }
}
