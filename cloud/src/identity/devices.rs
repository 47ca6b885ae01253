//! The devices that have enrolled, and the names that are revoked. A row takes nothing but rights away: a certificate
//! whose device has none (its authority is `tls.client_ca`, or the table was lost) stays good.

use jiff::Timestamp;
use millgate_shared::digest::hex;
use millgate_shared::identity::{Certificate, DeviceName};
use serde::{Deserialize, Serialize};

use super::{StateDir, StateError};

pub(crate) const TABLE: &str = "devices.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub tenant: String,
    pub device: String,
    /// SHA-256 of its public key, hexadecimal: a certificate for another key has been replaced. Absent: it has not
    /// enrolled here, and its name is revoked.
    pub key: Option<String>,
    pub serial: String,
    pub enrolled: Option<Timestamp>,
    #[serde(default)]
    pub renewed: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    #[serde(default)]
    pub revoked: Option<Timestamp>,
}

impl Device {
    pub(super) fn new(name: &DeviceName, certificate: &Certificate, now: Timestamp) -> Self {
        Self {
            tenant: name.tenant().to_owned(),
            device: name.device().to_owned(),
            key: Some(hex(&certificate.key)),
            serial: certificate.serial.clone(),
            enrolled: Some(now),
            renewed: None,
            not_after: Some(Timestamp::try_from(certificate.not_after).unwrap_or(Timestamp::MAX)),
            revoked: None,
        }
    }

    /// Revoked without having enrolled.
    fn unknown(name: &DeviceName) -> Self {
        Self {
            tenant: name.tenant().to_owned(),
            device: name.device().to_owned(),
            key: None,
            serial: String::new(),
            enrolled: None,
            renewed: None,
            not_after: None,
            revoked: None,
        }
    }

    pub fn is(&self, name: &DeviceName) -> bool {
        self.tenant == name.tenant() && self.device == name.device()
    }
}

/// Revokes it, or restores it. `false`: none of that name had a row. One that is revoked gets one without a key, since its
/// certificate may be another authority's.
pub fn set_revoked(
    state: &StateDir,
    name: &DeviceName,
    revoked: Option<Timestamp>,
) -> Result<bool, StateError> {
    let locked = state.lock()?;
    let mut rows: Vec<Device> = state.rows(TABLE)?;
    let found = rows.iter_mut().find(|device| device.is(name));
    let has_row = found.is_some();
    match found {
        Some(device) => device.revoked = revoked,
        None if revoked.is_some() => rows.push(Device { revoked, ..Device::unknown(name) }),
        None => return Ok(false),
    }
    // Without a key and not revoked it says nothing.
    rows.retain(|device| device.key.is_some() || device.revoked.is_some());
    state.write_rows(&locked, TABLE, &rows)?;
    Ok(has_row)
}

/// In the order of their names.
pub fn list(state: &StateDir) -> Result<Vec<Device>, StateError> {
    let mut rows: Vec<Device> = state.rows(TABLE)?;
    rows.sort_by(|a, b| (&a.tenant, &a.device).cmp(&(&b.tenant, &b.device)));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_never_enrolled_is_revoked_and_restored() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let name = DeviceName::new("acme", "cam-9").unwrap();
        let now = Timestamp::now();
        assert!(!set_revoked(&state, &name, None).unwrap());
        assert!(list(&state).unwrap().is_empty());
        assert!(!set_revoked(&state, &name, Some(now)).unwrap());
        let row = list(&state).unwrap().remove(0);
        assert!(row.is(&name) && row.key.is_none() && row.revoked == Some(now));
        assert!(set_revoked(&state, &name, Some(now)).unwrap());
        assert!(set_revoked(&state, &name, None).unwrap());
        assert!(list(&state).unwrap().is_empty());
    }
}
