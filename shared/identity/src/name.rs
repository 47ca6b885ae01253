//! What a device is called: its tenant (who it belongs to) and its own name there.
//!
//! In a certificate it is a URI among the alternative names, `urn:millgate:device:<tenant>:<device>`.

use std::fmt;
use std::str::FromStr;

/// Tenant of devices that name none.
pub const DEFAULT_TENANT: &str = "default";

const URN: &str = "urn:millgate:device:";
const LONGEST: usize = 64;

/// Name of a device: its tenant and its own. Ordered by tenant, then by device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName {
    tenant: String,
    device: String,
}

/// Reason why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "{what} `{name}` must be 1 to 64 letters, digits, `.`, `_` or `-`, and begin with a letter or a digit"
    )]
    Characters { what: &'static str, name: String },
    #[error("`{0}` is not of the form tenant/device")]
    Form(String),
}

impl DeviceName {
    pub fn new(tenant: &str, device: &str) -> Result<Self, NameError> {
        check("tenant", tenant)?;
        check("device", device)?;
        Ok(Self { tenant: tenant.to_owned(), device: device.to_owned() })
    }

    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    pub fn device(&self) -> &str {
        &self.device
    }

    /// URN of the name, as it stands in a certificate.
    pub fn urn(&self) -> String {
        format!("{URN}{}:{}", self.tenant, self.device)
    }

    /// Reads a name from a URN; `None` if it is another kind of URI, or holds no name.
    pub fn from_urn(urn: &str) -> Option<Self> {
        let (tenant, device) = urn.strip_prefix(URN)?.split_once(':')?;
        Self::new(tenant, device).ok()
    }
}

/// Refuses what could not stand in file names, URIs, logs and labels alike.
pub fn check(what: &'static str, name: &str) -> Result<(), NameError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    match begins_well && name.len() <= LONGEST && name.bytes().all(plain) {
        true => Ok(()),
        false => Err(NameError::Characters { what, name: name.chars().take(2 * LONGEST).collect() }),
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.device)
    }
}

impl FromStr for DeviceName {
    type Err = NameError;

    /// Reads `tenant/device`, or `device` alone for one of the default tenant.
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((_, device)) if device.contains('/') => Err(NameError::Form(text.to_owned())),
            Some((tenant, device)) => Self::new(tenant, device),
            None => Self::new(DEFAULT_TENANT, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_certificate_and_nothing_else_is_one() {
        let name = DeviceName::new("acme", "cam-7.line_2").unwrap();
        assert_eq!(DeviceName::from_urn(&name.urn()).unwrap(), name);
        assert_eq!(name.to_string().parse::<DeviceName>().unwrap(), name);
        assert_eq!("cam".parse::<DeviceName>().unwrap().to_string(), "default/cam");
        for urn in
            ["urn:millgate:device:a", "urn:millgate:device:a:b:c", "urn:other:a:b", "urn:millgate:device::b"]
        {
            assert!(DeviceName::from_urn(urn).is_none(), "{urn}");
        }
        for (tenant, device) in [("", "a"), ("a", ""), ("a/b", "c"), ("a", "../x"), ("a", ".x"), ("ä", "b")]
        {
            assert!(DeviceName::new(tenant, device).is_err(), "{tenant} {device}");
        }
        assert!(DeviceName::new("a", &"x".repeat(65)).is_err());
        assert!("a/b/c".parse::<DeviceName>().is_err());
    }
}
