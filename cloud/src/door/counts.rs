//! Connections and handshakes, as `/metrics` shows them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The door's counters; all doors of a pool share them.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Open connections, gRPC and REST.
    connections: Gauge,
    /// Connections closed because there were too many.
    refused: Counter,
    /// Handshakes that came to nothing.
    handshakes_failed: Counter,
}

impl Counts {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("connections", "Open connections, gRPC and REST", self.connections.clone());
        registry.register("connections_refused", "Connections over the limit", self.refused.clone());
        registry.register(
            "tls_handshakes_failed",
            "TLS handshakes that came to nothing",
            self.handshakes_failed.clone(),
        );
    }

    pub(super) fn connected(&self) {
        self.connections.inc();
    }

    pub(super) fn disconnected(&self) {
        self.connections.dec();
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    pub(super) fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }
}
