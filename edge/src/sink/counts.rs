//! What sinks count. Each has its handles by its name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSink {
    sink: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkOutcome {
    sink: String,
    outcome: String,
}

/// Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    records: Family<SinkOutcome, Counter>,
    retries: Family<OfSink, Counter>,
    queued: Family<OfSink, Gauge>,
}

/// The handles of one sink.
#[derive(Debug, Clone, Default)]
pub struct SinkMetrics {
    /// `sink_records_total{sink,outcome="delivered"}`: written, or accepted by the receiver.
    pub delivered: Counter,
    /// `…{outcome="dropped"}`: left out because the queue was full.
    pub dropped: Counter,
    /// `…{outcome="refused"}`: the receiver will never take it.
    pub refused: Counter,
    /// `…{outcome="given_up"}`: all retries failed.
    pub given_up: Counter,
    /// `…{outcome="abandoned"}`: still not delivered at the end of a drain.
    pub abandoned: Counter,
    /// `sink_retries_total{sink}`: attempts after a failed one.
    pub retries: Counter,
    /// `sink_queued{sink}`: records that wait.
    pub queued: Gauge,
}

impl Counts {
    /// Shows them on `/metrics`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("sink_records", "Records of a sink by what became of them", self.records.clone());
        registry.register("sink_retries", "Attempts after a failed one", self.retries.clone());
        registry.register("sink_queued", "Records that wait", self.queued.clone());
    }

    /// Gives the handles of one sink.
    pub fn of(&self, name: &str) -> SinkMetrics {
        let of = OfSink { sink: name.to_owned() };
        let outcome = |outcome: &str| {
            let labels = SinkOutcome { sink: name.to_owned(), outcome: outcome.to_owned() };
            self.records.get_or_create(&labels).clone()
        };
        SinkMetrics {
            delivered: outcome("delivered"),
            dropped: outcome("dropped"),
            refused: outcome("refused"),
            given_up: outcome("given_up"),
            abandoned: outcome("abandoned"),
            retries: self.retries.get_or_create(&of).clone(),
            queued: self.queued.get_or_create(&of).clone(),
        }
    }
}
