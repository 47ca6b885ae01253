//! How a claim token becomes a device's certificate, and how that is renewed. Blocks: it reads and writes files.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use millgate_shared::digest::hex;
use millgate_shared::identity::name::NameError;
use millgate_shared::identity::secret::{Claim, ClaimError};
use millgate_shared::identity::{Certificate, DeviceName, Floor, Roots};
use rustls::pki_types::CertificateDer;

use super::authority::{Authority, RequestError};
use super::config::DevicesConfig;
use super::devices::{self, Device};
use super::{StateDir, StateError, claims};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error("the token {0}")]
    NoToken(#[from] ClaimError),
    #[error("the token was made by another pool")]
    WrongPool,
    #[error("the token is unknown here: was it made for this pool, with its `state_dir`?")]
    Unknown,
    #[error("the token expired on {0}: make a new one with `millgate-cloud enroll-token`")]
    Expired(Timestamp),
    #[error("the token has been used: make a new one with `millgate-cloud enroll-token`")]
    Used,
    #[error("`device`: {0}")]
    Name(#[from] NameError),
    #[error("`device`: the token is for device `{0}` only")]
    OtherDevice(String),
    #[error("`device`: is missing, and the token is not made for one device")]
    NoDevice,
    #[error("`certificate_request`: {0}")]
    Request(rcgen::Error),
    #[error("`certificate_request`: is not made with the key of `certificate`")]
    OtherKey,
    #[error(
        "device {0} is enrolled already; to replace it, make a token for it: \
         `millgate-cloud enroll-token --tenant {tenant} --device {device}`",
        tenant = .0.tenant(), device = .0.device()
    )]
    Taken(DeviceName),
    #[error(
        "device {0} is revoked; to let it in with a new key, make a token for it: `millgate-cloud enroll-token \
         --tenant {tenant} --device {device}`; its old key comes back with `millgate-cloud devices restore {0}`",
        tenant = .0.tenant(), device = .0.device()
    )]
    Revoked(DeviceName),
    #[error("device {0} has enrolled again with another key since: this certificate is not renewed")]
    Replaced(DeviceName),
    #[error("`certificate`: is not a device's certificate of this pool's authority")]
    Foreign,
    #[error(
        "`certificate`: ended on {ended}, longer ago than the {days} days of grace: enrol the device again"
    )]
    TooLate { ended: Timestamp, days: u32 },
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<RequestError> for EnrolError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Request(error) => Self::Request(error),
            RequestError::State(error) => Self::State(error),
        }
    }
}

/// A certificate, and what it is for.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) name: DeviceName,
    pub(crate) certificate: CertificateDer<'static>,
}

/// Signs certificates for devices.
#[derive(Debug)]
pub(crate) struct Enrolment {
    state: StateDir,
    authority: Arc<Authority>,
    /// The authority alone.
    roots: Arc<Roots>,
    /// What the pool's own certificate is trusted by: claim tokens name it. It may be exchanged with the certificate.
    anchors: RwLock<Vec<CertificateDer<'static>>>,
    life: Duration,
    grace_days: u32,
    clock: Arc<Floor>,
}

impl Enrolment {
    pub(super) fn new(
        state: StateDir,
        authority: Arc<Authority>,
        config: &DevicesConfig,
        clock: Arc<Floor>,
    ) -> Result<Self, StateError> {
        let roots = Roots::new(vec![authority.certificate().clone()], Arc::clone(&clock));
        let roots = roots.map_err(|source| StateError::Roots { path: state.file("ca.pem"), source })?;
        let life = Duration::from_secs(u64::from(config.certificate_days) * 24 * 3600);
        let (anchors, grace_days) = (RwLock::default(), config.renewal_grace_days);
        Ok(Self { state, authority, roots, anchors, life, grace_days, clock })
    }

    pub(crate) fn authority(&self) -> &CertificateDer<'static> {
        self.authority.certificate()
    }

    pub(crate) fn anchors(&self) -> Vec<CertificateDer<'static>> {
        self.anchors.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_anchors(&self, anchors: Vec<CertificateDer<'static>>) {
        *self.anchors.write().unwrap_or_else(PoisonError::into_inner) = anchors;
    }

    /// `device` may be empty if the token says which one it is for.
    pub(crate) fn enrol(&self, token: &str, device: &str, request: &[u8]) -> Result<Issued, EnrolError> {
        let claim: Claim = token.parse()?;
        let named = |anchor: &CertificateDer<'_>| {
            millgate_shared::identity::certificate::digest(anchor) == claim.authority
        };
        if !self.anchors().iter().any(named) {
            return Err(EnrolError::WrongPool);
        }
        let (now, hash) = (self.clock.now(), hex(&claim.secret.hash()));
        let at = timestamp(now);
        // Whoever guesses gets no lock, for which others wait.
        good_claim(&mut self.state.rows(claims::TABLE)?, &hash, at)?;
        let locked = self.state.lock()?;
        let mut claims: Vec<claims::Row> = self.state.rows(claims::TABLE)?;
        let row = good_claim(&mut claims, &hash, at)?;
        let device = match &row.device {
            Some(only) if device.is_empty() || device == only => only.as_str(),
            Some(only) => return Err(EnrolError::OtherDevice(only.clone())),
            None if device.is_empty() => return Err(EnrolError::NoDevice),
            None => device,
        };
        let name = DeviceName::new(&row.tenant, device)?;
        let (certificate, read) = self.sign(&name, request, now)?;
        let key = hex(&read.key);
        let mut known: Vec<Device> = self.state.rows(devices::TABLE)?;
        let old = known.iter().find(|device| device.is(&name));
        let is_same_key = old.is_some_and(|old| old.key.as_ref() == Some(&key));
        let revoked = old.and_then(|old| old.revoked);
        if let Some(revoked) = revoked {
            // Whoever made the token knew of it, and the old key is not what comes back.
            let lifts = row.device.is_some() && row.created > revoked && !is_same_key;
            if !lifts {
                return Err(EnrolError::Revoked(name));
            }
        } else if old.is_some() && row.device.is_none() && !is_same_key {
            return Err(EnrolError::Taken(name));
        }
        // The answer was lost: it is no further use. Another name, or a key that has been replaced since, is.
        let is_repeat = is_same_key && row.used_by.contains(&key);
        if !is_repeat {
            if row.used_by.len() >= row.uses as usize {
                return Err(EnrolError::Used);
            }
            row.used_by.push(key);
        }
        if let Some(revoked) = revoked {
            claims::spend(&mut claims, &name, revoked);
        }
        known.retain(|device| !device.is(&name));
        known.push(Device::new(&name, &read, at));
        // In this order: a power cut in between may cost a use, and gives none away.
        self.state.write_rows(&locked, claims::TABLE, &claims)?;
        self.state.write_rows(&locked, devices::TABLE, &known)?;
        tracing::info!(device = %name, was_revoked = revoked.is_some(), "a device has enrolled");
        Ok(Issued { name, certificate })
    }

    /// `old` may have ended, within the grace.
    pub(crate) fn renew(&self, old: &[u8], request: &[u8]) -> Result<Issued, EnrolError> {
        let der = CertificateDer::from(old);
        let read = Certificate::from_der(old).map_err(|_| EnrolError::Foreign)?;
        // Its end is looked at below.
        if !self.roots.vouch_for_client(&der, read.not_before + Duration::from_secs(1)) {
            return Err(EnrolError::Foreign);
        }
        let name = read.device.ok_or(EnrolError::Foreign)?;
        let now = self.clock.now();
        let grace = Duration::from_secs(u64::from(self.grace_days) * 24 * 3600);
        if now > read.not_after + grace {
            return Err(EnrolError::TooLate { ended: timestamp(read.not_after), days: self.grace_days });
        }
        let (certificate, fresh) = self.sign(&name, request, now)?;
        if fresh.key != read.key {
            return Err(EnrolError::OtherKey);
        }
        let locked = self.state.lock()?;
        let mut known: Vec<Device> = self.state.rows(devices::TABLE)?;
        let at = timestamp(now);
        let mut device = Device { renewed: Some(at), ..Device::new(&name, &fresh, at) };
        if let Some(row) = known.iter().find(|device| device.is(&name)) {
            if row.revoked.is_some() {
                return Err(EnrolError::Revoked(name));
            }
            if row.key.is_some() && row.key != device.key {
                return Err(EnrolError::Replaced(name));
            }
            device.enrolled = row.enrolled.or(device.enrolled);
        }
        known.retain(|device| !device.is(&name));
        known.push(device);
        self.state.write_rows(&locked, devices::TABLE, &known)?;
        tracing::info!(device = %name, "a device's certificate was renewed");
        Ok(Issued { name, certificate })
    }

    fn sign(
        &self,
        name: &DeviceName,
        request: &[u8],
        now: SystemTime,
    ) -> Result<(CertificateDer<'static>, Certificate), EnrolError> {
        let der = self.authority.sign_device(name, request, now, self.life)?;
        let read = Certificate::from_der(&der);
        let read = read.map_err(|source| StateError::Certificate { path: "signed".into(), source })?;
        Ok((der, read))
    }
}

fn good_claim<'a>(
    rows: &'a mut [claims::Row],
    hash: &str,
    now: Timestamp,
) -> Result<&'a mut claims::Row, EnrolError> {
    let row = rows.iter_mut().find(|row| row.hash == hash).ok_or(EnrolError::Unknown)?;
    if row.expires <= now { Err(EnrolError::Expired(row.expires)) } else { Ok(row) }
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
