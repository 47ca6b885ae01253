//! `[tls]` and `[devices]`: encryption, the pool's own certificate, and those that it signs.

use std::path::PathBuf;

use serde::Deserialize;

/// `[tls]`: TLS 1.3 for gRPC and REST.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Absent: on for a listen address that other machines can reach, unless `plaintext_beyond_loopback` is true; off
    /// for a loopback address. Default absent.
    pub enabled: Option<bool>,
    /// PEM file of the pool's certificate, followed by those that lead to its authority. Absent: the pool's own
    /// authority, in `state_dir`, signs one. Default absent.
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key. Default absent.
    pub key: Option<PathBuf>,
    /// PEM files of authorities that may sign certificates of devices, besides the pool's own. Default none.
    pub client_ca: Vec<PathBuf>,
    /// Further names and addresses by which clients reach this pool, for the certificate that it signs itself.
    /// Default none.
    pub names: Vec<String>,
}

/// `[devices]`: certificates for devices.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DevicesConfig {
    /// Days that a device's certificate is good for; the agent renews it when two thirds are over. Default 90.
    pub certificate_days: u32,
    /// Days after its end in which a certificate can still be renewed, by whoever holds its key. Default 365.
    pub renewal_grace_days: u32,
}

impl Default for DevicesConfig {
    fn default() -> Self {
        Self { certificate_days: 90, renewal_grace_days: 365 }
    }
}

impl TlsConfig {
    /// What cannot be used: its key, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        let refuse = |key, message: &str| Err((key, message.to_owned()));
        match (&self.certificate, &self.key) {
            (Some(_), None) => return refuse("tls.key", "is missing, and `tls.certificate` is given"),
            (None, Some(_)) => return refuse("tls.certificate", "is missing, and `tls.key` is given"),
            _ => {}
        }
        for name in &self.names {
            let is_address = name.parse::<std::net::IpAddr>().is_ok();
            if !is_address && rustls::pki_types::DnsName::try_from(name.as_str()).is_err() {
                return refuse("tls.names", &format!("`{name}` is neither a host name nor an address"));
            }
        }
        Ok(())
    }
}

impl DevicesConfig {
    /// What cannot be used: its key, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        // A year that no calendar has would overflow dates.
        const MOST: u32 = 36_500;
        let refuse = |key, message: String| Err((key, message));
        if self.certificate_days == 0 || self.certificate_days > MOST {
            return refuse("devices.certificate_days", format!("must be from 1 to {MOST}"));
        }
        if self.renewal_grace_days > MOST {
            return refuse("devices.renewal_grace_days", format!("must be at most {MOST}"));
        }
        Ok(())
    }
}
