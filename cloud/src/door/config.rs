//! `[quic]`: whether gRPC is offered over QUIC.

use serde::Deserialize;

/// `[quic]`: gRPC over QUIC besides TCP, on UDP at the address of `grpc`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuicConfig {
    /// True: QUIC is offered where `grpc` has TLS, without which there is no QUIC. Default true.
    pub enabled: bool,
}

impl Default for QuicConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}
