//! What became of spans, as `/metrics` shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// What became of spans that ended.
#[derive(Debug, Default)]
pub(crate) struct SpanCounts {
    /// Spans that the collector has.
    pub(super) exported: AtomicU64,
    /// Spans that the collector refused, or that did not reach it.
    pub(super) failed: AtomicU64,
    /// Spans that were dropped because the most that may wait did.
    pub(super) dropped: AtomicU64,
}

impl SpanCounts {
    pub(crate) fn register(self: &Arc<Self>, registry: &mut Registry) {
        registry.register_collector(Box::new(Spans(Arc::clone(self))));
    }
}

/// Shows the counts as metrics.
#[derive(Debug)]
struct Spans(Arc<SpanCounts>);

impl Collector for Spans {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let help = "Spans of traces, by whether the collector has them";
        let mut family = encoder.encode_descriptor("trace_spans", help, None, MetricType::Counter)?;
        let counts =
            [("exported", &self.0.exported), ("failed", &self.0.failed), ("dropped", &self.0.dropped)];
        for (result, count) in counts {
            let (labels, count) = ([("result", result)], count.load(Ordering::Relaxed));
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
        Ok(())
    }
}
