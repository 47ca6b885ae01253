//! The devices that have enrolled. Such a row takes nothing but rights away: a certificate of the authority's whose
//! device has no row (the table was lost) stays good.

use jiff::Timestamp;
use millgate_shared::bundle::hex;
use millgate_shared::identity::{Certificate, DeviceName};
use serde::{Deserialize, Serialize};

use super::{StateDir, StateError};

pub(crate) const TABLE: &str = "devices.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub tenant: String,
    pub device: String,
    /// SHA-256 of its public key, hexadecimal: a certificate for another key has been replaced.
    pub key: String,
    pub serial: String,
    pub enrolled: Timestamp,
    #[serde(default)]
    pub renewed: Option<Timestamp>,
    pub not_after: Timestamp,
    #[serde(default)]
    pub revoked: Option<Timestamp>,
}

impl Device {
    pub(super) fn new(name: &DeviceName, certificate: &Certificate, now: Timestamp) -> Self {
        Self {
            tenant: name.tenant().to_owned(),
            device: name.device().to_owned(),
            key: hex(&certificate.key),
            serial: certificate.serial.clone(),
            enrolled: now,
            renewed: None,
            not_after: Timestamp::try_from(certificate.not_after).unwrap_or(Timestamp::MAX),
            revoked: None,
        }
    }

    pub fn is(&self, name: &DeviceName) -> bool {
        self.tenant == name.tenant() && self.device == name.device()
    }
}

/// Revokes it, or restores it. `false`: there is none of that name.
pub fn set_revoked(
    state: &StateDir,
    name: &DeviceName,
    revoked: Option<Timestamp>,
) -> Result<bool, StateError> {
    let locked = state.lock()?;
    let mut rows: Vec<Device> = state.rows(TABLE)?;
    let Some(device) = rows.iter_mut().find(|device| device.is(name)) else { return Ok(false) };
    device.revoked = revoked;
    state.write_rows(&locked, TABLE, &rows)?;
    Ok(true)
}

/// In the order of their names.
pub fn list(state: &StateDir) -> Result<Vec<Device>, StateError> {
    let mut rows: Vec<Device> = state.rows(TABLE)?;
    rows.sort_by(|a, b| (&a.tenant, &a.device).cmp(&(&b.tenant, &b.device)));
    Ok(rows)
}
