//! Who has which rights: tenants as configured, devices and tokens as their tables stand. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use millgate_shared::identity::certificate::fingerprint;
use millgate_shared::identity::{Certificate, DeviceName, Fingerprint};

use super::config::{Loopback, TenantConfig};
use super::rights::{Refusal, Rights};
use super::tokens::Token;
use crate::identity::devices::Device;
use crate::principal::{Principal, Standing};

/// How a caller is known.
#[derive(Debug, Clone)]
pub(crate) enum Who {
    /// A caller over plain text from this machine, which is enough.
    Local,
    /// A caller over plain text from another machine.
    Plain,
    Device(Arc<Certificate>),
    /// A caller with an API token, by the token's hash.
    Token(Fingerprint),
    /// A caller that sent something else in place of a token.
    Malformed,
    Nobody,
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
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
    #[error("the certificate of device {device} ended on {at}: a new connection takes the renewed one")]
    CertificateEnded { device: DeviceName, at: Timestamp },
    #[error("device {0} calls from another network at the same time, where it has been for longer")]
    Cloned(DeviceName),
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
            Self::CertificateEnded { .. } => true,
            Self::Cloned(_) => false,
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
            Self::CertificateEnded { .. } => "certificate_ended",
            Self::Cloned(_) => "cloned",
            Self::Tenant { .. } => "tenant",
            Self::Refused(refusal) => refusal.reason(),
        }
    }
}

/// What each may ask for is worked out when the tables are read, and not for each call.
#[derive(Debug, Default)]
pub(crate) struct Book {
    local: Option<Arc<Rights>>,
    plain: Option<Arc<Rights>>,
    tenants: Vec<TenantConfig>,
    devices: HashMap<DeviceName, KnownDevice>,
    /// By hash.
    tokens: HashMap<Fingerprint, KnownToken>,
}

/// A refusal where its tenant is not among the configured ones.
type Granted = Result<Arc<Rights>, Denial>;

#[derive(Debug)]
struct KnownDevice {
    /// `None`: any.
    key: Option<Fingerprint>,
    is_revoked: bool,
    rights: Granted,
}

#[derive(Debug)]
struct KnownToken {
    name: String,
    expires: Option<Timestamp>,
    is_revoked: bool,
    rights: Granted,
}

impl Book {
    pub(crate) fn new(
        loopback: Loopback,
        tenants: Vec<TenantConfig>,
        devices: Vec<Device>,
        tokens: Vec<Token>,
    ) -> Self {
        let trusted = |rights: Rights| (loopback == Loopback::Full).then(|| Arc::new(rights));
        let device = |row: Device| {
            let name = DeviceName::new(&row.tenant, &row.device).ok()?;
            // A key that cannot be read is nobody's.
            let key = row.key.map(|key| fingerprint(&key).unwrap_or_default());
            let rights = of_device(&tenants, &name).map(Arc::new);
            Some((name, KnownDevice { key, is_revoked: row.revoked.is_some(), rights }))
        };
        let token = |row: Token| {
            let (hash, rights) = (fingerprint(&row.hash)?, of_token(&tenants, &row).map(Arc::new));
            let Token { name, expires, revoked, .. } = row;
            Some((hash, KnownToken { name, expires, is_revoked: revoked.is_some(), rights }))
        };
        Self {
            local: trusted(Rights::full("this machine").with_standing(Standing::local())),
            plain: trusted(Rights::unbounded("whoever comes over plain text from another machine")),
            devices: devices.into_iter().filter_map(device).collect(),
            tokens: tokens.into_iter().filter_map(token).collect(),
            tenants,
        }
    }

    pub(crate) fn rights(&self, who: &Who, now: Timestamp) -> Granted {
        match who {
            Who::Local => self.local.clone().ok_or(Denial::Nobody),
            Who::Plain => self.plain.clone().ok_or(Denial::Nobody),
            Who::Nobody => Err(Denial::Nobody),
            Who::Malformed => Err(Denial::Malformed),
            Who::Token(hash) => self.by_token(hash, now),
            Who::Device(certificate) => self.by_certificate(certificate, now),
        }
    }

    fn by_token(&self, hash: &Fingerprint, now: Timestamp) -> Granted {
        let token = self.tokens.get(hash).ok_or(Denial::UnknownToken)?;
        if token.is_revoked {
            return Err(Denial::TokenRevoked(token.name.clone()));
        }
        if let Some(at) = token.expires.filter(|expires| *expires <= now) {
            return Err(Denial::TokenExpired { name: token.name.clone(), at });
        }
        token.rights.clone()
    }

    fn by_certificate(&self, certificate: &Certificate, now: Timestamp) -> Granted {
        let name = certificate.device.as_ref().ok_or(Denial::NoDevice)?;
        let known = self.devices.get(name);
        if known.is_some_and(|device| device.is_revoked) {
            return Err(Denial::DeviceRevoked(name.clone()));
        }
        if known.and_then(|device| device.key).is_some_and(|key| key != certificate.key) {
            return Err(Denial::DeviceReplaced(name.clone()));
        }
        // The handshake has looked at it too, and connections outlive certificates.
        let end = Timestamp::try_from(certificate.not_after).unwrap_or(Timestamp::MAX);
        if end < now {
            return Err(Denial::CertificateEnded { device: name.clone(), at: end });
        }
        match known {
            Some(device) => device.rights.clone(),
            None => of_device(&self.tenants, name).map(Arc::new),
        }
    }
}

fn of_token(tenants: &[TenantConfig], token: &Token) -> Result<Rights, Denial> {
    let rights = Rights::unbounded(format!("API token `{}`", token.name)).with_admin(token.admin);
    let (mut rights, tenant) = within_tenant(tenants, &token.tenant, rights)?;
    rights.narrow(token.tasks.as_deref(), token.models.as_deref());
    let principal = Principal::token(&token.tenant, &token.name);
    Ok(rights.with_standing(standing(principal, tenant, token.priority)))
}

fn of_device(tenants: &[TenantConfig], name: &DeviceName) -> Result<Rights, Denial> {
    let rights = Rights::unbounded(format!("device {name}"));
    let (rights, tenant) = within_tenant(tenants, name.tenant(), rights)?;
    let bounds = tenant.and_then(|tenant| tenant.devices.iter().find(|it| it.name == name.device()));
    let principal = Principal::device(name.tenant(), name.device());
    let rights = rights.with_standing(standing(principal, tenant, bounds.and_then(|bounds| bounds.priority)));
    Ok(match bounds {
        Some(bounds) => rights.within_device(bounds),
        None => rights,
    })
}

/// `priority` is its own right, where it has one.
fn standing(principal: Principal, tenant: Option<&TenantConfig>, priority: Option<u8>) -> Standing {
    let usual = Standing::usual(principal);
    let share = tenant.map_or(usual.share, |tenant| tenant.share);
    let priority = priority.or_else(|| tenant.map(|tenant| tenant.priority)).unwrap_or(usual.priority);
    Standing { share, priority, ..usual }
}

fn within_tenant<'a>(
    tenants: &'a [TenantConfig],
    tenant: &str,
    rights: Rights,
) -> Result<(Rights, Option<&'a TenantConfig>), Denial> {
    if tenants.is_empty() {
        return Ok((rights, None));
    }
    match tenants.iter().find(|it| it.name == tenant) {
        Some(found) => Ok((rights.within_tenant(found), Some(found))),
        None => Err(Denial::Tenant { who: rights.who().to_owned(), tenant: tenant.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
