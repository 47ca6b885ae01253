//! `[access]` and `[[tenants]]`: who may ask for what.

use millgate_shared::identity::name;
use serde::Deserialize;

use crate::principal::{USUAL_PRIORITY, USUAL_SHARE};

/// A share may be so large, relative to one of 1.
const LARGEST_SHARE: u32 = 1000;

/// `[access]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// What those may do who come over plain text: programs on this machine, and with `plaintext_beyond_loopback`
    /// anyone, who may not change the pool however. Default `full`.
    pub loopback: Loopback,
    /// What becomes of a device that calls from two networks by turns, so that somebody else has its key. Default `warn`.
    pub clones: ClonePolicy,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClonePolicy {
    /// A clone is logged, counted, and shown in the list of devices.
    #[default]
    Warn,
    /// Calls are refused besides, but for those from the network where it has been for longest.
    Refuse,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loopback {
    /// Everything, unasked; from other machines everything but changing the pool.
    #[default]
    Full,
    /// What their API token says.
    Token,
}

/// `[[tenants]]`: bounds for all that belongs to one tenant. Without any such entry every tenant may ask for
/// everything; with one, a tenant that is not named may ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    pub name: String,
    /// Tasks that may be asked; absent: all. A name may end in `*`.
    pub tasks: Option<Vec<String>>,
    /// Experts and other models that may be run; absent: all. A name may end in `*`.
    pub models: Option<Vec<String>>,
    /// The tenant's share of the compute where several ask for more than there is, relative to those of others, 1 to 1000.
    /// Default 1.
    #[serde(default = "usual_share")]
    pub share: u32,
    /// The best rank that a request may ask for by its parameter `priority`, 1 to 255; better ones are served at this one.
    /// An API token made with `--priority` has its own. Default 128, the rank of requests that ask for none.
    #[serde(default = "usual_priority")]
    pub priority: u8,
    /// Narrower bounds for single devices.
    #[serde(default)]
    pub devices: Vec<DeviceBounds>,
}

impl TenantConfig {
    /// Without any bound, with the usual share and rank.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tasks: None,
            models: None,
            share: USUAL_SHARE,
            priority: USUAL_PRIORITY,
            devices: Vec::new(),
        }
    }
}

/// `[[tenants.devices]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceBounds {
    pub name: String,
    pub tasks: Option<Vec<String>>,
    pub models: Option<Vec<String>>,
    /// The best rank that its requests may ask for, 1 to 255, in place of its tenant's.
    pub priority: Option<u8>,
}

fn usual_share() -> u32 {
    USUAL_SHARE
}

fn usual_priority() -> u8 {
    USUAL_PRIORITY
}

/// What cannot be used: its key, and why.
pub(crate) fn check(tenants: &[TenantConfig]) -> Result<(), (&'static str, String)> {
    let refuse = |key, message: String| Err((key, message));
    for (at, tenant) in tenants.iter().enumerate() {
        if let Err(error) = name::check("tenant", &tenant.name) {
            return refuse("tenants.name", error.to_string());
        }
        if tenants[..at].iter().any(|other| other.name == tenant.name) {
            return refuse("tenants.name", format!("`{}` stands twice", tenant.name));
        }
        if !(1..=LARGEST_SHARE).contains(&tenant.share) {
            return refuse("tenants.share", format!("is {}, must be 1 to {LARGEST_SHARE}", tenant.share));
        }
        if tenant.priority == 0 {
            return refuse("tenants.priority", "is 0, must be 1 to 255".to_owned());
        }
        for (at, device) in tenant.devices.iter().enumerate() {
            if let Err(error) = name::check("device", &device.name) {
                return refuse("tenants.devices.name", error.to_string());
            }
            if device.priority == Some(0) {
                return refuse("tenants.devices.priority", "is 0, must be 1 to 255".to_owned());
            }
            if tenant.devices[..at].iter().any(|other| other.name == device.name) {
                return refuse("tenants.devices.name", format!("`{}` stands twice", device.name));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use millgate_shared::toml_file;

    use super::*;

    #[test]
    fn shares_and_ranks_have_bounds() {
        let device =
            |priority| DeviceBounds { name: "cam-1".to_owned(), tasks: None, models: None, priority };
        let acme = || TenantConfig::named("acme");
        for (tenant, key) in [
            (TenantConfig { share: 0, ..acme() }, "tenants.share"),
            (TenantConfig { share: 1001, ..acme() }, "tenants.share"),
            (TenantConfig { priority: 0, ..acme() }, "tenants.priority"),
            (TenantConfig { devices: vec![device(Some(0))], ..acme() }, "tenants.devices.priority"),
        ] {
            assert_eq!(check(&[tenant]).unwrap_err().0, key);
        }
        let good = TenantConfig { share: 1000, priority: 1, devices: vec![device(Some(255))], ..acme() };
        assert_eq!(check(&[good, TenantConfig::named("beta")]), Ok(()));
        let read: TenantConfig = toml_file::parse("cloud.toml", "name = \"acme\"").unwrap();
        assert_eq!(read, acme());
    }
}
