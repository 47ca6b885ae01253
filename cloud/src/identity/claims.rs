//! Claim tokens: what lets a device enrol. Only the hash of each is kept.

use std::time::Duration;

use jiff::Timestamp;
use millgate_shared::digest::hex;
use millgate_shared::identity::secret::{Claim, Secret};
use millgate_shared::identity::{DeviceName, Fingerprint};
use serde::{Deserialize, Serialize};

use super::{StateDir, StateError};

pub(super) const TABLE: &str = "claims.json";
/// One that has ended is remembered for so long, so that whoever comes too late hears why.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// SHA-256, hexadecimal.
    pub(super) hash: String,
    pub(super) tenant: String,
    /// The only device that it is for, if any.
    pub(super) device: Option<String>,
    pub(super) created: Timestamp,
    pub(super) expires: Timestamp,
    pub(super) uses: u32,
    /// The key of each use: one that comes again for its device, because the answer was lost, is no further use.
    pub(super) used_by: Vec<String>,
}

/// Takes from a device's older tokens what they still allow: a key that was revoked then may know them.
pub(super) fn spend(rows: &mut [Row], name: &DeviceName, revoked: Timestamp) {
    let is_older = |row: &&mut Row| {
        row.tenant == name.tenant() && row.device.as_deref() == Some(name.device()) && row.created <= revoked
    };
    for row in rows.iter_mut().filter(is_older) {
        row.uses = row.used_by.len().try_into().unwrap_or(row.uses);
    }
}

/// What a claim token allows.
#[derive(Debug, Clone)]
pub struct Terms {
    pub tenant: String,
    pub device: Option<String>,
    pub expires: Timestamp,
    pub uses: u32,
}

/// Makes one; it is not kept and cannot be shown again.
pub fn make(
    state: &StateDir,
    authority: Fingerprint,
    terms: Terms,
    now: Timestamp,
) -> Result<Claim, StateError> {
    let secret = Secret::generate().map_err(StateError::Random)?;
    let Terms { tenant, device, expires, uses } = terms;
    let row =
        Row { hash: hex(&secret.hash()), tenant, device, created: now, expires, uses, used_by: Vec::new() };
    let locked = state.lock()?;
    let mut rows: Vec<Row> = state.rows(TABLE)?;
    rows.retain(|row| row.expires + REMEMBERED > now);
    rows.push(row);
    state.write_rows(&locked, TABLE, &rows)?;
    Ok(Claim { secret, authority })
}
