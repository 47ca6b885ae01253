//! What is held, as `/metrics` shows it.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Bytes that may be held.
    limit: Gauge,
    /// Bytes that are held.
    held: Gauge,
    /// Most bytes that were ever held.
    peak: Gauge,
    /// Callers that hold anything.
    callers: Gauge,
    /// Messages and calls that were turned away, by the reason.
    refused: Family<ReasonLabels, Counter>,
    /// Messages that took too long to arrive, and answers that nobody read.
    late: Family<ReasonLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

impl Counts {
    pub(super) fn new(limit: u64) -> Self {
        let counts = Self::default();
        counts.limit.set(limit.try_into().unwrap_or(i64::MAX));
        counts
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("held_bytes_limit", "Memory that messages may take", self.limit.clone());
        registry.register("held_bytes", "Memory that messages take", self.held.clone());
        registry.register(
            "held_bytes_peak",
            "Most memory that messages took since the start",
            self.peak.clone(),
        );
        registry.register("held_callers", "Callers whose messages take memory", self.callers.clone());
        registry.register("held_refused", "Messages and calls without room, by reason", self.refused.clone());
        registry.register(
            "held_late",
            "Messages that came too slowly and answers that nobody read",
            self.late.clone(),
        );
    }

    pub(super) fn hold(&self, bytes: u64, callers: usize) {
        let bytes = bytes.try_into().unwrap_or(i64::MAX);
        self.held.set(bytes);
        if self.peak.get() < bytes {
            self.peak.set(bytes);
        }
        self.callers.set(callers.try_into().unwrap_or(i64::MAX));
    }

    /// Most bytes that were ever held.
    #[cfg(test)]
    pub(super) fn peak(&self) -> i64 {
        self.peak.get()
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(super) fn late(&self, reason: &'static str) {
        self.late.get_or_create(&ReasonLabels { reason }).inc();
    }
}
