//! What the outbox counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// `outbox_records`: decided, and not yet with every sink.
    pub(super) records: Gauge,
    /// `outbox_redelivered_total`: delivered again after a start.
    pub(super) redelivered: Counter,
    /// `outbox_recognised_total`: samples that came again and were found decided by a file of a sink, not by the journal.
    pub(super) recognised: Counter,
    /// `outbox_bypassed_total`: records of gRPC decisions that were only offered to the sinks, because too many waited.
    pub(super) bypassed: Counter,
}

impl Counts {
    /// Shows them on `/metrics`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let outbox = registry.sub_registry_with_prefix("outbox");
        outbox.register("records", "Decided and not yet with every sink", self.records.clone());
        outbox.register("redelivered", "Delivered again after a start", self.redelivered.clone());
        let text = "Came again, and found decided by a file of a sink";
        outbox.register("recognised", text, self.recognised.clone());
        outbox.register("bypassed", "Only offered to the sinks: too many waited", self.bypassed.clone());
    }
}
