//! What sources count. Each has its handles by its name.

use millgate_shared::trouble::Trouble;
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceTrouble {
    source: String,
    trouble: String,
}

/// Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    files: Family<SourceOutcome, Counter>,
    waiting: Family<OfSource, Gauge>,
    delayed: Family<OfSource, Gauge>,
    troubles: Family<SourceTrouble, Counter>,
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
    /// `…{outcome="delayed"}`: the machine did not let it be read, and it was put back.
    pub delayed: Counter,
    /// `…{outcome="unacknowledged"}`: decided, but a sink does not have it.
    pub unacknowledged: Counter,
    /// `source_waiting{source}`: files that settle or wait for room.
    pub waiting: Gauge,
    /// `source_delayed{source}`: files among those waiting that the machine did not let be read when it was last tried.
    pub held: Gauge,
    troubles: Vec<(Trouble, Counter)>,
}

impl SourceMetrics {
    /// Counts what became of one sample.
    pub(crate) fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Done | Outcome::Removed => &self.done,
            Outcome::Same => &self.same,
            Outcome::Incomplete => &self.incomplete,
            Outcome::Changed => &self.changed,
            Outcome::Delayed(_) => &self.delayed,
            Outcome::Unacknowledged => &self.unacknowledged,
        };
        counter.inc();
    }

    /// Counts trouble of the machine that kept a file from being looked at or read, or a folder from being listed.
    pub(crate) fn trouble(&self, of: Trouble) {
        if let Some((_, counter)) = self.troubles.iter().find(|(trouble, _)| *trouble == of) {
            counter.inc();
        }
    }
}

impl Counts {
    /// Shows them on `/metrics`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("source_files", "Files of a source by what became of them", self.files.clone());
        registry.register("source_waiting", "Files that settle or wait for room", self.waiting.clone());
        let help = "Files that wait because the machine did not let them be read";
        registry.register("source_delayed", help, self.delayed.clone());
        let help = "How often the machine did not let a file be read or a folder be listed, by what it was in trouble with";
        registry.register("source_troubles", help, self.troubles.clone());
    }

    /// Gives the handles of one source.
    pub fn of(&self, name: &str) -> SourceMetrics {
        let outcome = |outcome: &str| {
            let labels = SourceOutcome { source: name.to_owned(), outcome: outcome.to_owned() };
            self.files.get_or_create(&labels).clone()
        };
        let trouble = |trouble: Trouble| {
            let labels = SourceTrouble { source: name.to_owned(), trouble: trouble.name().to_owned() };
            (trouble, self.troubles.get_or_create(&labels).clone())
        };
        let of_source = OfSource { source: name.to_owned() };
        SourceMetrics {
            done: outcome("done"),
            same: outcome("same"),
            incomplete: outcome("incomplete"),
            changed: outcome("changed"),
            delayed: outcome("delayed"),
            unacknowledged: outcome("unacknowledged"),
            waiting: self.waiting.get_or_create(&of_source).clone(),
            held: self.delayed.get_or_create(&of_source).clone(),
            troubles: Trouble::ALL.map(trouble).to_vec(),
        }
    }
}
