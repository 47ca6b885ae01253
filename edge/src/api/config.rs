//! `[api]`.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

/// The agent's own gRPC, `millgate.v1.InferenceService`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    pub enabled: bool,
    pub listen: SocketAddr,
    /// Allows `listen` to be other than loopback, where anyone on the network may call it and read along.
    pub plaintext_beyond_loopback: bool,
    /// Whether decisions on calls go to the sinks too. The caller has its answer and does not wait for a sink: while sinks
    /// stand still and too many records wait for them, a record is left out there, and counted.
    pub record: bool,
}

impl Default for ApiConfig {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8011));
        Self { enabled: true, listen, plaintext_beyond_loopback: false, record: true }
    }
}
