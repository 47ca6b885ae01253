//! Connections and handshakes, as `/metrics` shows them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorLabels {
    door: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    door: &'static str,
    reason: &'static str,
}

/// Counters of all doors of a process.
#[derive(Debug, Default)]
pub struct Counts {
    connections: Family<DoorLabels, Gauge>,
    /// Connections that were closed for want of a place.
    refused: Family<ReasonLabels, Counter>,
    /// Requests that a browser made for another page.
    foreign: Family<ReasonLabels, Counter>,
    handshakes_failed: Counter,
}

impl Counts {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("connections", "Open connections", self.connections.clone());
        let help = "Connections that were closed for want of a place, by reason";
        registry.register("connections_refused", help, self.refused.clone());
        let help = "Requests that were refused for where they come from, by reason";
        registry.register("foreign_requests", help, self.foreign.clone());
        let help = "Handshakes of TLS and QUIC that came to nothing";
        registry.register("tls_handshakes_failed", help, self.handshakes_failed.clone());
    }

    pub(crate) fn connected(&self, door: &'static str) {
        self.connections.get_or_create(&DoorLabels { door }).inc();
    }

    pub(crate) fn disconnected(&self, door: &'static str) {
        self.connections.get_or_create(&DoorLabels { door }).dec();
    }

    pub(crate) fn refused(&self, door: &'static str, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { door, reason }).inc();
    }

    pub(crate) fn foreign(&self, door: &'static str, reason: &'static str) {
        self.foreign.get_or_create(&ReasonLabels { door, reason }).inc();
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }
}
