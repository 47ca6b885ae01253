//! Where connections come in: accepted, bounded in number, handed to gRPC or HTTP/1.1 with who is at the other end.
//!
//! * [`incoming`]: TCP, with or without TLS. [`quic`]: UDP. [`http1`]: what REST makes of an accepted connection.
//! * [`seats`]: how many there may be, and who leaves for a new one. [`peer`]: who is at the other end.
//! * [`counts`]: what an operator sees of it.

use std::time::Duration;

pub(crate) mod config;
pub(crate) mod counts;
pub(crate) mod http1;
pub(crate) mod incoming;
pub(crate) mod peer;
pub(crate) mod quic;
pub(crate) mod seats;

/// How long a TLS or QUIC handshake may take, from a connection's first byte or packet.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
