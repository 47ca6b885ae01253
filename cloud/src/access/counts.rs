//! Calls that were refused, as `/metrics` shows them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Calls of those who may not, by what they lack.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    refused: Family<ReasonLabels, Counter>,
    /// Devices that call from two networks by turns.
    cloned: Gauge,
}

impl Counts {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Calls without the right to be made, by reason";
        registry.register("calls_refused", help, self.refused.clone());
        let help = "Devices that call from two networks by turns: somebody else has their keys";
        registry.register("devices_cloned", help, self.cloned.clone());
    }

    pub(super) fn cloned(&self, devices: usize) {
        self.cloned.set(devices.try_into().unwrap_or(i64::MAX));
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }
}
