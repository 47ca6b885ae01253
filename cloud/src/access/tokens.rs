//! API tokens for client developers. Only the hash of each is kept.

use jiff::Timestamp;
use millgate_shared::digest::hex;
use millgate_shared::identity::secret::Secret;
use serde::{Deserialize, Serialize};

use crate::identity::{StateDir, StateError};

pub(crate) const TABLE: &str = "tokens.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub name: String,
    pub tenant: String,
    /// SHA-256, hexadecimal.
    pub hash: String,
    /// Absent: all.
    #[serde(default)]
    pub tasks: Option<Vec<String>>,
    #[serde(default)]
    pub models: Option<Vec<String>>,
    #[serde(default)]
    pub admin: bool,
    /// The best rank that may be asked for, 1 to 255; absent: its tenant's.
    #[serde(default)]
    pub priority: Option<u8>,
    pub created: Timestamp,
    /// Absent: never.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    #[serde(default)]
    pub revoked: Option<Timestamp>,
}

/// Fills in the hash of a fresh secret, keeps the row, and gives the secret, which is not kept. `None`: another token has
/// this name and is not revoked.
pub fn create(state: &StateDir, mut token: Token) -> Result<Option<Secret>, StateError> {
    let secret = Secret::generate().map_err(StateError::Random)?;
    token.hash = hex(&secret.hash());
    let locked = state.lock()?;
    let mut rows = list(state)?;
    if rows.iter().any(|row| row.name == token.name && row.revoked.is_none()) {
        return Ok(None);
    }
    rows.push(token);
    state.write_rows(&locked, TABLE, &rows)?;
    Ok(Some(secret))
}

pub fn list(state: &StateDir) -> Result<Vec<Token>, StateError> {
    state.rows(TABLE)
}

/// `false`: there is none of that name that is not revoked already.
pub fn revoke(state: &StateDir, name: &str, now: Timestamp) -> Result<bool, StateError> {
    let locked = state.lock()?;
    let mut rows = list(state)?;
    let found = rows.iter_mut().find(|row| row.name == name && row.revoked.is_none());
    let Some(token) = found else { return Ok(false) };
    token.revoked = Some(now);
    state.write_rows(&locked, TABLE, &rows)?;
    Ok(true)
}
