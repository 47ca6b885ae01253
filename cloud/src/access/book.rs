//! Who has which rights: tenants as configured, devices and tokens as their tables stand. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use millgate_shared::bundle::hex;
use millgate_shared::identity::{Certificate, DeviceName, Fingerprint};

use super::rights::{Refusal, Rights};
use super::tokens::Token;
use crate::config::{Loopback, TenantConfig};
use crate::identity::devices::Device;

/// How a caller is known.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    /// It came over plain text, and that is enough.
    Local,
    Device(Arc<Certificate>),
    /// By the hash of its token.
    Token(Fingerprint),
    /// It sent something in place of a token.
    Malformed,
    Nobody,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error(
        "no credentials: a device shows its certificate (`millgate-edge enroll`), a client sends an API token \
         (`authorization: Bearer mgt_…`, made by `millgate-cloud api-token create`)"
    )]
    Nobody,
    #[error(
        "`authorization` must be `Bearer` and an API token, which begins with `mgt_` and has 47 characters"
    )]
    Malformed,
    #[error("this API token is unknown here")]
    UnknownToken,
    #[error("API token `{name}` expired on {at}")]
    TokenExpired { name: String, at: Timestamp },
    #[error("API token `{0}` is revoked")]
    TokenRevoked(String),
    #[error("the certificate names no device (a URI urn:millgate:device:<tenant>:<device>)")]
    NoDevice,
    #[error("device {0} has enrolled again with another key since: this certificate does not count any more")]
    DeviceReplaced(DeviceName),
    #[error("device {0} is revoked")]
    DeviceRevoked(DeviceName),
    #[error("{who}: tenant `{tenant}` is not among this pool's `[[tenants]]`")]
    Tenant { who: String, tenant: String },
    #[error("{0}")]
    Refused(Refusal),
}

impl Denial {
    /// Who it is, is the question; otherwise what it may.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        match self {
            Self::Nobody | Self::Malformed | Self::UnknownToken | Self::NoDevice => true,
            Self::TokenExpired { .. } | Self::TokenRevoked(_) | Self::DeviceReplaced(_) => true,
            Self::DeviceRevoked(_) | Self::Tenant { .. } | Self::Refused(_) => false,
        }
    }

    /// For metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Nobody => "no_credentials",
            Self::Malformed => "malformed",
            Self::UnknownToken => "unknown_token",
            Self::TokenExpired { .. } => "token_expired",
            Self::TokenRevoked(_) => "token_revoked",
            Self::NoDevice => "no_device",
            Self::DeviceReplaced(_) => "device_replaced",
            Self::DeviceRevoked(_) => "device_revoked",
            Self::Tenant { .. } => "tenant",
            Self::Refused(refusal) => refusal.reason(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    local: Option<Arc<Rights>>,
    tenants: Vec<TenantConfig>,
    devices: HashMap<DeviceName, Device>,
    /// By hash, hexadecimal.
    tokens: HashMap<String, Token>,
}

impl Book {
    pub(crate) fn new(
        loopback: Loopback,
        tenants: Vec<TenantConfig>,
        devices: Vec<Device>,
        tokens: Vec<Token>,
    ) -> Self {
        let named = |device: Device| Some((DeviceName::new(&device.tenant, &device.device).ok()?, device));
        Self {
            local: (loopback == Loopback::Full).then(|| Arc::new(Rights::full("this machine"))),
            tenants,
            devices: devices.into_iter().filter_map(named).collect(),
            tokens: tokens.into_iter().map(|token| (token.hash.clone(), token)).collect(),
        }
    }

    pub(crate) fn rights(&self, who: &Who, now: Timestamp) -> Result<Arc<Rights>, Denial> {
        match who {
            Who::Local => self.local.clone().ok_or(Denial::Nobody),
            Who::Nobody => Err(Denial::Nobody),
            Who::Malformed => Err(Denial::Malformed),
            Who::Token(hash) => self.of_token(hash, now).map(Arc::new),
            Who::Device(certificate) => self.of_device(certificate).map(Arc::new),
        }
    }

    fn of_token(&self, hash: &Fingerprint, now: Timestamp) -> Result<Rights, Denial> {
        let token = self.tokens.get(&hex(hash)).ok_or(Denial::UnknownToken)?;
        if token.revoked.is_some() {
            return Err(Denial::TokenRevoked(token.name.clone()));
        }
        if let Some(at) = token.expires.filter(|expires| *expires <= now) {
            return Err(Denial::TokenExpired { name: token.name.clone(), at });
        }
        let rights = Rights::unbounded(format!("API token `{}`", token.name)).with_admin(token.admin);
        let mut rights = self.within_tenant(&token.tenant, rights)?.0;
        rights.narrow(token.tasks.as_deref(), token.models.as_deref());
        Ok(rights)
    }

    fn of_device(&self, certificate: &Certificate) -> Result<Rights, Denial> {
        let name = certificate.device.as_ref().ok_or(Denial::NoDevice)?;
        if let Some(device) = self.devices.get(name) {
            if device.revoked.is_some() {
                return Err(Denial::DeviceRevoked(name.clone()));
            }
            if device.key != hex(&certificate.key) {
                return Err(Denial::DeviceReplaced(name.clone()));
            }
        }
        let (rights, tenant) =
            self.within_tenant(name.tenant(), Rights::unbounded(format!("device {name}")))?;
        let bounds = tenant.and_then(|tenant| tenant.devices.iter().find(|it| it.name == name.device()));
        Ok(match bounds {
            Some(bounds) => rights.within_device(bounds),
            None => rights,
        })
    }

    fn within_tenant(&self, tenant: &str, rights: Rights) -> Result<(Rights, Option<&TenantConfig>), Denial> {
        if self.tenants.is_empty() {
            return Ok((rights, None));
        }
        match self.tenants.iter().find(|it| it.name == tenant) {
            Some(found) => Ok((rights.within_tenant(found), Some(found))),
            None => Err(Denial::Tenant { who: rights.who().to_owned(), tenant: tenant.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests;
