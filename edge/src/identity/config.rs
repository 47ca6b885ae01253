//! `[identity]`: who this device is, and by whom it knows the pool.

use std::path::PathBuf;

use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Where `millgate-edge enroll` keeps key and certificate. Must survive restarts.
    pub dir: PathBuf,
    /// PEM files of authorities that a pool may be signed by, besides the one learned at enrolment: a company's own,
    /// or that of a proxy that opens TLS.
    pub ca: Vec<PathBuf>,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self { dir: PathBuf::from("/var/lib/millgate/identity"), ca: Vec::new() }
    }
}
