//! `[admin]`.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

/// The screen, `/metrics`, `/healthz` and `/readyz` over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    pub enabled: bool,
    /// Shows the line at `/` to whoever has a browser on this machine; only where `listen` is loopback.
    pub screen: bool,
    pub listen: SocketAddr,
    /// Allows `listen` to be other than loopback.
    pub plaintext_beyond_loopback: bool,
    /// Names by which the port may be called besides `localhost` and the machine's own, and hosts whose pages may ask it
    /// from a browser; `*.example.com` is every name below it.
    pub allowed_hosts: Vec<String>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8012));
        Self {
            enabled: true,
            screen: true,
            listen,
            plaintext_beyond_loopback: false,
            allowed_hosts: Vec::new(),
        }
    }
}
