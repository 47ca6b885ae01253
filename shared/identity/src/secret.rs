//! Tokens: 256 random bits that are shown once and kept only as their SHA-256. That many random bits need no slow hash.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::Fingerprint;
use super::certificate::digest;

/// Beginning of every API token, so that one can be told from other text, also by scanners of repositories.
pub const API_PREFIX: &str = "mgt_";
/// Beginning of every claim token.
const CLAIM_PREFIX: &str = "mgc_";

#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    pub fn generate() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self(bytes))
    }

    /// SHA-256 of the secret: all that is kept of it.
    pub fn hash(&self) -> Fingerprint {
        digest(&self.0)
    }

    /// Writes the secret as an API token.
    pub fn api_token(&self) -> String {
        format!("{API_PREFIX}{}", BASE64.encode(self.0))
    }

    /// Reads an API token; `None` if the text is none.
    pub fn from_api_token(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text.strip_prefix(API_PREFIX)?).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Claim token: it lets a device enrol, and names the certificate by which the device knows the right pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub secret: Secret,
    /// SHA-256 of the certificate of the authority that has signed the pool's.
    pub authority: Fingerprint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no claim token: one begins with `{CLAIM_PREFIX}` and has 90 characters (was it cut off?)")]
pub struct ClaimError;

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.secret.0, self.authority].concat();
        write!(f, "{CLAIM_PREFIX}{}", BASE64.encode(bytes))
    }
}

impl FromStr for Claim {
    type Err = ClaimError;

    fn from_str(text: &str) -> Result<Self, ClaimError> {
        let encoded = text.trim().strip_prefix(CLAIM_PREFIX).ok_or(ClaimError)?;
        let bytes = BASE64.decode(encoded).map_err(|_| ClaimError)?;
        let bytes: [u8; 64] = bytes.try_into().map_err(|_| ClaimError)?;
        let mut claim = Self { secret: Secret([0; 32]), authority: [0; 32] };
        claim.secret.0.copy_from_slice(&bytes[..32]);
        claim.authority.copy_from_slice(&bytes[32..]);
        Ok(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_being_written_and_do_not_show_in_logs() {
        let secret = Secret::generate().unwrap();
        assert_ne!(secret, Secret::generate().unwrap());
        assert_eq!(Secret::from_api_token(&secret.api_token()).unwrap(), secret);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        let claim = Claim { secret, authority: [7; 32] };
        let text = claim.to_string();
        assert_eq!(text.len(), 90);
        assert_eq!(text.parse::<Claim>().unwrap(), claim);
        assert!(text[..80].parse::<Claim>().is_err());
        assert!("mgt_x".parse::<Claim>().is_err() && Secret::from_api_token(&text).is_none());
    }
}
