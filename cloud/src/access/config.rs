//! `[access]` and `[[tenants]]`: who may ask for what.

use millgate_shared::identity::name;
use serde::Deserialize;

/// `[access]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessConfig {
    /// What those may do who come over plain text: programs on this machine, and with `plaintext_beyond_loopback`
    /// anyone, who may not change the pool however. Default `full`.
    pub loopback: Loopback,
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
    /// Narrower bounds for single devices.
    #[serde(default)]
    pub devices: Vec<DeviceBounds>,
}

/// `[[tenants.devices]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceBounds {
    pub name: String,
    pub tasks: Option<Vec<String>>,
    pub models: Option<Vec<String>>,
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
        for (at, device) in tenant.devices.iter().enumerate() {
            if let Err(error) = name::check("device", &device.name) {
                return refuse("tenants.devices.name", error.to_string());
            }
            if tenant.devices[..at].iter().any(|other| other.name == device.name) {
                return refuse("tenants.devices.name", format!("`{}` stands twice", device.name));
            }
        }
    }
    Ok(())
}
